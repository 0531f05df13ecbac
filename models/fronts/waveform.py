"""The waveform itself as features: one sample a frame, for nets whose stem hears samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
EPSILON = 1e-7  # added to the variance


@dataclass(frozen=True)
class Waveform:
    """A fixed duration of sound, in the level of the sound or of zero mean and unit variance.

    Args:
        sample_rate: Hz.
        samples: of one input.
        level: unit: (x - mean) / sqrt(variance + 1e-7) of the sound before silence is added, as
            transformers' Wav2Vec2FeatureExtractor does with do_normalize; kept: ±1.0 as it came.
    """

    sample_rate: int
    samples: int
    level: Literal["unit", "kept"] = "unit"

    @property
    def frames(self) -> int:
        """Return the frames of one input: its samples."""
        return self.samples

    @property
    def features(self) -> int:
        """Return 1: a frame is a sample."""
        return 1

    def lasting(self, seconds: float) -> Self:
        """Return the front end whose input covers `seconds`."""
        return replace(self, samples=round(seconds * self.sample_rate))

    def of(self, sound: Floats) -> Floats:
        """Return float32 (samples, 1) of a waveform (n,), cut at the end or padded with zeros."""
        taken = np.asarray(sound[: self.samples], np.float32)
        if self.level == "unit" and len(taken):
            taken = (taken - taken.mean()) / np.sqrt(taken.var() + EPSILON)
        wave = np.zeros((self.samples, 1), np.float32)
        wave[: len(taken), 0] = taken
        return wave
