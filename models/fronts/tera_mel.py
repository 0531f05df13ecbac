"""TERA's front end: waveforms of one level to log-mel frames, each band of zero mean and unit variance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
EPSILON = 1e-10


@dataclass(frozen=True)
class TeraMel:
    """Log-mel with CMVN as s3prl computes it for TERA (Liu et al. 2021, arXiv 2007.06028).

    Centred frames with reflected edges, periodic Hann, power, HTK mel bands of peak 1 from 0 Hz to half the
    rate, natural logarithm of power + 1e-10; then mean and deviation (n − 1) of each band over the clip.
    """

    bands: int = 80
    sample_rate: int = 16_000  # Hz
    window: int = 400  # samples, as is the FFT
    hop: int = 160  # samples
    level: float = -25.0  # dB of the waveform's RMS
    samples: int = 160_000  # of one input

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
        wave = np.zeros(self.samples, np.float64)
        wave[: len(sound)] = sound[: self.samples]
        wave *= 10 ** (self.level / 20) / (np.sqrt(np.mean(wave * wave)) + EPSILON)
        padded = np.pad(wave, self.window // 2, "reflect")
        framed = np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop]
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        power = np.abs(np.fft.rfft(framed * hann)) ** 2
        bands = np.log(power @ self._mel() + EPSILON)
        centred = bands - bands.mean(axis=0)
        return (centred / (bands.std(axis=0, ddof=1) + EPSILON)).astype(np.float32)

    def _mel(self) -> npt.NDArray[np.float64]:
        """Return the HTK triangles (bins, bands), peak 1, of the frequencies themselves."""

        def mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            return 2595 * np.log10(1 + hertz / 700)

        top = self.sample_rate / 2
        bins = np.linspace(0, top, self.window // 2 + 1)
        corners = np.linspace(0, mel(np.array(top)), self.bands + 2)
        edges = 700 * (10 ** (corners / 2595) - 1)
        low, centre, high = edges[:-2], edges[1:-1], edges[2:]
        rising = (bins[:, None] - low) / (centre - low)
        falling = (high - bins[:, None]) / (high - centre)
        return np.maximum(0, np.minimum(rising, falling))
