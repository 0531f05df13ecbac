"""Examples: clips to the features and labels that nets are trained and judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models import frontend
from models.data import window, windows
from models.data.augment import Augmentation, augment
from models.data.clips import Clip
from models.frontend import FrontEnd

Floats: TypeAlias = NDArray[np.float32]
Labels: TypeAlias = NDArray[np.int64]
Progress: TypeAlias = Callable[[str, int, int], None]


def nothing(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def plain(clips: Sequence[Clip], front: FrontEnd, progress: Progress = nothing) -> tuple[Floats, Labels]:
    """Return one window a clip: features float32 (N, frames, features) and labels int64 (N,)."""
    found = []
    for done, clip in enumerate(clips, 1):
        found.append(_features(window(clip.samples(front.sample_rate), front.samples), front))
        progress("features", done, len(clips))
    return np.stack(found), np.array([clip.label for clip in clips], np.int64)


def overlapping(
    clips: Sequence[Clip], front: FrontEnd, most: int = 10, progress: Progress = nothing
) -> tuple[Floats, Labels, NDArray[np.int64]]:
    """Return the windows of all clips, the labels of the clips (N,), and the clip of each window (W,).

    The logits of a clip are the mean over its windows: `clip_logits`.
    """
    found: list[Floats] = []
    owner: list[int] = []
    for index, clip in enumerate(clips):
        for part in windows(clip.samples(front.sample_rate), front.samples, most):
            found.append(_features(part, front))
            owner.append(index)
        progress("features", index + 1, len(clips))
    return np.stack(found), np.array([clip.label for clip in clips], np.int64), np.array(owner, np.int64)


def clip_logits(logits: Floats, owner: NDArray[np.int64]) -> Floats:
    """Return the mean of the windows' logits (W, classes) for each clip (N, classes)."""
    total = np.zeros((owner.max() + 1, logits.shape[1]), np.float64)
    np.add.at(total, owner, logits)
    return (total / np.bincount(owner)[:, None]).astype(np.float32)


def changed(
    clips: Sequence[Clip],
    front: FrontEnd,
    versions: int,
    sound: Augmentation,
    seed: int,
    noise: Sequence[Clip] = (),
    progress: Progress = nothing,
) -> tuple[Floats, Labels]:
    """Return `versions` of all clips one after the other, each differently placed and augmented.

    The first version is the clips as they are; the same seed gives the same features.
    """
    noises = [clip.samples(front.sample_rate) for clip in noise]
    found: list[list[Floats]] = [[] for _ in range(versions)]
    for index, clip in enumerate(clips):
        samples = clip.samples(front.sample_rate)
        found[0].append(_features(window(samples, front.samples), front))
        for version in range(1, versions):
            rng = np.random.default_rng((seed, index, version))
            part = window(samples, front.samples, rng)
            part = augment(part, front.sample_rate, rng, sound, noises)
            found[version].append(_features(part, front))
        progress("features", index + 1, len(clips))
    labels = np.array([clip.label for clip in clips], np.int64)
    return np.stack([features for version in found for features in version]), np.tile(labels, versions)


def _features(samples: NDArray[np.int16], front: FrontEnd) -> Floats:
    return frontend.to_float(frontend.features(samples, front))
