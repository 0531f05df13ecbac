"""Functions in 32-bit fixed point with the exact steps that TFLM takes: exp, logistic, tanh, 1 / sqrt.

A value in Q(n) has n bits before the point: real = raw * 2**(n - 31). Arrays hold int32 values in int64.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler.fixed_point import (
    INT32_MAX,
    INT32_MIN,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

Raw = npt.NDArray[np.int64]

# exp(-2**k) in Q0 for k = -2, -1, 0, 1, 2, 3, 4
EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
EXP_MINUS_EIGHTH = 1895147668
ONE_THIRD = 715827883
FORTY_EIGHT_SEVENTEENTHS = 1515870810  # Q2
MINUS_THIRTY_TWO_SEVENTEENTHS = -1010580540  # Q2
HALF_SQRT_TWO = 1518500250  # Q0
multiply = saturating_rounding_doubling_high_mul


def shift_left(x: Raw, bits: Raw | int) -> Raw:
    """Return x * 2**bits, saturated to int32."""
    shifted: Raw = np.clip(x << bits, INT32_MIN, INT32_MAX)
    return shifted


def exp_of_negative(x: Raw, integer_bits: int) -> Raw:
    """Return exp(x) in Q0 for x <= 0 in Q(integer_bits), integer_bits at most 5."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    rest = (x & (quarter - 1)) - quarter
    result = _exp_of_last_quarter(shift_left(rest, integer_bits))
    whole = rest - x
    for power, exp in zip(range(-2, 5), EXP_OF_POWERS, strict=True):
        if integer_bits > power:
            result = np.where(whole & (1 << (fraction_bits + power)), multiply(result, exp), result)
    return np.where(x == 0, INT32_MAX, result)


def _exp_of_last_quarter(x: Raw) -> Raw:
    """Return exp(x) in Q0 for x in [-1/4, 0) in Q0: the Taylor series around -1/8."""
    t = x + (1 << 28)
    t2 = multiply(t, t)
    t3 = multiply(t2, t)
    t4 = multiply(t2, t2)
    inner = multiply(rounding_divide_by_pot(t4, 2) + t3, ONE_THIRD) + t2
    return EXP_MINUS_EIGHTH + multiply(t + rounding_divide_by_pot(inner, 1), EXP_MINUS_EIGHTH)


def half_denominator_reciprocal(x: Raw) -> Raw:
    """Return 2 / (1 + x) in Q2 for x in [0, 1] in Q0: three Newton steps."""
    half = (x + INT32_MAX + 1) >> 1
    guess = FORTY_EIGHT_SEVENTEENTHS + multiply(half, MINUS_THIRTY_TWO_SEVENTEENTHS)
    for _ in range(3):
        guess = guess + shift_left(multiply(guess, (1 << 29) - multiply(half, guess)), 2)
    return guess


def logistic(x: Raw) -> Raw:
    """Return 1 / (1 + exp(-x)) in Q0 for x in Q4."""
    positive = shift_left(half_denominator_reciprocal(exp_of_negative(-np.abs(x), 4)), 1)
    return np.where(x > 0, positive, np.where(x == 0, 1 << 30, INT32_MAX - positive))


def tanh(x: Raw) -> Raw:
    """Return tanh(x) in Q0 for x in Q4."""
    ratio = half_denominator_reciprocal(exp_of_negative(-np.abs(x), 5)) - (1 << 29)
    magnitude = shift_left(ratio, 2)
    return np.where(x == 0, 0, np.where(x < 0, -magnitude, magnitude))


def inverse_sqrt(values: Raw) -> tuple[Raw, Raw]:
    """Return the (multipliers, shifts) of 1 / sqrt(value) for 1 <= value < 2**29: five Newton steps."""
    bits = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    pairs = (31 - bits) // 2 - 1
    shift = 11 - pairs
    half = rounding_divide_by_pot((values << 2 * pairs) >> 1, 1)
    x: Raw = np.full(values.shape, 1 << 28, np.int64)
    for _ in range(5):
        cube = shift_left(multiply(multiply(x, x), x), 6)
        x = shift_left(multiply(x, 3 << 27) - multiply(half, cube), 3)
    x = multiply(x, HALF_SQRT_TWO) << np.maximum(-shift, 0)
    one = values <= 1
    return np.where(one, INT32_MAX, x), np.where(one, 0, np.minimum(-shift, 0))
