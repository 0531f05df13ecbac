"""Ops of one input, element by element: of int8 each becomes a table of 256 results, made when compiling.

ABS, ELU, HARD_SWISH, LEAKY_RELU, LOGISTIC, RELU, RSQRT and TANH are TFLM's to the bit, factors worked out in
double (LiteRT's reference takes float32 and differs by 1 on rare bytes). Elsewhere:

- RELU6: TFLM clamps the raw byte and forgets the output's scale; LiteRT rescales, and is followed. They agree
  when input and output share the scale.
- EXP, GELU, LOG, RELU_N1_TO_1, RELU_0_TO_1, SQRT: not in TFLM for int8; LiteRT's reference is followed (its
  SQRT cuts steps off; below zero ours gives 0).
- NEG: not in TFLM for int8; LiteRT negates the raw byte, which is right only for zero-point 0 and equal
  scales, and wraps at -128. Ours is the affine negation, saturated.
- CEIL, COS, FLOOR, POW (one constant exponent), ROUND (halves to even), SIGN, SIN, SQUARE: neither has
  int8; ours is the nearest output to the real function, 0 where it is not a real number.
- int16: ABS, LEAKY_RELU, LOGISTIC, RELU, RSQRT, TANH as TFLM; EXP, LOG and RELU6 as LiteRT; NEG affine;
  the other clamps ours, and COS, ELU, GELU, HARD_SWISH, SIN, SQRT (LiteRT has it, and cuts
  steps off), SQUARE along a curve of 513 points.
- RSQRT of a value below zero stops TFLM and LiteRT; ours gives the largest output, as for zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from firmware.compiler.fixed_functions import logistic, tanh
from firmware.compiler.fixed_point import (
    RANGES,
    multiply_by_quantised_multiplier,
    quantise_multiplier,
    round_half_away,
    rounding_divide_by_pot,
    saturate_int8,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.int16_functions import curve, sigmoid_factor
from firmware.compiler.int16_unary import RSQRT_BITS, Curve, Function, Piecewise, Rsqrt, Sigmoid
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, require_constant, tensor
from firmware.compiler.ops.quantize import (
    MAX_SHIFT,
    by_byte,
    factor,
    int8_of,
    quantised,
    same_dtype,
    same_shape,
)

VALUES = np.arange(-128, 128, dtype=np.int64)
HIGHEST_FACTOR = 32767  # of the int16 logistic and tanh: 15 bits
INPUT_BITS = 4  # logistic and tanh see their input in Q4


def _scales(graph: Graph, node: Node) -> tuple[float, int, float, int]:
    """Return (input scale, zero-point, output scale, zero-point)."""
    return *quantised(graph, node, tensor(graph, node, 0)), *quantised(graph, node, output(graph, node))


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


def _rsqrt_factor(graph: Graph, node: Node) -> Rsqrt:
    scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
    multiplier, shift = factor(graph, node, 1.0 / (math.sqrt(scale_in) * scale_out))
    extra = RSQRT_BITS
    if not -31 <= shift - extra <= MAX_SHIFT:
        what = f"its scales {scale_in:.3g} and {scale_out:.3g} are out of proportion"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    return Rsqrt(zero_in, zero_out, multiplier, shift - extra)


def _rsqrt(graph: Graph, node: Node) -> Array:
    return _rsqrt_factor(graph, node).meaning(VALUES, "int8")


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


def sampled(function: Callable[[float, Node], float]) -> Callable[[Graph, Node], Array]:
    """Return the table of a real function: the nearest output to function(input), halves away from zero."""

    def table(graph: Graph, node: Node) -> Array:
        scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
        inverse = np.float32(1) / np.float32(scale_out)
        real = (VALUES - zero_in).astype(np.float32) * np.float32(scale_in)
        steps = np.array([np.float32(function(float(x), node)) * inverse for x in real], np.float32)
        steps = np.clip(steps, -1024, 1024).astype(np.float64)
        return saturate_int8(np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zero_out)

    return table


def _square_root(graph: Graph, node: Node) -> Array:
    """Return the table of sqrt as LiteRT has it: steps are cut off, not rounded."""
    scale_in, zero_in, scale_out, zero_out = _scales(graph, node)
    real = np.maximum(VALUES - zero_in, 0).astype(np.float32) * np.float32(scale_in)
    steps = np.trunc(np.sqrt(real) / np.float32(scale_out)).astype(np.float64)
    return saturate_int8(np.clip(steps, 0, 1024) + zero_out)


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


def _sqrt(x: float, node: Node) -> float:
    return math.sqrt(max(x, 0.0))


def _sign(x: float, node: Node) -> float:
    return math.copysign(1.0, x) if x else 0.0


def power(base: float, exponent: float) -> float:
    """Return base ** exponent; 0 where the result is not a real number."""
    with np.errstate(all="ignore"):
        result = float(np.float64(base) ** np.float64(exponent))
    return 0.0 if math.isnan(result) else result


def _pow(graph: Graph, node: Node) -> Array:
    """Return the table of a power with a constant exponent."""
    value = tensor(graph, node, 1)
    exponents = require_constant(graph, node, value).astype(np.float64)
    if value.dtype == "int8":
        scale, zero = int8_of(graph, node, value)
        exponents = (exponents - zero) * scale
    if exponents.size != 1:
        raise refuse(graph, node, f"{exponents.size} exponents", "use one exponent, or MUL")
    return sampled(lambda x, _: power(x, float(exponents.reshape(-1)[0])))(graph, node)


TABLES: dict[str, tuple[Callable[[Graph, Node], Array], int]] = {  # op: (its table, newest version)
    "ABS": (_absolute, 6),
    "CEIL": (sampled(lambda x, _: math.ceil(x)), 1),
    "COS": (sampled(lambda x, _: math.cos(x)), 1),
    "ELU": (sampled(_elu), 1),
    "EXP": (sampled(_exp), 2),
    "FLOOR": (sampled(lambda x, _: math.floor(x)), 1),
    "GELU": (sampled(_gelu), 2),
    "HARD_SWISH": (_hard_swish, 1),
    "LEAKY_RELU": (_leaky_relu, 2),
    "LOG": (sampled(_log), 2),
    "LOGISTIC": (_squashed(logistic, 256, -128, 23), 3),
    "NEG": (_negative, 2),
    "POW": (_pow, 1),
    "RELU": (_relu, 3),
    "RELU6": (_clamped(0.0, 6.0), 3),
    "RELU_0_TO_1": (_clamped(0.0, 1.0), 1),
    "RELU_N1_TO_1": (_clamped(-1.0, 1.0), 1),
    "ROUND": (sampled(lambda x, _: round(x)), 1),
    "RSQRT": (_rsqrt, 3),
    "SIGN": (sampled(_sign), 2),
    "SIN": (sampled(lambda x, _: math.sin(x)), 1),
    "SQRT": (_square_root, 2),
    "SQUARE": (sampled(lambda x, _: x * x), 1),
    "TANH": (_squashed(tanh, 128, 0, 24), 3),
}


def table(graph: Graph, node: Node) -> Array:
    """Return what the node makes of each of -128..127, int8 (256,), in the order of the unsigned byte."""
    return by_byte(TABLES[node.op][0](graph, node))


# Functions of int16 that go along a curve of 513 points.
CURVES: dict[str, Callable[[float, Node], float]] = {
    "COS": lambda x, _: math.cos(x),
    "ELU": _elu,
    "EXP": _exp,
    "GELU": _gelu,
    "HARD_SWISH": lambda x, _: x * min(max(x + 3, 0.0), 6.0) / 6,
    "LOG": _log,
    "SIN": lambda x, _: math.sin(x),
    "SQRT": _sqrt,
    "SQUARE": lambda x, _: x * x,
}
BOUNDS = {
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_0_TO_1": (0.0, 1.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def _wide(graph: Graph, node: Node) -> Function:
    """Return the function of an int16 node."""
    x, y = tensor(graph, node, 0), output(graph, node)
    (source, _), (target, _) = quantised(graph, node, x), quantised(graph, node, y)
    if node.op in ("LOGISTIC", "TANH"):
        return _wide_sigmoid(graph, node, source, target)
    if node.op == "RSQRT":
        return _rsqrt_factor(graph, node)
    if node.op in CURVES:
        function = CURVES[node.op]
        return Curve(curve(lambda value: function(value, node), (source, 0), (target, 0)))
    low, high = RANGES["int16"]
    same = factor(graph, node, source / target)
    if node.op in BOUNDS:
        if node.op != "RELU":  # LiteRT works in float32
            same = factor(graph, node, float(np.float32(source) / np.float32(target)))
        bounds = np.clip([bound / target for bound in BOUNDS[node.op]], low, high).astype(np.float32)
        least, most = (round_half_away(float(bound)) for bound in bounds)
        return Piecewise(same, same, least, most)
    if node.op == "LEAKY_RELU":
        alpha = source * float(node.options.get("alpha", 0.0)) / target
        if alpha < 0:
            raise refuse(graph, node, f"a negative slope ({alpha:.3g}) on int16", "write it as RELU and MUL")
        return Piecewise(same, factor(graph, node, alpha), low, high)
    if node.op == "ABS":
        return Piecewise(same, same, low, high, signs=(1, -1))
    if node.op == "NEG":
        return Piecewise(same, same, low, high, signs=(-1, -1))
    raise refuse(graph, node, f"{x.name!r} is int16", "quantise this op to int8, or write it with other ops")


def _wide_sigmoid(graph: Graph, node: Node, source: float, target: float) -> Sigmoid:
    if not math.isclose(target, 1 / 32768, rel_tol=1e-3):
        what = f"its int16 output has scale {target:.6g}, not 1/32768"
        raise refuse(graph, node, what, "quantise the model with a tool that keeps the TFLite rules")
    made = sigmoid_factor(source, (0,) if node.op == "LOGISTIC" else (0, 1))
    if made[0] > HIGHEST_FACTOR:
        what = f"its input's scale {source:.3g} is too coarse"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    return Sigmoid(made, node.op == "TANH")


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    if same_dtype(graph, node, tensor(graph, node, 0), output(graph, node)) == "int16":
        _wide(graph, node)
    else:
        table(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    if inputs[0].dtype == np.int16:
        return [_wide(graph, node).meaning(inputs[0], "int16")]
    return [table(graph, node)[inputs[0].view(np.uint8)]]


def _call(graph: Graph, node: Node) -> Call:
    elements = output(graph, node).elements
    if tensor(graph, node, 0).dtype == "int16":
        return _wide(graph, node).call(elements, "int16", "int16")
    arguments = ("{in0}", "{out0}", str(elements), "{table}")
    return Call("table", arguments, {"table": table(graph, node)})


OPS = tuple(
    Op(name, range(1, newest + 1), _check, _meaning, _call, no_macs, in_place=True, batch=True)
    for name, (_, newest) in TABLES.items()
)
