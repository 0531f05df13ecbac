"""L2_NORMALIZATION and LOG_SOFTMAX over the last axis, int8, TFLM to the bit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler import fixed_functions as fixed
from firmware.compiler.fixed_point import (
    multiply_by_quantised_multiplier,
    quantise_multiplier,
    rounding_divide_by_pot,
    saturate_int8,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import product
from firmware.compiler.ops import Call, Op, literal, output, refuse, tensor
from firmware.compiler.ops.quantize import int8_of, same_shape

BITS = 5  # before the point of a scaled difference
SUM_BITS = 12
MAX_DEPTH = (1 << SUM_BITS) - 1
LOG_2, ROOT, HALF_ROOT, QUARTER = 1488522236, 1805811301, 1518500250, 8388608
Raw = npt.NDArray[np.int64]


def _rows(graph: Graph, node: Node, scale: float, zero: int) -> tuple[int, int]:
    """Return (rows, depth); ModelError unless the output has this scale and zero-point."""
    same_shape(graph, node)
    x, y = tensor(graph, node, 0), output(graph, node)
    int8_of(graph, node, x)
    if int8_of(graph, node, y) != (scale, zero):
        found = int8_of(graph, node, y)
        what = (
            f"its output has scale {found[0]:.6g} and zero-point {found[1]}, not 1/{1 / scale:.0f} and {zero}"
        )
        raise refuse(graph, node, what, "quantise the model with a tool that keeps the TFLite int8 rules")
    if not x.shape or x.shape[-1] > MAX_DEPTH:
        raise refuse(graph, node, f"its rows are those of {x.shape}", f"keep the last axis to {MAX_DEPTH}")
    return product(x.shape[:-1]), x.shape[-1]


def _check_l2(graph: Graph, node: Node) -> None:
    _rows(graph, node, 1 / 128, 0)
    if node.options.get("fused_activation_function", "NONE") != "NONE":
        raise refuse(graph, node, "it has a fused activation", "make the activation an op")


def _l2(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x = inputs[0].astype(np.int64) - int8_of(graph, node, tensor(graph, node, 0))[1]
    squares = np.square(x).sum(axis=-1, keepdims=True)
    multipliers, shifts = fixed.inverse_sqrt(squares)
    return [saturate_int8(multiply_by_quantised_multiplier(x, multipliers, shifts + 7))]


def _call_l2(graph: Graph, node: Node) -> Call:
    sizes = (*_rows(graph, node, 1 / 128, 0), int8_of(graph, node, tensor(graph, node, 0))[1])
    arguments = ("{in0}", "{out0}", *(str(size) for size in sizes))
    return Call("normalise", arguments, function="ear_l2_normalise")


def _scaling(graph: Graph, node: Node) -> tuple[dict[str, int], Raw]:
    """Return the parameters of ear_log_softmax and its table of exponentials."""
    rows, depth = _rows(graph, node, 1 / 16, 127)
    scale = int8_of(graph, node, tensor(graph, node, 0))[0]
    real = min(scale * (1 << (31 - BITS)), (1 << 31) - 1.0)
    if real <= 1:
        raise refuse(graph, node, f"its input's scale {scale:.3g} is too fine", "calibrate on real inputs")
    multiplier, shift = quantise_multiplier(real)
    divisor, right = quantise_multiplier((1 << (31 - shift)) / multiplier)
    radius = math.floor(((1 << BITS) - 1) * (1 << (31 - BITS)) / (1 << shift))
    differences = -np.arange(min(radius, 255) + 1)
    table = fixed.exp_of_negative(multiply_by_quantised_multiplier(differences, multiplier, shift), BITS)
    fields = {"rows": rows, "depth": depth, "differences": radius + 1}
    return {**fields, "multiplier": multiplier, "shift": shift, "divisor": divisor, "right": right}, table


def _log(x: Raw) -> Raw:
    """Return log(x) in Q5 for x >= 1 in Q12: the better of two normal forms, a rational function there."""
    multiply, left = fixed.multiply, fixed.shift_left
    zeros_a = 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)
    a = left(multiply(left(x, zeros_a - 1), HALF_ROOT), 1)
    zeros_b = 31 - np.frexp(multiply(x, HALF_ROOT).astype(np.float64))[1].astype(np.int64)
    r = np.minimum(a, left(x, zeros_b))
    power = np.maximum(((12 - zeros_a) << 25) + QUARTER, ((12 - zeros_b) << 25) - QUARTER)
    p, q = (r + ROOT + 1) // 2, 2 * (r - ROOT)
    square = multiply(q, q)
    above = multiply(q, r) + multiply(multiply(q, square), 117049297)
    below = multiply(p, 1057819769 + q + multiply(square, 127690142)) + multiply(q, 638450708)
    inverse = left(fixed.half_denominator_reciprocal(below), 1)
    return left(multiply(power, LOG_2) + multiply(rounding_divide_by_pot(above, 6), inverse), 1)


def _check_log(graph: Graph, node: Node) -> None:
    _scaling(graph, node)


def _log_softmax(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p, exponentials = _scaling(graph, node)
    x = inputs[0].astype(np.int64)
    table = np.zeros(256, np.int64)
    table[: exponentials.size] = rounding_divide_by_pot(exponentials, SUM_BITS)
    difference = x - x.max(axis=-1, keepdims=True)
    log = _log(table[-difference].sum(axis=-1, keepdims=True))
    least = multiply_by_quantised_multiplier(log - (1 << 31), p["divisor"], p["right"])
    fine = multiply_by_quantised_multiplier(difference, p["multiplier"], p["shift"])
    y = saturate_int8(rounding_divide_by_pot(fine - log, 31 - BITS - 4) + 127)
    return [np.where(difference > np.maximum(-p["differences"], least), y, np.int8(-128))]


def _call_log(graph: Graph, node: Node) -> Call:
    p, exponentials = _scaling(graph, node)
    arguments = ("{in0}", "{out0}", "{exponentials}", literal("ear_log_softmax", **p))
    constants = {"exponentials": exponentials.astype(np.int32)}
    return Call("normalise", arguments, constants, function="ear_log_softmax")


def _macs(graph: Graph, node: Node) -> int:
    return 2 * output(graph, node).elements


OPS = (
    Op("L2_NORMALIZATION", range(1, 3), _check_l2, _l2, _call_l2, _macs, in_place=True, batch=True),
    Op("LOG_SOFTMAX", range(1, 3), _check_log, _log_softmax, _call_log, _macs, in_place=True, batch=True),
)
