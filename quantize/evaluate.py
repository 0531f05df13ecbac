"""Accuracy by stage, per class and as a confusion matrix: what `eval.json` holds.

A clip longer than the model's input is heard in overlapping windows (`models.data.windows`); its answer is
the class with the largest mean output over them. Figures count clips, not windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Array = npt.NDArray[Any]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Windows:
    """Features of the clips of one side of a split."""

    values: npt.NDArray[np.int32]  # (windows, frames, features), in units of 1 / FEATURE_ONE
    owner: npt.NDArray[np.int64]  # (windows,) index of the clip
    truth: npt.NDArray[np.int64]  # (clips,) index of the label

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Return the label of each window."""
        return self.truth[self.owner]

    def choices(self, outputs: Array) -> npt.NDArray[np.int64]:
        """Return the class of each clip from outputs (windows, classes)."""
        sums = np.zeros((len(self.truth), outputs.shape[1]))
        np.add.at(sums, self.owner, outputs.astype(np.float64))
        counts = np.bincount(self.owner, minlength=len(self.truth))
        return np.asarray((sums / counts[:, None]).argmax(axis=1), np.int64)


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


class DataRecord(_Record):
    """How the test clips can be found again."""

    source: str  # as given with --data
    name: str
    sha256: str
    clips_per_class: int | None  # of the synthetic set
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


@dataclass(frozen=True)
class Facts:
    """What is known of a net beside its answers."""

    parameters: int | None
    macs: int | None
    runtime: str


def stage(name: Any, what: str, facts: Facts, clips: Windows, outputs: Array, labels: Sequence[str]) -> Stage:
    """Return the record of a net that gave `outputs` (windows, classes) on `clips`."""
    right = clips.choices(outputs) == clips.truth
    per_class = {
        label: float(right[clips.truth == index].mean()) if (clips.truth == index).any() else None
        for index, label in enumerate(labels)
    }
    return Stage(
        name=name,
        what=what,
        accuracy=float(right.mean()),
        per_class=per_class,
        samples=len(clips.truth),
        parameters=facts.parameters,
        macs=facts.macs,
        runtime=facts.runtime,
    )


def confusion(clips: Windows, outputs: Array, classes: int) -> tuple[tuple[int, ...], ...]:
    """Return how often the class of a row was taken for the class of a column."""
    counts = np.bincount(clips.truth * classes + clips.choices(outputs), minlength=classes * classes)
    return tuple(tuple(int(n) for n in row) for row in counts.reshape(classes, classes))
