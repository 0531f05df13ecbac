"""Functions of int16 with the exact steps that TFLM takes: curves of 513 points, logistic, tanh, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from firmware.compiler.fixed_point import multiply_by_quantised_multiplier
from firmware.compiler.graph import Array

POINTS = 512  # lines of a curve, 128 steps each
LOW, HIGH = -32768, 32767
Raw = npt.NDArray[np.int64]
Real = Callable[[float], float]


def _round(x: Array) -> npt.NDArray[np.float32]:
    """Return float32 values rounded to whole numbers, halves away from zero."""
    wide = x.astype(np.float64)
    return np.copysign(np.floor(np.abs(wide) + 0.5), wide).astype(np.float32)


def curve(function: Real, source: tuple[float, int], target: tuple[float, int]) -> npt.NDArray[np.int16]:
    """Return the points of a function between two quantisations, in float32 as TFLM's LUTPopulate.

    A point moves by half of what the line after it misses the function by in its middle.
    """
    (scale_in, zero_in), (scale_out, zero_out) = source, target
    low, high = (np.float32(scale_in) * np.float32(edge - zero_in) for edge in (LOW, HIGH))
    least, most = (np.float32(scale_out) * np.float32(edge - zero_out) for edge in (LOW, HIGH))
    step = np.float32((high - low) / np.float32(POINTS))
    inverse = np.float32(65536) / np.float32(most - least)
    places = low + np.arange(POINTS + 1, dtype=np.float32) * step

    def steps(x: Array) -> npt.NDArray[np.float32]:
        values = np.array([max(np.float32(function(float(v))), least) for v in x], np.float32)
        scaled: npt.NDArray[np.float32] = values * inverse
        return scaled

    whole, middle = steps(places), _round(steps(places[:-1] + step / np.float32(2)))
    now = _round(whole)
    chord = _round((whole[1:] + now[:-1]) / np.float32(2))
    now[:-1] -= _round((chord - middle) / np.float32(2))
    now[-1] = _round(steps(np.array([high], np.float32)))[0]
    return np.clip(now, LOW, HIGH).astype(np.int16)


def look_up(x: Array, points: Array) -> Raw:
    """Return the curve at int16 values, between its points along straight lines."""
    at = np.asarray(x).astype(np.int64)
    index = POINTS // 2 + (at >> 7)
    table = points.astype(np.int64)
    slope = (table[index + 1] - table[index]).astype(np.int16).astype(np.int64)
    between = (slope * (at & 127) + 64) >> 7
    return np.asarray((table[index] + between).astype(np.int16).astype(np.int64))


def sigmoid_points() -> npt.NDArray[np.uint16]:
    """Return TFLM's 256 points of 65536 / (1 + exp(-x / 24)), moved by half of its line's middle error."""
    x = np.arange(256, dtype=np.float64)
    now, middle, after = (65536 / (1 + np.exp(-(x + ahead) / 24)) for ahead in (0.0, 0.5, 1.0))
    points = np.floor(now - ((now + after) / 2 - middle) / 2 + 0.5).astype(np.uint16)
    points[-1] = 65535
    return points


def sigmoid_factor(scale: float, shifts: tuple[int, ...]) -> tuple[int, int]:
    """Return (multiplier, right shift) that bring steps of a scale to steps of 1 / 12288.

    A scale that is 2**(shift - 12) for one of `shifts` has an exact multiplier; others have 15 bits.
    """
    power = math.log2(scale)
    if abs(power - round(power)) < 1e-3 and 12 + round(power) in shifts:
        return 3 << (12 + round(power)), 0
    real, right = scale * 4096.0 * 3.0, 0
    while real <= 32767.0 / 2.0 and right <= 30:
        right += 1
        real *= 2.0
    return int(real), right


def sigmoid(x: Array, factor: tuple[int, int], hyperbolic: bool) -> Raw:
    """Return the logistic function, or tanh, of int16 values in steps of 1 / 32768."""
    multiplier, right = factor
    at = (np.asarray(x).astype(np.int64) * multiplier + ((1 << right) >> 1)) >> right
    fraction, scale = (8, 0xFFFF << 8) if hyperbolic else (9, 0x7FFF << 10)
    points, magnitude = sigmoid_points().astype(np.int64), np.abs(at)
    index = np.minimum(magnitude >> fraction, 254)
    rest, rise = magnitude & ((1 << fraction) - 1), points[index + 1] - points[index]
    y = np.where(magnitude >> fraction >= 255, scale, (points[index] << fraction) + rest * rise)
    if hyperbolic:
        return np.asarray(np.where(at >= 0, y - (1 << 23) + (1 << 7), (1 << 23) - y + (1 << 7) - 1) >> 8)
    return np.asarray(np.where(at >= 0, y + (1 << 9), (1 << 25) - y + (1 << 9) - 1) >> 10)


def softmax_curves() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Return the curves of exp over -10..0 and of 1 / (1 + x) over 0..1, both in steps of 1 / 32768."""
    step, unit = np.float32(10) / np.float32(65535), np.float32(1) / np.float32(65535)
    out = float(np.float32(2) / np.float32(65535))
    exponential = curve(math.exp, (float(step), HIGH), (out, 0))
    reciprocal = curve(lambda x: 1 / (1 + x), (float(unit), LOW), (out, 0))
    return exponential, reciprocal


def softmax(x: Array, multiplier: int, shift: int) -> Raw:
    """Return the softmax of int16 values over the last axis in steps of 1 / 32768."""
    exponential, reciprocal = softmax_curves()
    wide = np.asarray(x).astype(np.int64)
    scaled = multiply_by_quantised_multiplier(wide - wide.max(axis=-1, keepdims=True), multiplier, shift)
    exps = look_up(np.clip(scaled + HIGH, LOW, HIGH), exponential)
    total = exps.sum(axis=-1, keepdims=True)
    headroom = 32 - np.ceil(np.log2(total + 1)).astype(np.int64)
    normal = ((total << (headroom - 1)) + (1 << 13)) >> 14
    inverse = look_up(np.clip(normal - (1 << 15) - (1 << 16), LOW, HIGH), reciprocal)
    right = 31 - headroom
    shares: Raw = np.clip((exps * inverse + (np.int64(1) << (right - 1))) >> right, 0, HIGH)
    return shares
