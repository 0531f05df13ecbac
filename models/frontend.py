"""The front end: int16 samples to log-mel or MFCC features, one integer definition for host and board."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from firmware.compiler.fixed_point import quantise_multiplier
from models import fixed_fft

FRACTION = 16  # bits behind the point of a feature
FEATURE_ONE = 1 << FRACTION  # 1 dB, or 1 unit of a cepstral coefficient
WEIGHT_BITS = 15  # of a mel weight
LOG_BITS = 7  # the logarithm's table has 2**LOG_BITS segments
DECIBEL_BITS = 24
DECIBELS_AN_OCTAVE = round(10 * math.log10(2) * 2**DECIBEL_BITS)  # dB of a doubling of power
FLOOR = 1e-10  # power that silence is raised to, -100 dB
FAINTEST = 1 / 256  # a band whose every weight is below this hears nothing
FFT_SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
BLOCK = 128  # frames computed at once
INPUT_SCALES = (2.0**-16, 2.0**15)  # of a model's int8 input
LIMITS = {
    "sample_rate": (1_000, 192_000),
    "window": (2, 4_096),
    "hop": (1, 4_096),
    "fft": (FFT_SIZES[0], FFT_SIZES[-1]),
    "bands": (1, 256),
    "coefficients": (0, 256),
    "frames": (1, 1 << 16),
}


@dataclass(frozen=True)
class FrontEnd:
    """What the features are. Every field travels in the bundle and into the firmware as a constant.

    Frames do not pad: frame i covers samples [i*hop, i*hop + window).

    Raises:
        UserError: a value is out of range, values contradict each other, or a mel band would be empty.
    """

    kind: Literal["logmel", "mfcc"] = "logmel"
    sample_rate: int = 16_000  # Hz
    window: int = 512  # samples, periodic Hann
    hop: int = 320  # samples
    fft: int = 512  # power of two, >= window
    bands: int = 40  # mel bands
    low_hz: float = 50.0
    high_hz: float = 7_600.0
    scale: Literal["slaney", "htk"] = "slaney"  # slaney: area-normalised triangles; htk: peak 1
    coefficients: int = 0  # MFCC: orthonormal DCT-II coefficients kept; 0 for logmel
    frames: int = 49  # frames in one input of the model

    def __post_init__(self) -> None:
        _check(self)

    @property
    def features(self) -> int:
        """Return the number of values a frame gives."""
        return self.coefficients if self.kind == "mfcc" else self.bands

    @property
    def samples(self) -> int:
        """Return the samples that one model input covers."""
        return self.window + (self.frames - 1) * self.hop


def features(samples: npt.NDArray[np.int16], fe: FrontEnd) -> npt.NDArray[np.int32]:
    """Return the features of every whole frame of a sound.

    Args:
        samples: int16, shape (n,), at fe.sample_rate Hz.
        fe: what to compute.

    Returns:
        Shape (frames, fe.features), in units of 1 / FEATURE_ONE. logmel: 10 log10(max(power, 1e-10)) dB of
        each band, samples taken as int16 / 32768. mfcc: the orthonormal DCT-II of those decibels. No frame
        at all when n < fe.window. Bit for bit what `ear_frontend_frame` of firmware/frontend.c computes.
    """
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise TypeError(f"int16 samples of shape (n,) are needed, not {samples.dtype} {samples.shape}")
    if samples.size < fe.window:
        return np.zeros((0, fe.features), np.int32)
    framed = np.lib.stride_tricks.sliding_window_view(samples, fe.window)[:: fe.hop]
    constants = tables(fe)
    parts = [_features(framed[i : i + BLOCK], constants) for i in range(0, len(framed), BLOCK)]
    return np.concatenate(parts)


def to_float(values: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """Return fixed-point features as float32 (dB, or cepstral units): what the nets are trained on."""
    return (values / FEATURE_ONE).astype(np.float32)


def quantise(values: npt.NDArray[np.int32], scale: float, zero_point: int) -> npt.NDArray[np.int8]:
    """Return fixed-point features as a model's int8 input: one rounding, halves up, then saturation.

    Args:
        values: from `features`, any shape.
        scale: the input tensor's scale, in dB or cepstral units.
        zero_point: the input tensor's zero point.

    Raises:
        UserError: the scale or the zero point is out of range.
    """
    low, high = INPUT_SCALES
    if not low <= scale <= high:
        raise UserError(
            f"an input scale of {scale:g} is outside {low:g}…{high:g}: train on dB, not on raw power"
        )
    if not -128 <= zero_point <= 127:
        raise UserError(f"an input zero point of {zero_point} is outside -128…127: the input has to be int8")
    multiplier, exponent = quantise_multiplier(1 / (scale * FEATURE_ONE))
    shift = 31 - exponent
    rounded = (values.astype(np.int64) * multiplier + (1 << shift - 1)) >> shift
    return np.clip(rounded + zero_point, -128, 127).astype(np.int8)


@functools.lru_cache(maxsize=32)
def tables(fe: FrontEnd) -> dict[str, Any]:
    """Return the constants of `fe`, for numpy here and for the firmware's C (do not write into them).

    Returns:
        The integers `rate, window, hop, fft, bands, coefficients, features, frames, fraction, floor,
        dct_fraction`, and the arrays
        hann (window // 2 + 1,) int32 Q31; twiddles (fft / 4, 2) int32 Q31;
        mel_edges (bands + 2,) uint16: interval i has the bins mel_edges[i] … mel_edges[i + 1] - 1;
        mel_weights uint16 Q15, one for each bin from mel_edges[0] on: how far it is on its way up;
        mel_offsets (bands,) int32: log2 of what an integer band energy lacks, Q16;
        log2 (129,) int32: log2(1 + i / 128), Q16;
        dct (coefficients, bands) int16, with dct_fraction bits behind the point.
    """
    edges, weights, gains = _triangles(fe)
    log_fft = fe.fft.bit_length() - 1
    constant = 2 * log_fft + fixed_fft.POWER_BITS - WEIGHT_BITS - 2 * fixed_fft.FULL_SCALE_BITS
    dct, dct_fraction = _dct_table(fe)
    return {
        "rate": fe.sample_rate,
        **{
            key: getattr(fe, key)
            for key in ("window", "hop", "fft", "bands", "coefficients", "features", "frames")
        },
        "fraction": FRACTION,
        "floor": _fixed(math.log2(FLOOR)),
        "dct_fraction": dct_fraction,
        "decibels": DECIBELS_AN_OCTAVE,
        "decibel_bits": DECIBEL_BITS,
        "hann": fixed_fft.window_table(fe.window),
        "twiddles": fixed_fft.twiddle_table(fe.fft),
        "mel_edges": edges.astype(np.uint16),
        "mel_weights": np.rint(weights * (1 << WEIGHT_BITS)).astype(np.uint16),
        "mel_offsets": np.array([_fixed(constant + math.log2(gain)) for gain in gains], np.int32),
        "log2": np.rint(np.log2(1 + np.arange(129) / 128) * FEATURE_ONE).astype(np.int32),
        "dct": dct,
    }


def mel_matrix(fe: FrontEnd) -> npt.NDArray[np.float64]:
    """Return the mel filters as a matrix (fft // 2 + 1, bands): power spectrum @ matrix = band energies."""
    edges, weights, gains = _triangles(fe)
    matrix = np.zeros((fe.fft // 2 + 1, fe.bands))
    for interval in range(fe.bands + 1):
        bins = np.arange(edges[interval], edges[interval + 1])
        up = weights[bins - edges[0]]
        if interval < fe.bands:
            matrix[bins, interval] = up * gains[interval]
        if interval > 0:
            matrix[bins, interval - 1] = (1 - up) * gains[interval - 1]
    return matrix


def dct_matrix(fe: FrontEnd) -> npt.NDArray[np.float64]:
    """Return the orthonormal DCT-II as a matrix, shape (coefficients, bands)."""
    k, m = np.arange(fe.coefficients)[:, None], np.arange(fe.bands)
    rows = np.cos(np.pi * k * (2 * m + 1) / (2 * fe.bands)) * math.sqrt(2 / fe.bands)
    rows[:1] /= math.sqrt(2)
    return rows


def _features(frames: npt.NDArray[np.int16], t: dict[str, Any]) -> npt.NDArray[np.int32]:
    power, shift = fixed_fft.power(frames, t["hann"], t["twiddles"], t["fft"])
    decibels = _decibels(_band_energies(power, t), shift, t)
    if not t["coefficients"]:
        return decibels.T.astype(np.int32)
    sums = t["dct"].astype(np.int64) @ decibels
    return ((sums + (1 << t["dct_fraction"] - 1)) >> t["dct_fraction"]).T.astype(np.int32)


def _band_energies(power: npt.NDArray[np.uint64], t: dict[str, Any]) -> npt.NDArray[np.uint64]:
    """Return the energy of the peak-1 triangles in Q15, shape (bands, frames), from (bins 1 …, frames).

    A bin between two band centres gives the share w to the upper band and the rest to the lower one: one
    product a bin serves both.
    """
    edges = t["mel_edges"].astype(np.int64)
    used = power[edges[0] - 1 : edges[-1] - 1]
    zero = np.zeros((1, power.shape[1]), np.uint64)
    sums = [
        np.concatenate([zero, np.cumsum(part, axis=0)])[edges - edges[0]]
        for part in (used * t["mel_weights"].astype(np.uint64)[:, None], used)
    ]
    rise, total = (np.diff(part, axis=0) for part in sums)
    fall = (total << np.uint64(WEIGHT_BITS)) - rise
    energies: npt.NDArray[np.uint64] = rise[:-1] + fall[1:]
    return energies


def _decibels(
    energy: npt.NDArray[np.uint64], shift: npt.NDArray[np.int64], t: dict[str, Any]
) -> npt.NDArray[np.int64]:
    """Return 10 log10 of band energies in Q16, no lower than the floor, shape (bands, frames)."""
    high, low = (
        (energy >> np.uint64(32)).astype(np.float64),
        (energy & np.uint64(2**32 - 1)).astype(np.float64),
    )
    length = np.where(high > 0, 32 + np.frexp(high)[1], np.frexp(low)[1]).astype(
        np.int64
    )  # bits of the energy
    mantissa = (energy << (64 - np.maximum(length, 1)).astype(np.uint64) >> np.uint64(32)).astype(np.int64)
    segment, rest = mantissa >> 24 & 127, mantissa >> 8 & 0xFFFF
    table = t["log2"].astype(np.int64)
    step = table[segment + 1] - table[segment]
    log = (length - 1 << 16) + table[segment] + (step * rest + (1 << 15) >> 16)
    log += t["mel_offsets"].astype(np.int64)[:, None] - (2 * shift << 16)
    log = np.maximum(np.where(length > 0, log, t["floor"]), t["floor"])
    decibels: npt.NDArray[np.int64] = (log * t["decibels"] + (1 << DECIBEL_BITS - 1)) >> DECIBEL_BITS
    return decibels


def _fixed(value: float) -> int:
    return round(value * FEATURE_ONE)


def _dct_table(fe: FrontEnd) -> tuple[npt.NDArray[np.int16], int]:
    matrix = dct_matrix(fe)
    if not matrix.size:
        return np.zeros((0, fe.bands), np.int16), 0
    fraction = math.floor(math.log2(32_767 / np.abs(matrix).max()))
    return np.rint(matrix * 2**fraction).astype(np.int16), fraction


def _triangles(
    fe: FrontEnd,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the first bin of each interval between centres, each bin's way up it, and each band's gain.

    Bins 0 and fft/2 are never used: they lie on the outermost edges or beyond.
    """
    to_mel, to_hz = (slaney_mel, slaney_hz) if fe.scale == "slaney" else (_htk_mel, _htk_hz)
    hz = np.array([to_hz(m) for m in np.linspace(to_mel(fe.low_hz), to_mel(fe.high_hz), fe.bands + 2)])
    bins = np.arange(fe.fft // 2 + 1) * (fe.sample_rate / fe.fft)
    edges = np.clip(np.searchsorted(bins, hz), 1, fe.fft // 2)
    used = bins[edges[0] : edges[-1]]
    interval = np.searchsorted(edges, np.arange(edges[0], edges[-1]), side="right") - 1
    weights = np.clip((used - hz[interval]) / (hz[interval + 1] - hz[interval]), 0, 1)
    gains = 2 / (hz[2:] - hz[:-2]) if fe.scale == "slaney" else np.ones(fe.bands)
    return edges.astype(np.int64), weights, gains


def slaney_mel(hz: float) -> float:
    """Return the mel of Slaney's Auditory Toolbox (1998): linear to 1 kHz, logarithmic above."""
    return hz * 3 / 200 if hz < 1_000 else 15 + 27 * math.log(hz / 1_000) / math.log(6.4)


def slaney_hz(mel: float) -> float:
    """Return the frequency of Slaney's `mel`."""
    return mel * 200 / 3 if mel < 15 else 1_000 * math.exp((mel - 15) / 27 * math.log(6.4))


def _htk_mel(hz: float) -> float:
    """Return the mel of the HTK book: 2595 log10(1 + f / 700)."""
    return 2_595 * math.log10(1 + hz / 700)


def _htk_hz(mel: float) -> float:
    return 700 * (10 ** (mel / 2_595) - 1)


def _check(fe: FrontEnd) -> None:
    values = asdict(fe)
    for key, allowed in (("kind", ("logmel", "mfcc")), ("scale", ("slaney", "htk"))):
        if values[key] not in allowed:
            raise UserError(f"front end: {key} {values[key]!r} is not {' or '.join(allowed)}")
    for key, (low, high) in LIMITS.items():
        if type(values[key]) is not int or not low <= values[key] <= high:
            raise UserError(f"front end: {key} {values[key]!r} is not a whole number from {low} to {high}")
    _check_sizes(fe)
    hearing = _hearing(fe)
    if min(hearing) < FAINTEST:
        raise UserError(
            f"front end: mel band {hearing.index(min(hearing))} of {fe.bands} from {fe.low_hz:g} to "
            f"{fe.high_hz:g} Hz holds no FFT bin (they lie {fe.sample_rate / fe.fft:g} Hz apart): {_cure(fe)}"
        )


def _check_sizes(fe: FrontEnd) -> None:
    if fe.fft not in FFT_SIZES:
        raise UserError(f"front end: fft {fe.fft} is not a power of two: use {_next_fft(fe.fft)}")
    if fe.window > fe.fft:
        raise UserError(
            f"front end: the window of {fe.window} samples is longer than the fft of {fe.fft}: "
            f"use fft {_next_fft(fe.window)}"
        )
    if fe.hop > fe.window:
        raise UserError(
            f"front end: a hop of {fe.hop} samples skips sound between windows of {fe.window}: "
            f"use a hop up to {fe.window}"
        )
    nyquist = fe.sample_rate / 2
    for key, hz in (("low_hz", fe.low_hz), ("high_hz", fe.high_hz)):
        if type(hz) not in (int, float) or not 0 <= hz <= nyquist:  # false for NaN too
            raise UserError(
                f"front end: {key} {hz!r} is not between 0 and {nyquist:g} Hz, half of {fe.sample_rate} Hz"
            )
    if fe.low_hz >= fe.high_hz:
        raise UserError(f"front end: low_hz {fe.low_hz:g} is not below high_hz {fe.high_hz:g}")
    if fe.kind == "mfcc" and not 1 <= fe.coefficients <= fe.bands:
        raise UserError(
            f"front end: {fe.coefficients} MFCC of {fe.bands} mel bands: use 1 to {fe.bands} coefficients"
        )
    if fe.kind == "logmel" and fe.coefficients:
        raise UserError(
            f"front end: {fe.coefficients} coefficients mean nothing to logmel: use 0, or kind mfcc"
        )


def _next_fft(size: int) -> int:
    return next(fft for fft in FFT_SIZES if fft >= size)


def _hearing(fe: FrontEnd) -> list[float]:
    """Return the largest weight of each band (of peak-1 triangles): 0 when no FFT bin lies in it."""
    edges, weights, _ = _triangles(fe)
    up = [weights[a - edges[0] : b - edges[0]].max(initial=0) for a, b in itertools.pairwise(edges[:-1])]
    down = [
        (1 - weights[a - edges[0] : b - edges[0]]).max(initial=0) for a, b in itertools.pairwise(edges[1:])
    ]
    return [float(max(pair)) for pair in zip(up, down, strict=True)]


def _cure(fe: FrontEnd) -> str:
    """Return which fft, or how few bands, would give every band a bin."""

    def works(**change: int) -> bool:
        other = object.__new__(FrontEnd)  # not checked: it is what is being asked
        for key, value in {**asdict(fe), **change}.items():
            object.__setattr__(other, key, value)
        return min(_hearing(other)) >= FAINTEST

    longer = (f"use fft {fft}" for fft in FFT_SIZES if fft > fe.fft and works(fft=fft))
    fewer = (f"use {count} bands" for count in range(fe.bands - 1, 0, -1) if works(bands=count))
    cures = [next(longer, ""), next(fewer, "")]
    return " or ".join(filter(None, cures)) or "move low_hz and high_hz apart"
