"""The held-out clips as a model meets them: windows, their features, and what outputs are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit.progress import Progress, silent
from models import data, frontend, tasks
from models.data import Dataset
from models.frontend import FrontEnd
from quantize.bundle import Tensor
from quantize.evaluate import Windows

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class HeldOut:
    """Test clips cut into windows of one model input each; a clip's answer is the mean over its windows."""

    labels: tuple[str, ...]  # classes, or targets
    names: tuple[str, ...]  # of the clips
    samples: npt.NDArray[np.int16]  # (windows, samples)
    windows: Windows  # fixed-point features by the host, owners, truth

    @property
    def window_names(self) -> list[str]:
        """Return what each window is called: its clip, and its place if the clip has several."""
        counts = np.bincount(self.windows.owner, minlength=len(self.names))
        seen = [0] * len(self.names)
        titles = []
        for clip in self.windows.owner:
            seen[clip] += 1
            titles.append(self.names[clip] + (f" window {seen[clip]}" if counts[clip] > 1 else ""))
        return titles

    @property
    def regression(self) -> bool:
        """Tell whether the truth is values instead of classes."""
        return tasks.of(self.windows.truth) is tasks.VALUES

    def score(self, outputs: Array, tensor: Tensor | None = None) -> float:
        """Return the accuracy, or the mean concordance, of `outputs` (windows, outputs).

        `tensor` says what int8 outputs stand for, which matters to values only.
        """
        real = outputs if tensor is None or not self.regression else tensor.real(outputs)
        return self.windows.score(real)


def cut(
    dataset: Dataset,
    labels: Sequence[str],
    fe: FrontEnd,
    *,
    most: int | None = None,
    progress: Progress = silent,
) -> HeldOut:
    """Return the clips of `dataset`, windowed and heard by the host's front end `fe`.

    Args:
        dataset: the test side of a split.
        labels: the classes that the model knows, in its order.
        fe: gives rate and length of a window.
        most: clips at most, evenly spread; None for all.
        progress: told about every clip.

    Raises:
        UserError: a class that the model does not know, or no clip at all.
    """
    unknown = [label for label in dataset.labels if label not in labels]
    if unknown or (dataset.regression and len(dataset.labels) < len(labels)):
        what = f"{'target' if dataset.regression else 'class'} {[*unknown, *labels][0]!r}"
        other = "is unknown to the model, which" if unknown else "is not in the data, the model"
        raise UserError(f"{dataset.name}: {what} {other} has {', '.join(labels)}")
    if not dataset.clips:
        raise UserError(f"{dataset.name}: no clip was held out for testing; give another --held-out")
    clips = dataset.clips
    if most is not None and most < len(clips):
        clips = tuple(clips[i] for i in np.linspace(0, len(clips) - 1, most).round().astype(int))
    cuts: list[Array] = []
    features: list[Array] = []
    for done, clip in enumerate(clips):
        progress("hear clips on the host", done, len(clips))
        cuts.append(data.windows(clip.samples(fe.sample_rate), fe.samples))
        features.extend(frontend.features(window, fe) for window in cuts[-1])
    progress("hear clips on the host", len(clips), len(clips))
    truth = _truth(replace(dataset, clips=clips), labels)
    owner = np.repeat(np.arange(len(clips)), [len(part) for part in cuts])
    return HeldOut(
        labels=tuple(labels),
        names=tuple(clip.name for clip in clips),
        samples=np.concatenate(cuts),
        windows=Windows(np.stack(features), owner, truth),
    )


def _truth(dataset: Dataset, labels: Sequence[str]) -> tasks.Truth:
    """Return the truth of the clips in the model's order of classes or targets."""
    if dataset.regression:
        return dataset.truth[:, [dataset.labels.index(label) for label in labels]]
    own = np.array([list(labels).index(label) for label in dataset.labels], np.int64)
    return own[dataset.classes]
