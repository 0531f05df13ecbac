"""The constant-Q transform: bins a constant ratio apart, each with a window as long as its pitch needs.

Brown 1991, J. Acoust. Soc. Am. 89(1). Kernels as in nnAudio's and librosa's direct forms: periodic Hann,
L1 norm 1, magnitudes times the square root of the window's length.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Cqt:
    """Which bins; the defaults are those of MERT at 24 kHz: seven octaves from C1, 48 bins each."""

    sample_rate: int = 24_000  # Hz
    hop: int = 320  # samples
    low_hz: float = 32.7
    bins: int = 336
    octave: int = 48  # bins of an octave

    @property
    def frequencies(self) -> NDArray[np.float64]:
        """Return the pitch of each bin in Hz."""
        return self.low_hz * 2 ** (np.arange(self.bins) / self.octave)


def magnitudes(sound: Floats, cqt: Cqt) -> Floats:
    """Return |CQT| float32 (frames, bins) of a waveform (n,) of ±1.0, frame i centred on sample i·hop.

    1 + n // hop frames; the sound is taken to be zero before and after.
    """
    spectra, size = _kernels(cqt)
    padded = np.pad(np.asarray(sound, np.float32), size // 2)
    framed = np.lib.stride_tricks.sliding_window_view(padded, size)[:: cqt.hop][: 1 + len(sound) // cqt.hop]
    parts = []
    for start in range(0, len(framed), 16):
        spectrum = np.fft.rfft(framed[start : start + 16], axis=-1)
        parts.append(
            np.stack([np.abs(spectrum[:, low : low + len(kernel)] @ kernel) for low, kernel in spectra], 1)
        )
    return np.concatenate(parts).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _kernels(cqt: Cqt) -> tuple[list[tuple[int, NDArray[np.complex64]]], int]:
    """Return each bin's kernel as the part of the spectrum where it is, (first bin, values), and the FFT."""
    quality = 1 / (2 ** (1 / cqt.octave) - 1)
    if cqt.frequencies[-1] > cqt.sample_rate / 2:
        raise ValueError(f"{cqt.frequencies[-1]:.0f} Hz is over half of {cqt.sample_rate} Hz")
    size = 1 << ceil(np.log2(quality * cqt.sample_rate / cqt.low_hz))
    kernels = []
    for pitch in cqt.frequencies:
        length = ceil(quality * cqt.sample_rate / pitch)
        time = np.arange(length) - length // 2
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        wave = hann * np.exp(2j * np.pi * pitch / cqt.sample_rate * time)
        wave *= np.sqrt(length) / np.sum(hann)
        whole = np.zeros(size, np.complex128)
        whole[size // 2 + time] = wave
        spectrum = np.conj(np.fft.fft(whole))[: size // 2 + 1] / size  # Parseval
        kernels.append(_narrow(spectrum))
    return kernels, size


def _narrow(spectrum: NDArray[np.complex128]) -> tuple[int, NDArray[np.complex64]]:
    """Return where a kernel's spectrum is not negligible, and its values there."""
    strong = np.flatnonzero(np.abs(spectrum) > 1e-6 * np.abs(spectrum).max())
    low, high = int(strong[0]), int(strong[-1]) + 1
    return low, spectrum[low:high].astype(np.complex64)
