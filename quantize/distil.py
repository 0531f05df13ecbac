"""Distillation: a student learns the labels, the teacher's softened logits and, if wanted, its features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from boards.errors import UserError
from models import tasks
from models.tasks import Floats, Task, Truth
from models.train import History, Progress, Recipe, adapt, epochs_of, fit, nothing, predict, score

Teacher: TypeAlias = (
    Any  # keras.Model, Callable[[Floats], Floats] from features to logits, or logits (N, classes)
)
EMBEDDING = "embedding"  # the layer before the classifier, in every family


@dataclass(frozen=True)
class Mix:
    """What the student learns from (Hinton et al. 2015, arXiv 1503.02531; features: FitNets, 1412.6550)."""

    temperature: float = 3.0
    labels: float = 0.3  # weight of the loss with the truth; the rest is the teacher's
    features: float = 0.0  # weight of the squared distance of embeddings; the teacher must be a keras.Model


MIX = Mix()


def distil(
    student: Any,
    teacher: Teacher,
    x: Floats,
    y: Truth,
    validation: tuple[Floats, Truth] | None = None,
    *,
    recipe: Recipe,
    seed: int,
    versions: int = 1,
    mix: Mix = MIX,
    adapted: bool = False,
    checkpoint: Path | None = None,
    progress: Progress = nothing,
) -> History:
    """Train `student` on features `x` float32 (N·versions, frames, bands), their truth, and the teacher.

    The teacher hears every version of every clip once, before training. Versions as in
    `models.train.fit_on_arrays`. The recipe's colour is for the student alone, mixup mixes the teacher's
    logits too, SpecAugment is left out. `adapted` keeps the input normalisation that the student has.

    Raises:
        UserError: the teacher has other classes, or another number of logits than there are examples, or
            features are asked of one that has none.
        TrainingError, CheckpointError: as `models.train.fit`.
    """
    classes, task = student.output_shape[-1], tasks.of(y)
    logits = heard(teacher, x, classes, progress)
    targets = [task.targets(y, classes, recipe.label_smoothing), logits]
    learner = student
    if mix.features:
        embedding = embeddings(teacher, x)
        learner, targets = _with_projection(student, embedding.shape[-1]), [*targets, embedding]
    if not adapted:
        adapt(student, x)
    plain = replace(recipe, masks=0)
    return fit(
        learner,
        epochs_of(x, np.concatenate(targets, axis=-1), plain, versions),
        score(student, validation),
        loss(classes, mix, task),
        recipe=plain,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )


def heard(teacher: Teacher, x: Floats, classes: int, progress: Progress = nothing) -> Floats:
    """Return the teacher's logits (N, classes) of features `x`; raises UserError where they do not fit."""
    progress("teacher", 0, 1)
    if isinstance(teacher, np.ndarray):
        logits = teacher
    else:
        logits = predict(teacher, x) if hasattr(teacher, "layers") else teacher(x)
    progress("teacher", 1, 1)
    if logits.shape != (len(x), classes):
        raise UserError(f"the teacher gives logits {logits.shape}; the student needs {(len(x), classes)}")
    if not np.isfinite(logits).all():
        raise UserError("the teacher gives logits that are not finite: it is broken or its input differs")
    return logits.astype(np.float32)


def embeddings(teacher: Teacher, x: Floats) -> Floats:
    """Return the teacher's embeddings (N, width), of zero mean and unit variance over all values."""
    import keras

    if EMBEDDING not in [layer.name for layer in getattr(teacher, "layers", ())]:
        raise UserError(
            f"features cannot be matched: the teacher has no layer {EMBEDDING!r}; use Mix(features=0)"
        )
    found = predict(keras.Model(teacher.input, teacher.get_layer(EMBEDDING).output), x)
    return ((found - found.mean()) / (found.std() + 1e-6)).astype(np.float32)


def loss(outputs: int, mix: Mix, task: Task = tasks.CLASSES) -> Callable[[Any, Any], Any]:
    """Return the loss on targets (truth | teacher's outputs | its embedding), joined on the last axis."""
    from keras import ops

    def value(wanted: Any, given: Any) -> Any:
        truth, soft = wanted[:, :outputs], wanted[:, outputs : 2 * outputs]
        total = task.teach(truth, soft, given[:, :outputs], mix.labels, mix.temperature)
        if mix.features:
            distance = ops.square(given[:, outputs:] - wanted[:, 2 * outputs :])
            total = total + mix.features * ops.mean(distance, axis=-1)
        return total

    return value


def _with_projection(student: Any, width: int) -> Any:
    """Return a model of logits and embedding, the latter projected to the teacher's width (then dropped)."""
    import keras

    projected = keras.layers.Dense(width, name="projection")(student.get_layer(EMBEDDING).output)
    return keras.Model(student.input, keras.layers.Concatenate(name="joined")([student.output, projected]))
