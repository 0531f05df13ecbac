"""Float functions from plain float32 operations: the numpy twin, bit for bit, of kernels/float_math.h.

Within 2 units in the last place of the true value (sine: within 1e-7 for |x| <= 5e4; erf: 4e-7).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

ROUNDER = np.float32(12582912.0)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
LOG = (
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
HALF_PI = (1.5703125, 4.8351287841796875e-4, 3.13855707645416259765625e-7, 6.07710050359346e-11)
TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
ERF = (
    (
        -2.72614225801306e-10,
        2.77068142495902e-08,
        -2.10102402082508e-06,
        -5.69250639462346e-05,
        -7.34990630326855e-04,
        -2.95459980854025e-03,
        -1.60960333262415e-02,
    ),
    (
        -1.45660718464996e-05,
        -2.13374055278905e-04,
        -1.68282697438203e-03,
        -7.37332916720468e-03,
        -1.42647390514189e-02,
    ),
)


def _polynomial(x: Floats, coefficients: Sequence[float]) -> Floats:
    """Return the polynomial by Horner's rule, highest power first."""
    total = np.full_like(x, np.float32(coefficients[0]))
    for coefficient in coefficients[1:]:
        total = total * x + np.float32(coefficient)
    return total


def _of_bits(bits: npt.NDArray[np.int64]) -> Floats:
    return bits.astype(np.uint32).view(np.float32)


def _power_of_two(k: npt.NDArray[np.int64]) -> Floats:
    return _of_bits((k + 127) << 23)


def exp(x: Floats) -> Floats:
    """Return exp(x)."""
    known = np.where(np.isnan(x), np.float32(0), x)
    near = np.clip(known, np.float32(-104), np.float32(89))
    k = (near * np.float32(1.44269504) + ROUNDER) - ROUNDER
    r = (near - k * LN2_HIGH) - k * LN2_LOW
    y = (_polynomial(r, EXP) * (r * r) + r) + np.float32(1)
    whole = k.astype(np.int64)
    half = whole >> 1
    with np.errstate(over="ignore", under="ignore"):
        scaled = (y * _power_of_two(half)) * _power_of_two(whole - half)
    return np.where(np.isnan(x), x, scaled)


def log(x: Floats) -> Floats:
    """Return log(x): minus infinity for 0, NaN below."""
    small = x < np.float32(1.17549435e-38)
    usable = np.where((x > 0) & np.isfinite(x), x, np.float32(1))
    with np.errstate(over="ignore"):
        bits = np.where(small, usable * np.float32(8388608), usable).view(np.uint32).astype(np.int64)
    m = _of_bits((bits & 0x7FFFFF) | 0x3F000000)
    e = ((bits >> 23) - np.where(small, 149, 126)).astype(np.float32)
    low = m < np.float32(0.707106781)
    e = np.where(low, e - np.float32(1), e)
    m = np.where(low, m + m, m) - np.float32(1)
    z = m * m
    y = (_polynomial(m, LOG) * m) * z
    y = y + e * LN2_LOW
    y = y - np.float32(0.5) * z
    y = (m + y) + e * LN2_HIGH
    edge = np.where(x == 0, np.float32(-np.inf), np.where(np.isposinf(x), x, np.float32(np.nan)))
    return np.where((x > 0) & np.isfinite(x), y, edge)


def sine(x: Floats, quarter: int = 0) -> Floats:
    """Return sin(x + quarter * pi / 2); 0 beyond 1e6, NaN for infinities."""
    inside = np.abs(x) < np.float32(1e6)
    near = np.where(inside, x, np.float32(0))
    k = (near * np.float32(0.636619772) + ROUNDER) - ROUNDER
    s = near
    for part in HALF_PI:
        s = s - k * np.float32(part)
    z = s * s
    odd = (_polynomial(z, SINE) * z) * s + s
    even = ((_polynomial(z, COSINE) * z) * z - np.float32(0.5) * z) + np.float32(1)
    turn = k.astype(np.int64) + quarter
    y = np.where(turn & 1, even, odd)
    with np.errstate(invalid="ignore"):
        outside = x - x
    return np.where(inside, np.where(turn & 2, -y, y), outside)


def cosine(x: Floats) -> Floats:
    """Return cos(x); see sine."""
    return sine(x, 1)


def tanh(x: Floats) -> Floats:
    """Return tanh(x)."""
    size = np.abs(x)
    with np.errstate(over="ignore"):
        far = np.float32(1) - np.float32(2) / (exp(size + size) + np.float32(1))
    near = np.where(size < np.float32(0.625), x, np.float32(0))
    z = near * near
    inner = (_polynomial(z, TANH) * z) * near + near
    return np.where(size >= np.float32(0.625), np.where(x < 0, -far, far), np.where(np.isnan(x), x, inner))


def logistic(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x))."""
    e = exp(-np.abs(x))
    y = np.float32(1) / (np.float32(1) + e)
    return np.where(x < 0, e * y, y)


def erf(x: Floats) -> Floats:
    """Return the error function."""
    near = np.clip(x, np.float32(-4), np.float32(4))
    z = near * near
    return (near * _polynomial(z, ERF[0])) / _polynomial(z, ERF[1])
