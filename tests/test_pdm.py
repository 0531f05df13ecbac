"""The decimation of PDM microphones: the tone of a sigma-delta modulator comes out, and nothing else."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import pytest

import firmware
from firmware.compiler import toolchain

SOURCE = """#include "ports/pdm.h"
void decimate(const uint32_t *bits, int16_t *samples, uint32_t count);
void decimate(const uint32_t *bits, int16_t *samples, uint32_t count) {
    ear_pdm_t pdm = {0};
    for (uint32_t i = 0; i < count; i++) samples[i] = ear_pdm_sample(&pdm, bits[2 * i], bits[2 * i + 1]);
}
"""
RATE, OVER = 16_000, 64
Samples = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("pdm")
    (folder / "pdm.c").write_text(SOURCE)
    toolchain.host_library(folder / "pdm.c", (firmware.ROOT,), folder / "pdm.so")
    return ctypes.CDLL(str(folder / "pdm.so"))


def modulated(signal: npt.NDArray[np.float64]) -> npt.NDArray[np.uint32]:
    """Return the bits of a second-order sigma-delta modulator for a signal within -1 and 1, 32 in a word."""
    bits, first, second = np.zeros(len(signal), np.uint8), 0.0, 0.0
    for i, value in enumerate(signal):
        out = 1.0 if second >= 0 else -1.0
        first += value - out
        second += first - out
        bits[i] = out > 0
    return np.packbits(bits).view(">u4").astype(np.uint32)


def decimated(library: ctypes.CDLL, bits: npt.NDArray[np.uint32]) -> Samples:
    bits = np.ascontiguousarray(bits)
    out = np.zeros(len(bits) // 2, np.int16)
    library.decimate(bits.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), len(out))
    return out


def tone(hertz: float, amplitude: float, seconds: float = 0.15) -> npt.NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE * OVER)) / (RATE * OVER))


def spectrum(samples: Samples) -> npt.NDArray[np.float64]:
    """Return the amplitude at each 10 Hz, of the last 100 ms."""
    window = np.blackman(RATE // 10)
    return np.abs(np.fft.rfft(samples[-RATE // 10 :] * window)) * 2 / window.sum()


@pytest.mark.parametrize("hertz", [200, 1000, 3000, 6500])
def test_a_tone_keeps_its_level_and_stays_clean(library: ctypes.CDLL, hertz: int) -> None:
    heard = spectrum(decimated(library, modulated(tone(hertz, 0.4))))
    at = hertz // 10
    assert heard[at] == pytest.approx(0.4 * 32768, rel=0.05)
    noise = np.delete(heard, np.arange(at - 4, at + 5))[2:]
    assert 20 * np.log10(heard[at] / np.sqrt((noise**2).sum())) > 50


@pytest.mark.parametrize("hertz", [9500, 12_000, 23_000, 40_000])
def test_what_is_above_the_band_is_kept_out(library: ctypes.CDLL, hertz: int) -> None:
    heard = spectrum(decimated(library, modulated(tone(hertz, 0.4))))
    assert heard[2:].max() < 0.4 * 32768 * 10 ** (-32 / 20)


def test_a_microphones_offset_goes_away(library: ctypes.CDLL) -> None:
    bits = modulated(tone(1000, 0.1, 1.5) + 0.02)
    heard = decimated(library, bits)
    assert abs(heard[:160].mean()) > 300
    assert abs(heard[-1600:].mean()) < 30


def test_the_loudest_clips_and_never_wraps(library: ctypes.CDLL) -> None:
    heard = decimated(library, np.repeat(np.array([0xFFFFFFFF, 0], np.uint32), 200)).astype(int)
    assert heard[20:95].min() > 31_000  # all ones
    assert heard[120:].max() < -31_000  # then all zeros
