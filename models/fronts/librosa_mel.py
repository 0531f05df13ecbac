"""The front end of torchlibrosa: centred STFT, Slaney's mel bands, decibels; as PANNs and CoNeTTE hear."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models.frontend import FLOOR, slaney_hz, slaney_mel

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LibrosaMel:
    """Log-mel as torchlibrosa's Spectrogram and LogmelFilterBank compute it (no top_db), MIT code.

    Frames are centred at multiples of the hop with reflected edges; periodic Hann; power; triangles of equal
    area on Slaney's mel scale; 10·log10(max(power, 1e-10)). The defaults are those of PANNs at 32 kHz.

    Raises:
        UserError: an input is shorter than half a window, so that its edges cannot be reflected.
    """

    bands: int = 64
    sample_rate: int = 32_000  # Hz
    window: int = 1024  # samples, as is the FFT
    hop: int = 320  # samples
    low_hz: float = 50.0
    high_hz: float = 14_000.0
    samples: int = 320_000  # of one input

    def __post_init__(self) -> None:
        if self.samples <= self.window // 2:
            raise UserError(
                f"{self.samples} samples are too few for a centred window of {self.window}: "
                f"give {self.window // 2 + 1} or more"
            )

    @property
    def frames(self) -> int:
        """Return the frames of one input: one at each multiple of the hop."""
        return 1 + self.samples // self.hop

    @property
    def features(self) -> int:
        """Return the mel bands."""
        return self.bands

    def lasting(self, seconds: float) -> Self:
        """Return the front end whose input covers `seconds`."""
        return replace(self, samples=round(seconds * self.sample_rate))

    def of(self, sound: Floats) -> Floats:
        """Return float32 (frames, bands) of a waveform (n,), cut or padded with silence to `samples`."""
        from keras import ops

        wave = np.zeros((1, self.samples), np.float32)
        wave[0, : len(sound)] = sound[: self.samples]
        return np.asarray(ops.convert_to_numpy(log_mel(wave, self)), np.float32)[0]


def log_mel(waveforms: Any, front: LibrosaMel) -> Any:
    """Return (batch, frames, bands) in dB of waveforms (batch, samples); Keras operations, differentiable."""
    from keras import ops

    half = front.window // 2
    padded = ops.pad(waveforms, ((0, 0), (half, half)), mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(front.window) / front.window)
    framed = ops.extract_sequences(padded, front.window, front.hop) * hann.astype(np.float32)
    real, imaginary = ops.rfft(framed, fft_length=front.window)
    power = ops.matmul(ops.square(real) + ops.square(imaginary), mel_filters(front))
    return ops.log(ops.maximum(power, FLOOR)) * (10 / math.log(10))


def mel_filters(front: LibrosaMel) -> Floats:
    """Return the triangles of equal area, (window // 2 + 1, bands): power spectrum @ them = band energies."""
    low, high = slaney_mel(front.low_hz), slaney_mel(front.high_hz)
    edges = np.array([slaney_hz(mel) for mel in np.linspace(low, high, front.bands + 2)])
    bins = np.arange(front.window // 2 + 1)[:, None] * (front.sample_rate / front.window)
    steps = np.diff(edges)
    up, down = (bins - edges[:-2]) / steps[:-1], (edges[2:] - bins) / steps[1:]
    triangles = np.maximum(0, np.minimum(up, down)) * (2 / (edges[2:] - edges[:-2]))
    return triangles.astype(np.float32)
