"""Examples: clips to the features that nets are trained and judged on, the same sound for every front end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from models import fronts
from models.data import audio, window
from models.data.augment import Augmentation, augment
from models.data.clips import Clip, Samples
from models.fronts import Front

Floats: TypeAlias = NDArray[np.float32]
Progress: TypeAlias = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Hearing:
    """The sound of one input: nets of one hearing are given the same sound, whatever their front ends are."""

    rate: int  # Hz
    samples: int


def nothing(stage: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def heard(sound: Samples, hearing: Hearing, front: Front) -> Floats:
    """Return features float32 (frames, features) of the sound (hearing.samples,) by either kind of front end.

    What lies behind the last whole frame is left out; what is missing is filled with the sound's own noise.
    """
    fitting = audio.resampled(sound, hearing.rate, front.sample_rate)
    return fronts.features(
        window(fitting, front.samples) if fitting.size < front.samples else fitting[: front.samples], front
    )


def plain(clips: Sequence[Clip], front: Front, hearing: Hearing, progress: Progress = nothing) -> Floats:
    """Return one window a clip: features float32 (N, frames, features)."""
    found = []
    for done, clip in enumerate(clips, 1):
        found.append(heard(window(clip.samples(hearing.rate), hearing.samples), hearing, front))
        progress("features", done, len(clips))
    return np.stack(found)


def changed(
    clips: Sequence[Clip],
    front: Front,
    hearing: Hearing,
    versions: int,
    sound: Augmentation,
    seed: int,
    noise: Sequence[Clip] = (),
    progress: Progress = nothing,
) -> Floats:
    """Return `versions` of all N clips one after the other, each differently placed and augmented.

    Features are float32 (N·versions, frames, features). The first version is the clips as they are; the same
    hearing and seed give the same sound to every front end.
    """
    noises = [clip.samples(hearing.rate) for clip in noise]
    found: list[list[Floats]] = [[] for _ in range(versions)]
    for index, clip in enumerate(clips):
        samples = clip.samples(hearing.rate)
        found[0].append(heard(window(samples, hearing.samples), hearing, front))
        for version in range(1, versions):
            rng = np.random.default_rng((seed, index, version))
            part = window(samples, hearing.samples, rng)
            part = augment(part, hearing.rate, rng, sound, noises)
            found[version].append(heard(part, hearing, front))
        progress("features", index + 1, len(clips))
    return np.stack([features for version in found for features in version])
