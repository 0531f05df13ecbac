"""Colour: log-mel features as another microphone, room or pitch would have given them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Colour:
    """How far features may be changed, clip by clip; all 0: not at all. For log-mel in dB only."""

    shift: int = 0  # bands up or down, as a change of pitch; the outer bands are repeated
    tilt: float = 0.0  # dB at the edge bands, standard deviation of a straight line through the middle band
    ripple: float = 0.0  # dB, standard deviation of a slow wave over the bands


def colour(features: Floats, how: Colour, rng: np.random.Generator) -> Floats:
    """Return log-mel features (N, frames, bands), each clip shifted and equalised at random."""
    count, _, bands = features.shape
    shift = rng.integers(-how.shift, how.shift + 1, (count, 1))
    source = np.clip(np.arange(bands) + shift, 0, bands - 1)
    shifted = np.take_along_axis(features, source[:, None, :], axis=2)
    place = np.linspace(-1.0, 1.0, bands)
    tilt, ripple, phase = rng.normal(size=(3, count, 1)) * [[[how.tilt]], [[how.ripple]], [[3.0]]]
    gain = tilt * place + ripple * np.sin(1.5 * np.pi * place + phase)
    return (shifted + gain[:, None, :]).astype(np.float32)


def draws(features: Floats, how: Colour, count: int, seed: int) -> Floats:
    """Return `count` coloured copies of features (N, frames, bands), one after the other: (count·N, …).

    Equal arguments give the same pitch and equalisation to the same clips, whatever the front end: so two
    nets with different ones hear the same.
    """
    return np.concatenate([colour(features, how, np.random.default_rng((seed, i))) for i in range(count)])
