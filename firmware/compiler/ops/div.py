"""DIV (int8, int32), FLOOR_DIV and FLOOR_MOD (int32), with broadcasting.

int8 as TFLM. Its DIV leaves open what a division by the zero-point gives (ours: the end of the range that has
the sign of the dividend, the zero-point for 0 / 0), and shifts too far when the output's scale is above 1/64
of the quotient of the inputs' (ours gives the quotient). int32 as TFLM's DIV and LiteRT's others, but 0 for a
division by 0, which stops both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from firmware.compiler.fixed_functions import half_denominator_reciprocal, shift_left
from firmware.compiler.fixed_point import (
    quantise_multiplier,
    rounding_divide_by_pot,
    saturate_int8,
    saturating_rounding_doubling_high_mul,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, stacked
from firmware.compiler.ops import Call, Op, literal, no_macs, output, refuse, require_dtype, tensor
from firmware.compiler.ops.add import call_pair, check_broadcast, clamp, pair
from firmware.compiler.ops.quantize import int8_of, only_output

MAX_SHIFT = 23  # TFLM shifts right by at least the difference


def _int8_check(graph: Graph, node: Node) -> None:
    for value in (tensor(graph, node, 0), tensor(graph, node, 1), only_output(graph, node)):
        int8_of(graph, node, value)
    check_broadcast(graph, node)


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    values = (tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node))
    (scale_a, zero_a), (scale_b, zero_b), (scale_y, zero_y) = (int8_of(graph, node, v) for v in values)
    real = scale_a / (scale_b * scale_y)
    multiplier, shift = quantise_multiplier(real) if np.isfinite(real) else (0, MAX_SHIFT + 1)
    if shift > MAX_SHIFT:
        what = f"its scales are out of proportion (factor {real:.3g}, at most {2.0**MAX_SHIFT:.3g})"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    low, high = clamp(graph, node)
    fields = {"zero_a": zero_a, "zero_b": zero_b, "zero_y": zero_y, "multiplier": multiplier, "shift": shift}
    return {**fields, "low": low, "high": high}


def _quotient(graph: Graph, node: Node, a: Array, b: Array) -> Array:
    """Return the int8 quotient of int64 steps above the zero-points, in 32 bits as TFLM."""
    p = _factors(graph, node)
    a, b = np.where(b < 0, -a, a), np.abs(b)
    bits = np.frexp(np.maximum(b, 1).astype(np.float64))[1].astype(np.int64)  # of b
    normal = (np.maximum(b, 1) << (32 - bits)) - (1 << 31)
    inverse = shift_left(half_denominator_reciprocal(normal), 1)
    used = np.frexp(np.where(a < 0, ~a, a).astype(np.float64))[1].astype(np.int64)
    headroom = np.where(a == 0, 31, 31 - used)
    ratio = saturating_rounding_doubling_high_mul(a << headroom, inverse)
    scaled = saturating_rounding_doubling_high_mul(ratio, p["multiplier"])
    down = bits - 1 + headroom - p["shift"]
    y = np.where(down > 31, 0, rounding_divide_by_pot(scaled, np.minimum(down, 31))) + p["zero_y"]
    endless = np.where(a > 0, p["high"], np.where(a < 0, p["low"], p["zero_y"]))
    return saturate_int8(np.where(b == 0, endless, y), p["low"], p["high"])


def _int_div(a: Array, b: Array) -> Array:
    magnitude: Array = np.abs(a) // np.maximum(np.abs(b), 1)
    return np.sign(a) * np.sign(b) * magnitude


def _int_floor_div(a: Array, b: Array) -> Array:
    return np.where(b == 0, 0, a // np.where(b == 0, 1, b))


def _int_floor_mod(a: Array, b: Array) -> Array:
    return np.where(b == 0, 0, a % np.where(b == 0, 1, b))


WHOLE: dict[str, Callable[[Array, Array], Array]] = {
    "DIV": _int_div,
    "FLOOR_DIV": _int_floor_div,
    "FLOOR_MOD": _int_floor_mod,
}


def _check(graph: Graph, node: Node) -> None:
    x = tensor(graph, node, 0)
    if node.op == "DIV" and x.dtype == "int8":
        _int8_check(graph, node)
        _factors(graph, node)
        return
    if node.op != "DIV" and x.dtype == "int8":
        cure = "leave the op in float32 when quantising, or write it with MUL and a table of its values"
        raise refuse(graph, node, f"tensor {x.name!r} is int8: it has no quantised meaning", cure)
    for value in (x, tensor(graph, node, 1), only_output(graph, node)):
        require_dtype(graph, node, value, "int32")
    check_broadcast(graph, node)
    if node.options.get("fused_activation_function", "NONE") != "NONE":
        raise refuse(graph, node, "it has a fused activation", "make the activation an op")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    y = output(graph, node)
    if tensor(graph, node, 0).dtype == "int8":
        return [stacked(_quotient(graph, node, *pair(graph, node, inputs)), y)]
    a, b = (by_clip(x, tensor(graph, node, i), len(y.shape)).astype(np.int64) for i, x in enumerate(inputs))
    return [stacked(WHOLE[node.op](a, b).astype(np.int32), y)]


def _call(graph: Graph, node: Node) -> Call:
    if tensor(graph, node, 0).dtype == "int8":
        return call_pair(graph, node, "div", literal("ear_div", **_factors(graph, node)))
    call = call_pair(graph, node, "div", f"ear_int_{node.op.lower()}")
    return Call("div", call.arguments, function="ear_int_pair")


OPS = (
    Op("DIV", range(1, 4), _check, _meaning, _call, no_macs, in_place=True, batch=True),
    Op("FLOOR_DIV", range(1, 4), _check, _meaning, _call, no_macs, in_place=True, batch=True),
    Op("FLOOR_MOD", range(1, 3), _check, _meaning, _call, no_macs, in_place=True, batch=True),
)
