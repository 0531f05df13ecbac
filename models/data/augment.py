"""Augmentation in numpy, seeded: shift, gain, noise at an SNR, rooms, SpecAugment, mixup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.data.clips import Samples
from models.data.windows import pad

Float = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Range = tuple[float, float]

FULL_SCALE = 32_767.0


@dataclass(frozen=True)
class Augmentation:
    """How far each random change may go; a chance of 0 switches it off."""

    shift: float = 0.1  # of the clip's length, either way
    gain_db: Range = (-12.0, 6.0)
    noise_chance: float = 0.5
    snr_db: Range = (3.0, 30.0)
    room_chance: float = 0.3
    rt60: Range = (0.1, 0.7)  # seconds


def augment(
    samples: Samples, rate: int, rng: np.random.Generator, how: Augmentation, noises: Sequence[Samples] = ()
) -> Samples:
    """Return a changed copy of a clip, same shape: in a room, shifted, noisy, louder or softer.

    Without `noises` (recordings at `rate`, of any length) the noise is coloured, from white to brown.
    """
    out = samples
    if rng.random() < how.room_chance:
        response = room_response(rate, rng.uniform(*how.rt60), rng.uniform(0.0, 10.0), rng)
        out = to_int16(convolve(out.astype(np.float64), response))
    most = int(how.shift * out.size)
    out = shift(out, int(rng.integers(-most, most + 1)))
    if rng.random() < how.noise_chance:
        noise = coloured(out.size, rng.uniform(0.0, 2.0), rng)
        if noises:
            noise = stretch(noises[int(rng.integers(len(noises)))].astype(np.float64), out.size, rng)
        out = to_int16(add_noise(out.astype(np.float64), noise, rng.uniform(*how.snr_db)))
    return gain(out, rng.uniform(*how.gain_db))


def shift(samples: Samples, by: int) -> Samples:
    """Return the clip `by` samples later (earlier when negative); what opens up is its own noise floor."""
    kept = samples[: samples.size - by] if by >= 0 else samples[-by:]
    return pad(kept, samples.size, max(by, 0)) if kept.size else samples


def gain(samples: Samples, db: float) -> Samples:
    """Return the clip `db` louder, but never beyond full scale."""
    peak = max(1.0, float(np.abs(samples.astype(np.float64)).max(initial=0.0)))
    return to_int16(samples * min(10.0 ** (db / 20.0), FULL_SCALE / peak))


def add_noise(signal: Float, noise: Float, snr_db: float) -> Float:
    """Return signal + noise, the noise scaled so that the two levels (RMS) are `snr_db` apart.

    A silent signal or noise leaves the signal as it is.
    """
    loud, other = rms(signal), rms(noise)
    if loud == 0.0 or other == 0.0:
        return signal
    return signal + noise * (loud / other * 10.0 ** (-snr_db / 20.0))


def coloured(n: int, exponent: float, rng: np.random.Generator) -> Float:
    """Return n samples of noise of level (RMS) 1 with power ~ 1/f^exponent: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    bins = np.maximum(
        np.arange(spectrum.size, dtype=np.float64), max(1.0, n / 800.0)
    )  # flat below 20 Hz at 16 kHz
    noise = np.fft.irfft(spectrum * bins ** (-exponent / 2.0), n)
    return noise / max(rms(noise), 1e-12)


def stretch(noise: Float, n: int, rng: np.random.Generator) -> Float:
    """Return n samples of a recording from a random place, repeated when it is too short."""
    start = int(rng.integers(max(1, noise.size - n + 1)))
    return np.resize(noise[start:], n) if noise.size else np.zeros(n)


def room_response(rate: int, rt60: float, direct_db: float, rng: np.random.Generator) -> Float:
    """Return a procedural room response: the direct sound, early echoes, then decaying noise.

    The tail falls by 60 dB in `rt60` seconds (high frequencies in two thirds of it), as the statistical
    model of Polack has it; `direct_db` is the direct sound's energy against all the rest.
    """
    n = max(8, int(rate * min(rt60, 2.0)))
    time = np.arange(n) / rate
    noise = rng.standard_normal(n)
    low = np.convolve(noise, np.full(8, 0.125), "same")
    tail = low * 10.0 ** (-3.0 * time / rt60) + (noise - low) * 10.0 ** (-4.5 * time / rt60)
    gap = int(rate * 0.004)  # nothing arrives before the first wall
    tail[:gap] = 0.0
    echoes = rng.integers(min(gap, n - 1), max(gap + 1, min(n, int(rate * 0.04))), 6)
    tail[echoes] += rng.choice((-1.0, 1.0), 6) * 3.0 * 10.0 ** (-3.0 * time[echoes] / rt60)
    tail *= 10.0 ** (-direct_db / 20.0) / max(float(np.sqrt((tail**2).sum())), 1e-12)
    tail[0] = 1.0
    return tail


def convolve(signal: Float, response: Float) -> Float:
    """Return the signal in the room, same length and level (RMS) as before."""
    size = 1 << (signal.size + response.size - 2).bit_length()
    wet = np.fft.irfft(np.fft.rfft(signal, size) * np.fft.rfft(response, size), size)[: signal.size]
    return wet * (rms(signal) / max(rms(wet), 1e-12))


def spec_augment(
    features: Features, rng: np.random.Generator, masks: int = 2, widest: float = 0.15
) -> Features:
    """Return features (frames, bands) with random stretches set to their mean (Park et al. 2019)."""
    out = features.copy()
    mean = features.mean()
    for axis in (0, 1):
        size = features.shape[axis]
        for _ in range(masks):
            width = int(rng.integers(0, int(widest * size) + 1))
            start = int(rng.integers(0, size - width + 1))
            out[(slice(None),) * axis + (slice(start, start + width),)] = mean
    return out


def mixup(
    features: Features, targets: Features, rng: np.random.Generator, alpha: float = 0.2
) -> tuple[Features, Features]:
    """Return a batch (N, …) and targets (N, classes) blended pair by pair (Zhang et al. 2018)."""
    share = np.asarray(rng.beta(alpha, alpha, features.shape[0]), np.float32)
    other = rng.permutation(features.shape[0])

    def blend(x: Features) -> Features:
        weight = share.reshape(-1, *(1,) * (x.ndim - 1))
        return weight * x + (1 - weight) * x[other]

    return blend(features), blend(targets)


def rms(x: Float) -> float:
    """Return the root of the mean square, 0 for nothing."""
    return float(np.sqrt(np.mean(x * x))) if x.size else 0.0


def to_int16(x: Float) -> Samples:
    """Return samples rounded to int16, saturated at full scale."""
    return np.clip(np.rint(x), -32_768, 32_767).astype(np.int16)
