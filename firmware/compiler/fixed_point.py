"""Fixed point as TFLM does it: quantised multipliers, double rounding, saturation (the C twin is ear.h)."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from firmware.compiler.graph import Array

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
RANGES = {"int8": (-128, 127), "int16": (-32768, 32767), "int32": (INT32_MIN, INT32_MAX)}


def quantise_multiplier(real: float) -> tuple[int, int]:
    """Return (multiplier, shift) with real ≈ multiplier / 2**31 * 2**shift and multiplier in [2**30, 2**31).

    A real of 0, or one too small for 32 bits, gives (0, 0). `real` is a double, as in TFLM.
    """
    if real == 0.0:
        return 0, 0
    fraction, shift = math.frexp(real)
    fixed = round_half_away(fraction * (1 << 31))
    if fixed == 1 << 31:
        fixed //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    return fixed, shift


def quantise_multipliers(reals: Iterable[float]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the arrays (multipliers, shifts) of several real factors, one a channel."""
    pairs = [quantise_multiplier(float(real)) for real in reals]
    return np.array([m for m, _ in pairs], np.int32), np.array([s for _, s in pairs], np.int32)


def round_half_away(real: float) -> int:
    """Return the nearest integer, halves away from zero, as C's round() does."""
    return math.floor(real + 0.5) if real >= 0 else -math.floor(-real + 0.5)


def wrap_int32(x: Array) -> npt.NDArray[np.int64]:
    """Return x reduced to 32 bits two's complement, held in int64: what an int32 register would keep."""
    return np.asarray(x).astype(np.int64).astype(np.int32).astype(np.int64)


def saturating_rounding_doubling_high_mul(a: Array, b: Array | int) -> npt.NDArray[np.int64]:
    """Return round(a * b / 2**31), halves up, saturated for a = b = -2**31; a and b hold int32 values."""
    product = np.asarray(a).astype(np.int64) * np.asarray(b).astype(np.int64)
    rounded: npt.NDArray[np.int64] = (product + (1 << 30)) >> 31
    return np.minimum(rounded, INT32_MAX)


def rounding_divide_by_pot(x: Array, exponent: Array | int) -> npt.NDArray[np.int64]:
    """Return x / 2**exponent rounded to nearest, halves away from zero; exponent in 0..31 or an array."""
    wide = np.asarray(x).astype(np.int64)
    bits = np.asarray(exponent).astype(np.int64)
    half = (np.int64(1) << bits) >> 1
    nudge = np.where(bits > 0, half + (wide >> 63), 0)
    rounded: npt.NDArray[np.int64] = (wide + nudge) >> bits
    return rounded


def multiply_by_quantised_multiplier(
    x: Array, multiplier: Array | int, shift: Array | int
) -> npt.NDArray[np.int64]:
    """Return x * multiplier / 2**31 * 2**shift with TFLM's double rounding, as int64 holding int32 values.

    `multiplier` and `shift` are scalars or broadcast along the last axis (one a channel).
    The left shift wraps at 32 bits, as it does on the device.
    """
    shift = np.asarray(shift).astype(np.int64)
    wide = wrap_int32(np.asarray(x).astype(np.int64) << np.maximum(shift, 0))
    return rounding_divide_by_pot(
        saturating_rounding_doubling_high_mul(wide, multiplier), np.maximum(-shift, 0)
    )


def reduced(multiplier: Array) -> npt.NDArray[np.int64]:
    """Return multipliers of 31 bits as the 15 bits that the factor of a 64-bit sum keeps."""
    wide = np.asarray(multiplier).astype(np.int64)
    kept: npt.NDArray[np.int64] = np.minimum((wide + (1 << 15)) >> 16, (1 << 15) - 1)
    return kept


def multiply_wide(x: Array, multiplier: Array | int, shift: Array | int) -> npt.NDArray[np.int64]:
    """Return 64-bit sums x * multiplier / 2**31 * 2**shift as TFLM does for int16: 15 bits, rounded once.

    |x| < 2**47, shift in -31..7; halves go up.
    """
    down = 15 - np.asarray(shift).astype(np.int64)
    product = np.asarray(x).astype(np.int64) * reduced(np.asarray(multiplier))
    rounded: npt.NDArray[np.int64] = (product + (np.int64(1) << (down - 1))) >> down
    return rounded


def saturate(x: Array, dtype: str, low: int | None = None, high: int | None = None) -> Array:
    """Return x clamped to [low, high], by default all that dtype holds, as dtype."""
    lowest, highest = RANGES[dtype]
    return np.clip(x, lowest if low is None else low, highest if high is None else high).astype(dtype)


def saturate_int8(x: Array, low: int = -128, high: int = 127) -> npt.NDArray[np.int8]:
    """Return x clamped to [low, high] as int8."""
    return np.clip(x, low, high).astype(np.int8)


def saturate_int16(x: Array, low: int = -32768, high: int = 32767) -> npt.NDArray[np.int16]:
    """Return x clamped to [low, high] as int16."""
    return np.clip(x, low, high).astype(np.int16)


def activation_range(activation: str, scale: float, zero_point: int, dtype: str = "int8") -> tuple[int, int]:
    """Return the (low, high) quantised clamp of a fused activation: NONE, RELU, RELU6, RELU_N1_TO_1.

    Raises:
        KeyError: an activation that is not a clamp.
    """
    low, high = RANGES[dtype]

    def quantise(real: float) -> int:
        return zero_point + round_half_away(float(np.float32(real) / np.float32(scale)))

    reals = {"NONE": (None, None), "RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}[activation]
    if reals[0] is not None:
        low = max(low, quantise(reals[0]))
    if reals[1] is not None:
        high = min(high, quantise(reals[1]))
    return low, high
