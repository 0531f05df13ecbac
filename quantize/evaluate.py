"""Accuracy by stage, per class and as a confusion matrix: what `eval.json` holds.

A clip longer than the model's input is heard in overlapping windows (`models.data.windows`); its answer is
the class with the largest mean output over them, or the mean values. Figures count clips, not windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from models import tasks
from models.blocks import ccc

Array = npt.NDArray[Any]
Share = Annotated[float, Field(ge=0, le=1)]
Agreement = Annotated[float, Field(ge=-1, le=1)]


@dataclass(frozen=True)
class Windows:
    """Features of the clips of one side of a split."""

    values: npt.NDArray[np.int32]  # (windows, frames, features), in units of 1 / FEATURE_ONE
    owner: npt.NDArray[np.int64]  # (windows,) index of the clip
    truth: tasks.Truth  # (clips, …): see models.tasks

    def means(self, outputs: Array) -> npt.NDArray[np.float64]:
        """Return the mean output of each clip (clips, outputs) from outputs (windows, outputs)."""
        sums = np.zeros((len(self.truth), outputs.shape[1]))
        np.add.at(sums, self.owner, outputs.astype(np.float64))
        counts = np.bincount(self.owner, minlength=len(self.truth))
        return sums / counts[:, None]

    def choices(self, outputs: Array) -> npt.NDArray[np.int64]:
        """Return the class of each clip from outputs (windows, classes)."""
        return np.asarray(self.means(outputs).argmax(axis=1), np.int64)

    def score(self, outputs: Array) -> float:
        """Return the measure of outputs (windows, outputs) on the clips: accuracy or mean concordance."""
        return tasks.of(self.truth).score(self.means(outputs).astype(np.float32), self.truth)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Stage(_Record):
    """A net on the test clips. `origin`: every figure here was measured on this host."""

    name: Literal["full", "scratch", "distilled", "pruned", "float", "ptq", "int8"]
    what: str  # which net, such as "panns lite, trained here"
    accuracy: Share
    per_class: dict[str, Share | None]  # None: the class has no test clip
    samples: int
    parameters: int | None
    macs: int | None
    runtime: str
    speed: dict[str, JsonValue] | None = None  # of a teacher, as `earkit reference` recorded it


class ValueStage(_Record):
    """A net on the test clips of a regression: concordance, its mean and that of each target."""

    name: Literal["full", "scratch", "distilled", "pruned", "float", "ptq", "int8"]
    what: str
    ccc: Agreement
    per_target: dict[str, Agreement]
    samples: int
    parameters: int | None
    macs: int | None
    runtime: str
    speed: dict[str, JsonValue] | None = None


class DataRecord(_Record):
    """How the test clips can be found again."""

    source: str  # as given with --data
    name: str
    sha256: str
    clips_per_class: int | None  # of a set that the kit makes; of a speaker where it has targets
    held_out: str | None
    split_seed: int
    train: int  # clips
    validation: int
    test: int
    warnings: tuple[str, ...]


class Evaluation(_Record):
    """The whole of `eval.json`; `confusion[i][j]` counts clips of label i that int8 took for label j."""

    schema_version: Literal[1] = 1
    metric: Literal["accuracy"] = "accuracy"
    data: DataRecord
    labels: tuple[str, ...]
    stages: tuple[Stage, ...]
    confusion: tuple[tuple[int, ...], ...]
    qat: str  # why it was or was not used, in one line
    notes: tuple[str, ...] = ()


class ValueEvaluation(_Record):
    """The whole of `eval.json` of a regression; `labels` are the targets."""

    schema_version: Literal[1] = 1
    metric: Literal["ccc"] = "ccc"
    data: DataRecord
    labels: tuple[str, ...]
    stages: tuple[ValueStage, ...]
    qat: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is known of a net beside its answers."""

    parameters: int | None
    macs: int | None
    runtime: str
    speed: dict[str, Any] | None = None  # see quantize.speed.record


def stage(
    name: Any, what: str, facts: Facts, clips: Windows, outputs: Array, labels: Sequence[str]
) -> Stage | ValueStage:
    """Return the record of a net that gave `outputs` (windows, outputs) on `clips`.

    For a regression they are the values themselves, not int8 numbers.
    """
    known: dict[str, Any] = {
        "name": name,
        "what": what,
        "samples": len(clips.truth),
        "parameters": facts.parameters,
        "macs": facts.macs,
        "runtime": facts.runtime,
        "speed": facts.speed,
    }
    if tasks.of(clips.truth) is tasks.VALUES:
        found = ccc.concordance(clips.truth, clips.means(outputs))
        each = dict(zip(labels, found.tolist(), strict=True))
        return ValueStage(ccc=float(found.mean()), per_target=each, **known)
    right = clips.choices(outputs) == clips.truth
    per_class = {
        label: float(right[clips.truth == index].mean()) if (clips.truth == index).any() else None
        for index, label in enumerate(labels)
    }
    return Stage(accuracy=float(right.mean()), per_class=per_class, **known)


def confusion(clips: Windows, outputs: Array, classes: int) -> tuple[tuple[int, ...], ...]:
    """Return how often the class of a row was taken for the class of a column."""
    counts = np.bincount(clips.truth * classes + clips.choices(outputs), minlength=classes * classes)
    return tuple(tuple(int(n) for n in row) for row in counts.reshape(classes, classes))
