"""Ops of one int8 input, element by element: each becomes a table of 256 results, made when compiling.

ABS, ELU, HARD_SWISH, LEAKY_RELU, LOGISTIC, RELU, RSQRT and TANH are TFLM's to the bit, factors worked out in
double (LiteRT's reference takes float32 and differs by 1 on rare bytes). Elsewhere:

- RELU6: TFLM clamps the raw byte and forgets the output's scale; LiteRT rescales, and is followed. They agree
  when input and output share the scale.
- EXP, GELU, LOG, RELU_N1_TO_1, RELU_0_TO_1: not in TFLM for int8; LiteRT's reference is followed.
- NEG: not in TFLM for int8; LiteRT negates the raw byte, which is right only for zero-point 0 and equal
  scales, and wraps at -128. Ours is the affine negation, saturated.
- RSQRT of a value below zero stops TFLM and LiteRT; ours gives the largest output, as for zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from firmware.compiler.fixed_functions import inverse_sqrt, logistic, tanh
from firmware.compiler.fixed_point import (
    multiply_by_quantised_multiplier,
    quantise_multiplier,
    round_half_away,
    rounding_divide_by_pot,
    saturate_int8,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, tensor
from firmware.compiler.ops.quantize import MAX_SHIFT, by_byte, factor, int8_of, same_shape

VALUES = np.arange(-128, 128, dtype=np.int64)
INPUT_BITS = 4  # logistic and tanh see their input in Q4


def _scales(graph: Graph, node: Node) -> tuple[float, int, float, int]:
    """Return (input scale, zero-point, output scale, zero-point)."""
    return *int8_of(graph, node, tensor(graph, node, 0)), *int8_of(graph, node, output(graph, node))


def _ratio(graph: Graph, node: Node, alpha: float = 1.0) -> tuple[int, int]:
    """Return the factor input scale * alpha / output scale."""
    scale_in, _, scale_out, _ = _scales(graph, node)
    return factor(graph, node, scale_in * alpha / scale_out)


def _relu(graph: Graph, node: Node) -> Array:
    _, zero_in, _, zero_out = _scales(graph, node)
    scaled = multiply_by_quantised_multiplier(VALUES - zero_in, *_ratio(graph, node))
    return saturate_int8(scaled + zero_out, low=zero_out)


def _clamped(low: float, high: float) -> Callable[[Graph, Node], Array]:
    """Return the table of a clamp; its factor and bounds are worked out in float32, as LiteRT does."""

    def table(graph: Graph, node: Node) -> Array:
        scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
        ratio = factor(graph, node, float(np.float32(scale_in) / np.float32(scale_out)))
        lowest, highest = (
            zero_out + round_half_away(float(np.float32(bound) / np.float32(scale_out)))
            for bound in (low, high)
        )
        scaled = multiply_by_quantised_multiplier(VALUES - zero_in, *ratio)
        return saturate_int8(scaled + zero_out, max(-128, lowest), min(127, highest))

    return table


def _leaky_relu(graph: Graph, node: Node) -> Array:
    _, zero_in, _, zero_out = _scales(graph, node)
    x = VALUES - zero_in
    alpha = float(node.options.get("alpha", 0.0))
    below = multiply_by_quantised_multiplier(x, *_ratio(graph, node, abs(alpha)))
    above = multiply_by_quantised_multiplier(x, *_ratio(graph, node))
    return saturate_int8(np.where(x >= 0, above, math.copysign(1, alpha) * below).astype(np.int64) + zero_out)


def _absolute(graph: Graph, node: Node) -> Array:
    scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
    magnitude = np.abs(VALUES - zero_in)
    if scale_in != scale_out:
        magnitude = multiply_by_quantised_multiplier(magnitude, *_ratio(graph, node))
    return saturate_int8(magnitude + zero_out)


def _negative(graph: Graph, node: Node) -> Array:
    _, zero_in, _, zero_out = _scales(graph, node)
    return saturate_int8(multiply_by_quantised_multiplier(zero_in - VALUES, *_ratio(graph, node)) + zero_out)


def _rsqrt(graph: Graph, node: Node) -> Array:
    scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
    multiplier, shift = factor(graph, node, 1.0 / (math.sqrt(scale_in) * scale_out))
    extra = 20  # bits that keep 1 / sqrt an integer
    if not -31 <= shift - extra <= MAX_SHIFT:
        what = f"its scales {scale_in:.3g} and {scale_out:.3g} are out of proportion"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    y = np.full(256, 127, np.int64)
    for i, value in enumerate(range(-128 - zero_in, 128 - zero_in)):
        if value > 0:
            m, s = inverse_sqrt(value)
            inverse = multiply_by_quantised_multiplier(np.array(1), m, s + extra)
            y[i] = multiply_by_quantised_multiplier(inverse, multiplier, shift - extra) + zero_out
    return saturate_int8(y)


def _squashed(
    function: Callable[[Array], Array], divisor: int, zero: int, bits: int
) -> Callable[[Graph, Node], Array]:
    """Return the table of a function whose output has scale 1 / divisor and this zero-point."""

    def table(graph: Graph, node: Node) -> Array:
        scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
        if (scale_out, zero_out) != (1 / divisor, zero):
            what = (
                f"its output has scale {scale_out:.6g} and zero-point {zero_out}, not 1/{divisor} and {zero}"
            )
            raise refuse(graph, node, what, "quantise the model with a tool that keeps the TFLite int8 rules")
        multiplier, shift = quantise_multiplier(scale_in * (1 << (31 - INPUT_BITS)))
        if shift < 0:
            what = f"its input's scale {scale_in:.3g} is too fine"
            raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
        radius = (((1 << INPUT_BITS) - 1) << (31 - INPUT_BITS)) >> shift  # 0: every step saturates
        x = VALUES - zero_in
        inside = np.where(np.abs(x) < radius, x, 0)
        fixed = multiply_by_quantised_multiplier(inside, multiplier, min(shift, MAX_SHIFT))
        y = rounding_divide_by_pot(function(fixed), bits)
        return np.where(x <= -radius, -128, np.where(x >= radius, 127, saturate_int8(y + zero))).astype(
            np.int8
        )

    return table


def _int16(x: Array) -> Array:
    return np.clip(x, -(1 << 15), (1 << 15) - 1)


def _high_half(real: float) -> tuple[int, int]:
    """Return the (multiplier, shift) of a factor with a multiplier of 16 bits."""
    fixed, shift = quantise_multiplier(real)
    return min((fixed + (1 << 15)) >> 16, (1 << 15) - 1), shift


def _hard_swish(graph: Graph, node: Node) -> Array:
    """Return x * relu6(x + 3) / 6 in 16 bits: the ramp (x + 3) / 6 in [0, 1] times x."""
    scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
    fine = scale_in / 128
    to_output, down = _high_half(fine / scale_out)
    to_ramp, up = _high_half(fine / (3 / 32768))
    if not -15 <= down <= 0:
        what = f"its scales {scale_in:.3g} and {scale_out:.3g} are out of proportion"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")

    def rounded_high(a: Array, b: int) -> Array:
        return (a * b + (1 << 14)) >> 15

    x = (VALUES - zero_in) << 7
    preshift = rounded_high(x, to_output)
    ramp = rounded_high(_int16(x << (up - 1)) if up > 0 else x, to_ramp)
    ramp = _int16(ramp << 1) if up > 0 else rounding_divide_by_pot(ramp, -up)
    ramp = (ramp + (1 << 15)) >> 1
    product = np.trunc(ramp * preshift / (1 << 15)).astype(np.int64)
    return saturate_int8(rounding_divide_by_pot(product, -down) + zero_out)


def _sampled(function: Callable[[float, Node], float]) -> Callable[[Graph, Node], Array]:
    """Return the table of a real function: the nearest output to function(input), halves away from zero."""

    def table(graph: Graph, node: Node) -> Array:
        scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
        inverse = np.float32(1) / np.float32(scale_out)
        real = (VALUES - zero_in).astype(np.float32) * np.float32(scale_in)
        steps = np.array([np.float32(function(float(x), node)) * inverse for x in real], np.float32)
        steps = np.clip(steps, -1024, 1024).astype(np.float64)
        return saturate_int8(np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zero_out)

    return table


def _gelu(x: float, node: Node) -> float:
    if node.options.get("approximate", False):
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * math.erfc(-x * math.sqrt(0.5))


def _elu(x: float, node: Node) -> float:
    return x if x >= 0 else math.expm1(x)


def _exp(x: float, node: Node) -> float:
    return math.exp(min(x, 80.0))


def _log(x: float, node: Node) -> float:
    return math.log(x) if x > 0 else -math.inf


TABLES: dict[str, tuple[Callable[[Graph, Node], Array], int]] = {  # op: (its table, newest version)
    "ABS": (_absolute, 6),
    "ELU": (_sampled(_elu), 1),
    "EXP": (_sampled(_exp), 2),
    "GELU": (_sampled(_gelu), 2),
    "HARD_SWISH": (_hard_swish, 1),
    "LEAKY_RELU": (_leaky_relu, 2),
    "LOG": (_sampled(_log), 2),
    "LOGISTIC": (_squashed(logistic, 256, -128, 23), 3),
    "NEG": (_negative, 2),
    "RELU": (_relu, 3),
    "RELU6": (_clamped(0.0, 6.0), 3),
    "RELU_0_TO_1": (_clamped(0.0, 1.0), 1),
    "RELU_N1_TO_1": (_clamped(-1.0, 1.0), 1),
    "RSQRT": (_rsqrt, 3),
    "TANH": (_squashed(tanh, 128, 0, 24), 3),
}


def table(graph: Graph, node: Node) -> Array:
    """Return what the node makes of each of -128..127, int8 (256,), in the order of the unsigned byte."""
    return by_byte(TABLES[node.op][0](graph, node))


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    table(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    return [table(graph, node)[inputs[0].view(np.uint8)]]


def _call(graph: Graph, node: Node) -> Call:
    arguments = ("{in0}", "{out0}", str(output(graph, node).elements), "{table}")
    return Call("table", arguments, {"table": table(graph, node)})


OPS = tuple(
    Op(name, range(1, newest + 1), _check, _meaning, _call, no_macs, in_place=True, batch=True)
    for name, (_, newest) in TABLES.items()
)
