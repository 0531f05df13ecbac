"""Kaldi's log-mel filterbank in float, as AST, SSAST, SSAMBA and BEATs call it (Kaldi: Apache-2.0).

Frames of 25 ms every 10 ms that lie wholly in the sound, each: mean removed, pre-emphasis 0.97, window,
power spectrum of 512 points (at 16 kHz), triangles on the scale 1127·ln(1 + f/700), natural logarithm.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models.fronts import Floats

LOWEST = 20.0  # Hz
EMPHASIS = 0.97
FLOOR = float(np.finfo(np.float32).eps)  # energy that silence is raised to
LENGTH, HOP = 25, 10  # ms
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kaldi:
    """A filterbank, normalised to (x - mean) / (2·std), for inputs of `frames`.

    Args:
        frames: of one input; a shorter sound is filled up with zeros before it is normalised, a longer cut.
        mean, std: of the features over the data that the net was trained on.
        bands: mel bands.
        sample_rate: Hz.
        window: symmetric Hann, or its power 0.85 (Kaldi's own).
        gain: factor of the waveform of ±1; 2¹⁵ where the official code takes it as integers.
        centred: the mean of the waveform is taken off first.
        filled: an input of n seconds has 100·n frames, so the last ones have no sound; else only whole ones.
    """

    frames: int
    mean: float
    std: float
    bands: int = 128
    sample_rate: int = 16_000
    window: Literal["hanning", "povey"] = "hanning"
    gain: float = 1.0
    centred: bool = True
    filled: bool = True

    @property
    def features(self) -> int:
        """Return the values of a frame."""
        return self.bands

    @property
    def length(self) -> int:
        """Return the samples of a frame."""
        return self.sample_rate * LENGTH // 1000

    @property
    def hop(self) -> int:
        """Return the samples from frame to frame."""
        return self.sample_rate * HOP // 1000

    @property
    def samples(self) -> int:
        """Return the samples that one input covers."""
        return self.frames * self.hop if self.filled else self.length + (self.frames - 1) * self.hop

    def lasting(self, seconds: float) -> Self:
        """Return the front end whose input covers `seconds`."""
        samples = round(seconds * self.sample_rate)
        frames = samples // self.hop if self.filled else 1 + (samples - self.length) // self.hop
        if frames < 1:
            raise UserError(f"{seconds:g} s are less than one frame of {LENGTH} ms")
        return replace(self, frames=frames)

    def of(self, sound: Floats) -> Floats:
        """Return features float32 (frames, bands) of a waveform (n,) of ±1.0."""
        wave = sound.astype(np.float64)
        if self.centred and wave.size:
            wave = wave - wave.mean()
        found = self.filterbank(wave * self.gain)[: self.frames]
        padded = np.zeros((self.frames, self.bands))
        padded[: len(found)] = found
        return ((padded - self.mean) / (2 * self.std)).astype(np.float32)

    def filterbank(self, wave: Doubles) -> Doubles:
        """Return the logarithms float64 (frames, bands) of every whole frame of `wave` (n,)."""
        if wave.size < self.length:
            return np.zeros((0, self.bands))
        framed = np.lib.stride_tricks.sliding_window_view(wave, self.length)[:: self.hop]
        framed = framed - framed.mean(axis=1, keepdims=True)
        before = np.concatenate([framed[:, :1], framed[:, :-1]], axis=1)
        window, mel = _tables(self.length, self.sample_rate, self.bands, self.window)
        spectrum = np.fft.rfft((framed - EMPHASIS * before) * window, _points(self.length))
        energy: Doubles = np.square(np.abs(spectrum)) @ mel
        return np.log(np.maximum(energy, FLOOR))


def _points(length: int) -> int:
    return 1 << (length - 1).bit_length()


@functools.cache
def _tables(length: int, rate: int, bands: int, window: str) -> tuple[Doubles, Doubles]:
    """Return the window (length,) and the mel triangles (points/2 + 1, bands)."""
    shape = np.hanning(length) ** {"hanning": 1.0, "povey": 0.85}[window]
    return shape, mel_banks(bands, _points(length), rate, LOWEST, rate / 2)


def mel_banks(bands: int, points: int, rate: int, low: float, high: float) -> Doubles:
    """Return triangles of peak 1, linear in mel, between `low` and `high` Hz: (points/2 + 1, bands)."""
    edges = np.linspace(_mel(low), _mel(high), bands + 2)
    bins = _mel(np.arange(points // 2) * rate / points)[:, None]
    step = edges[1] - edges[0]
    triangles = np.minimum((bins - edges[:-2]) / step, (edges[2:] - bins) / step)
    return np.concatenate([np.maximum(triangles, 0), np.zeros((1, bands))])


def _mel(hertz: npt.ArrayLike) -> Doubles:
    return 1127 * np.log1p(np.asarray(hertz, np.float64) / 700)
