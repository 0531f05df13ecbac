"""The front end of PaSST: pre-emphasis, centred STFT at 32 kHz, kaldi's mel bands, logarithm, fixed scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models.fronts.kaldi import mel_banks

Floats = npt.NDArray[np.float32]
PRE_EMPHASIS = 0.97
FLOOR = 1e-5  # added to the energy of a band
SHIFT, SCALE = 4.5, 5.0


@dataclass(frozen=True)
class PasstMel:
    """Log-mel as PaSST's AugmentMelSTFT computes it in evaluation (Koutini et al. 2022, arXiv 2110.05069).

    y[t] = x[t + 1] - 0.97 x[t]; frames centred at multiples of the hop with reflected edges; symmetric Hann;
    power; triangles of peak 1 on HTK's mel scale, linear in mel, from 0 Hz to `high_hz`;
    (ln(energy + 1e-5) + 4.5) / 5.

    Raises:
        UserError: an input is shorter than half an FFT, so that its edges cannot be reflected.
    """

    bands: int = 128
    sample_rate: int = 32_000  # Hz
    fft: int = 1024  # samples
    window: int = 800  # samples
    hop: int = 320  # samples
    high_hz: float = 15_000.0
    samples: int = 320_000  # of one input

    def __post_init__(self) -> None:
        if self.samples < self.fft // 2 + 2:
            raise UserError(
                f"{self.samples} samples are too few for a centred FFT of {self.fft}: "
                f"give {self.fft // 2 + 2} or more"
            )

    @property
    def frames(self) -> int:
        """Return the frames of one input: one at each multiple of the hop; pre-emphasis takes a sample."""
        return 1 + (self.samples - 1) // self.hop

    @property
    def features(self) -> int:
        """Return the mel bands."""
        return self.bands

    def lasting(self, seconds: float) -> Self:
        """Return the front end whose input covers `seconds`."""
        return replace(self, samples=round(seconds * self.sample_rate))

    def of(self, sound: Floats) -> Floats:
        """Return float32 (frames, bands) of a waveform (n,), cut or padded with silence to `samples`."""
        wave = np.zeros(self.samples)
        wave[: len(sound)] = sound[: self.samples]
        padded = np.pad(wave[1:] - PRE_EMPHASIS * wave[:-1], self.fft // 2, "reflect")
        framed = np.lib.stride_tricks.sliding_window_view(padded, self.fft)[:: self.hop]
        margin = (self.fft - self.window) // 2
        hann = np.pad(np.hanning(self.window), (margin, self.fft - self.window - margin))
        power = np.abs(np.fft.rfft(framed * hann)) ** 2
        energy = power @ mel_banks(self.bands, self.fft, self.sample_rate, 0.0, self.high_hz)
        return ((np.log(energy + FLOOR) + SHIFT) / SCALE).astype(np.float32)
