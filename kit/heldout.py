"""The held-out clips as a model meets them: windows, their features, and what outputs are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit.progress import Progress, silent
from models import data, frontend
from models.data import Dataset
from models.frontend import FrontEnd
from quantize.evaluate import Windows

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class HeldOut:
    """Test clips cut into windows of one model input each; a clip's answer is the mean over its windows."""

    labels: tuple[str, ...]
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

    def accuracy(self, outputs: Array) -> float:
        """Return the share of clips that `outputs` (windows, classes) name rightly."""
        return float((self.windows.choices(outputs) == self.windows.truth).mean())


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
    if unknown:
        raise UserError(
            f"{dataset.name}: class {unknown[0]!r} is unknown to the model, which has {', '.join(labels)}"
        )
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
    truth = np.array([list(labels).index(dataset.labels[clip.label]) for clip in clips], np.int64)
    owner = np.repeat(np.arange(len(clips)), [len(part) for part in cuts])
    return HeldOut(
        labels=tuple(labels),
        names=tuple(clip.name for clip in clips),
        samples=np.concatenate(cuts),
        windows=Windows(np.stack(features), owner, truth),
    )
