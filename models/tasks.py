"""Tasks: what a net learns from the truth of its clips and how it is judged; the truth itself says which.

Classes: y int (N,), the index of each clip's class; outputs are logits (N, classes); cross-entropy, accuracy.
Values: y float (N, targets); outputs are the values themselves; 1 - concordance (Lin 1989) as loss, the mean
concordance over the targets as measure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.blocks import ccc

Floats: TypeAlias = NDArray[np.float32]
Truth: TypeAlias = NDArray[Any]  # int (N,) or float (N, targets)
Loss: TypeAlias = Callable[[Any, Any], Any]  # Keras: wanted, given -> a scalar or a value an example


class Task(Protocol):
    """One kind of truth."""

    name: Literal["classification", "regression"]
    metric: Literal["accuracy", "ccc"]

    def targets(self, y: Truth, outputs: int, smoothing: float = 0.0) -> Floats:
        """Return what a net of so many outputs is fitted to, float32 (N, outputs)."""

    def loss(self) -> Any:
        """Return the Keras loss on `targets`."""

    def truth_loss(self) -> Any:
        """Return the Keras loss on the truth as it is."""

    def teach(self, wanted: Any, soft: Any, given: Any, share: float, temperature: float) -> Any:
        """Return the loss of `given`: `share` on the targets `wanted`, the rest on a teacher's `soft`."""

    def own_targets(self, y: Truth, outputs: Floats) -> Floats:
        """Return targets (N, outputs) half of the truth, half of what a net itself says."""

    def error(self, outputs: Floats, y: Truth) -> float:
        """Return the loss of outputs against the truth, without smoothing."""

    def score(self, outputs: Floats, y: Truth) -> float:
        """Return the measure of outputs against the truth; 1 is perfect."""

    def strata(self, y: Truth) -> NDArray[np.int64]:
        """Return an index (N,) of kinds of clips that a choice among them should cover evenly."""

    def amount(self, difference: float) -> str:
        """Return a difference of scores in words."""


class Classes:
    """One class a clip."""

    name: Literal["classification", "regression"] = "classification"
    metric: Literal["accuracy", "ccc"] = "accuracy"

    def targets(self, y: Truth, outputs: int, smoothing: float = 0.0) -> Floats:
        """Return one-hot rows, smoothed."""
        return one_hot(y, outputs, smoothing)

    def loss(self) -> Any:
        """Return the cross-entropy of logits with shares."""
        import keras

        return keras.losses.CategoricalCrossentropy(from_logits=True)

    def truth_loss(self) -> Any:
        """Return the cross-entropy of logits with class indices."""
        import keras

        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def teach(self, wanted: Any, soft: Any, given: Any, share: float, temperature: float) -> Any:
        """Return cross-entropy with the labels and T²·KL(teacher ‖ student) at temperature T."""
        from keras import ops

        hard = -ops.sum(wanted * ops.log_softmax(given), axis=-1)
        cooled = soft / temperature
        kept = ops.log_softmax(cooled) - ops.log_softmax(given / temperature)
        apart = ops.sum(ops.softmax(cooled) * kept, axis=-1)
        return share * hard + (1 - share) * temperature**2 * apart

    def own_targets(self, y: Truth, outputs: Floats) -> Floats:
        """Return the mean of labels and own probabilities."""
        shifted = outputs.astype(np.float64) - outputs.max(axis=-1, keepdims=True)
        powers = np.exp(shifted)
        own = powers / powers.sum(axis=-1, keepdims=True)
        return 0.5 * one_hot(y, outputs.shape[-1]) + 0.5 * own.astype(np.float32)

    def error(self, outputs: Floats, y: Truth) -> float:
        """Return the mean cross-entropy in nats."""
        return cross_entropy(outputs, y)

    def score(self, outputs: Floats, y: Truth) -> float:
        """Return the accuracy."""
        return accuracy(outputs, y)

    def strata(self, y: Truth) -> NDArray[np.int64]:
        """Return the classes."""
        return np.asarray(y, np.int64)

    def amount(self, difference: float) -> str:
        """Return percentage points."""
        return f"{100 * difference:.1f} points"


class Values:
    """Several numbers a clip."""

    name: Literal["classification", "regression"] = "regression"
    metric: Literal["accuracy", "ccc"] = "ccc"

    def targets(self, y: Truth, outputs: int, smoothing: float = 0.0) -> Floats:
        """Return the values; there is nothing to smooth."""
        return np.asarray(y, np.float32)

    def loss(self) -> Any:
        """Return 1 - concordance within the batch."""
        return ccc.loss

    def truth_loss(self) -> Any:
        """Return 1 - concordance within the batch."""
        return ccc.loss

    def teach(self, wanted: Any, soft: Any, given: Any, share: float, temperature: float) -> Any:
        """Return 1 - concordance with the truth and with the teacher, in their shares."""
        return share * ccc.loss(wanted, given) + (1 - share) * ccc.loss(soft, given)

    def own_targets(self, y: Truth, outputs: Floats) -> Floats:
        """Return the mean of the truth and the own values."""
        return (0.5 * np.asarray(y, np.float32) + 0.5 * outputs).astype(np.float32)

    def error(self, outputs: Floats, y: Truth) -> float:
        """Return 1 - the mean concordance."""
        return 1 - self.score(outputs, y)

    def score(self, outputs: Floats, y: Truth) -> float:
        """Return the mean concordance over the targets."""
        return float(ccc.concordance(y, outputs).mean())

    def strata(self, y: Truth) -> NDArray[np.int64]:
        """Return the quarter of the first target's range of ranks that each clip lies in."""
        ranks = np.argsort(np.argsort(y[:, 0], kind="stable"), kind="stable")
        return np.asarray(4 * ranks // max(1, len(y)), np.int64)

    def amount(self, difference: float) -> str:
        """Return the concordance."""
        return f"{difference:.3f} of concordance"


CLASSES, VALUES = Classes(), Values()


def of(y: Truth) -> Task:
    """Return the task whose truth has this shape."""
    return CLASSES if y.ndim == 1 else VALUES


def accuracy(logits: Floats, y: Truth) -> float:
    """Return the share of clips whose largest logit is their label."""
    return float(np.mean(np.argmax(logits, axis=-1) == y))


def cross_entropy(logits: Floats, y: Truth) -> float:
    """Return the mean cross-entropy of logits (N, classes) against labels (N,), in nats."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    picked = np.take_along_axis(shifted, np.asarray(y)[:, None], axis=-1)[:, 0]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=-1)) - picked))


def one_hot(y: Truth, classes: int, smoothing: float = 0.0) -> Floats:
    """Return (N, classes) targets with `smoothing` of the mass spread over all classes."""
    hot = np.eye(classes, dtype=np.float32)[np.asarray(y)]
    return (hot * (1 - smoothing) + smoothing / classes).astype(np.float32)
