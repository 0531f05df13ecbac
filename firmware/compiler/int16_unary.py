"""Functions of one int16 value as kernels compute them: a factor on each side of zero, sigmoids, curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from firmware.compiler import int16_functions
from firmware.compiler.fixed_functions import inverse_sqrt
from firmware.compiler.fixed_point import RANGES, multiply_by_quantised_multiplier, saturate
from firmware.compiler.graph import Array
from firmware.compiler.ops import Call, literal

RSQRT_BITS = 20  # that keep 1 / sqrt an integer


@dataclass(frozen=True)
class Piecewise:
    """One factor (multiplier, shift) from the zero-point up and one below it, then a clamp; any integers."""

    above: tuple[int, int]
    below: tuple[int, int]
    low: int
    high: int
    signs: tuple[int, int] = (1, 1)  # that a value above, or below, is multiplied with first
    zero_in: int = 0
    zero_out: int = 0

    def meaning(self, x: Array, dtype: str) -> Array:
        """Return the function of x as dtype."""
        wide = x.astype(np.int64) - self.zero_in
        above = multiply_by_quantised_multiplier(self.signs[0] * wide, *self.above)
        below = multiply_by_quantised_multiplier(self.signs[1] * wide, *self.below)
        scaled = np.where(wide >= 0, above, below) + self.zero_out
        made: Array = np.clip(scaled, self.low, self.high).astype(dtype)
        return made

    def call(self, elements: int, source: str, target: str) -> Call:
        """Return the kernel call for `elements` values of dtype `source`."""
        parameters = literal(
            "ear_piecewise",
            in_width=np.dtype(source).itemsize,
            out_width=np.dtype(target).itemsize,
            zero_x=self.zero_in,
            zero_y=self.zero_out,
            above=self.above[0],
            above_shift=self.above[1],
            below=self.below[0],
            below_shift=self.below[1],
            above_sign=self.signs[0],
            below_sign=self.signs[1],
            low=self.low,
            high=self.high,
        )
        return Call("piecewise", ("{in0}", "{out0}", str(elements), parameters))


@dataclass(frozen=True)
class Sigmoid:
    """Logistic or tanh."""

    factor: tuple[int, int]
    hyperbolic: bool

    def meaning(self, x: Array, dtype: str) -> Array:
        """Return the function of x as dtype."""
        return int16_functions.sigmoid(x, self.factor, self.hyperbolic).astype(dtype)

    def call(self, elements: int, source: str, target: str) -> Call:
        """Return the kernel call for `elements` values."""
        multiplier, shift = self.factor
        parameters = literal(
            "ear_sigmoid", multiplier=multiplier, shift=shift, hyperbolic=int(self.hyperbolic)
        )
        arguments = ("{in0}", "{out0}", str(elements), parameters, "{points}")
        points = {"points": int16_functions.sigmoid_points()}
        return Call("int16/sigmoid", arguments, points, function="ear_sigmoid")


@dataclass(frozen=True)
class Curve:
    """Points with straight lines between them."""

    points: Array

    def meaning(self, x: Array, dtype: str) -> Array:
        """Return the function of x as dtype."""
        return int16_functions.look_up(x, self.points).astype(dtype)

    def call(self, elements: int, source: str, target: str) -> Call:
        """Return the kernel call for `elements` values."""
        arguments = ("{in0}", "{out0}", str(elements), "{points}")
        return Call("int16/curve", arguments, {"points": self.points}, function="ear_curve")


@dataclass(frozen=True)
class Rsqrt:
    """1 / sqrt(x), the greatest value for x <= 0."""

    zero_in: int
    zero_out: int
    multiplier: int
    shift: int

    def meaning(self, x: Array, dtype: str) -> Array:
        """Return the function of x as dtype."""
        wide = x.astype(np.int64) - self.zero_in
        m, s = inverse_sqrt(np.maximum(wide, 1))
        inverse = multiply_by_quantised_multiplier(np.ones_like(wide), m, s + RSQRT_BITS)
        y = multiply_by_quantised_multiplier(inverse, self.multiplier, self.shift) + self.zero_out
        return saturate(np.where(wide > 0, y, RANGES[dtype][1]), dtype)

    def call(self, elements: int, source: str, target: str) -> Call:
        """Return the kernel call for `elements` int16 values."""
        arguments = ("{in0}", "{out0}", str(elements), str(self.multiplier), str(self.shift))
        return Call("int16/rsqrt", arguments, function="ear_rsqrt")


Function = Rsqrt | Piecewise | Sigmoid | Curve
