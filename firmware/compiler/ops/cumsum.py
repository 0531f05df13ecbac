"""CUMSUM (int8, int32) and ADD_N (int8, int32, float32).

int8 has TFLM's roundings: 20 more bits, added, brought to the scale of the output. TFLM starts its sum at
minus the zero-point, and wraps past 4096 steps; ours starts at 0 and does not wrap, so it equals TFLM
for a zero-point of 0 and short sums. LiteRT has neither in int8; it is followed for int32, which wraps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.fixed_point import quantise_multiplier, rounding_divide_by_pot, saturate_int8
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import product
from firmware.compiler.ops import Call, Op, literal, no_macs, output, refuse, require_dtype, tensor
from firmware.compiler.ops.quantize import int8_of, same_shape
from firmware.compiler.ops.transpose import damaged, one_axis

LEFT_SHIFT = 20


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    (scale_x, zero_x), (scale_y, zero_y) = (
        int8_of(graph, node, value) for value in (tensor(graph, node, 0), output(graph, node))
    )
    multiplier, shift = quantise_multiplier(2.0 * scale_x / ((1 << LEFT_SHIFT) * scale_y))
    if shift > 0:
        what = f"the output's scale {scale_y:.3g} is too fine for inputs of {scale_x:.3g}"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    return {"zero_x": zero_x, "multiplier": multiplier, "shift": shift, "zero_y": zero_y}


def _narrow(graph: Graph, node: Node, total: Array) -> Array:
    """Return int64 sums of steps above the zero-point in the int8 of the output."""
    p = _factors(graph, node)
    high = (total * p["multiplier"] + (1 << 11)) >> 12  # (total << 19) * multiplier / 2**31, rounded
    return saturate_int8(rounding_divide_by_pot(high, -p["shift"]) + p["zero_y"])


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    x, y = tensor(graph, node, 0), output(graph, node)
    require_dtype(graph, node, x, "int8", "int32")
    require_dtype(graph, node, y, x.dtype)
    if x.shape[one_axis(graph, node)] > 1 << 22:
        raise damaged(graph, node, f"it adds up {x.shape[one_axis(graph, node)]} values")
    if x.dtype == "int8":
        _factors(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, axis = tensor(graph, node, 0), one_axis(graph, node)
    zero = int8_of(graph, node, x)[1] if x.dtype == "int8" else 0
    steps = inputs[0].astype(np.int64) - zero
    turned = np.flip(steps, axis) if node.options.get("reverse", False) else steps
    sums = np.cumsum(turned, axis=axis)
    sums = sums - turned if node.options.get("exclusive", False) else sums
    sums = np.flip(sums, axis) if node.options.get("reverse", False) else sums
    return [_narrow(graph, node, sums) if x.dtype == "int8" else sums.astype(np.int32)]


def _call(graph: Graph, node: Node) -> Call:
    x, axis = tensor(graph, node, 0), one_axis(graph, node)
    sizes = literal(
        "ear_cumsum",
        outer=product(x.shape[:axis]),
        length=x.shape[axis],
        inner=product(x.shape[axis + 1 :]),
        exclusive=int(node.options.get("exclusive", False)),
        reverse=int(node.options.get("reverse", False)),
    )
    if x.dtype == "int32":
        return Call("cumsum", ("{in0}", "{out0}", sizes), function="ear_cumsum_int32")
    return Call("cumsum", ("{in0}", "{out0}", sizes, literal("ear_sum", **_factors(graph, node))))


def _check_n(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    x, y = tensor(graph, node, 0), output(graph, node)
    require_dtype(graph, node, x, "int8", "int32", "float32")
    require_dtype(graph, node, y, x.dtype)
    if x.dtype == "int8":
        _factors(graph, node)
    for position in range(1, len(node.inputs)):
        other = tensor(graph, node, position)
        if other.shape != x.shape or other.dtype != x.dtype:
            raise damaged(graph, node, f"it adds {other.dtype} {other.shape} to {x.dtype} {x.shape}")
        if x.dtype == "int8" and int8_of(graph, node, other) != int8_of(graph, node, x):
            what = f"{other.name!r} and {x.name!r} differ in scale or zero-point"
            raise refuse(graph, node, what, "write it as a chain of ADD")


def _add_n(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x = tensor(graph, node, 0)
    if x.dtype == "float32":
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return [total]
    zero = int8_of(graph, node, x)[1] if x.dtype == "int8" else 0
    sums = np.sum([value.astype(np.int64) - zero for value in inputs], axis=0)
    return [_narrow(graph, node, sums) if x.dtype == "int8" else sums.astype(np.int32)]


def _call_n(graph: Graph, node: Node) -> Call:
    x = tensor(graph, node, 0)
    kind = {"int8": "int8_t", "int32": "int32_t", "float32": "float"}[x.dtype]
    sources = ", ".join(f"{{in{position}}}" for position in range(len(node.inputs)))
    listed = f"(const {kind} *const[]){{ {sources} }}"
    arguments = (listed, "{out0}", str(len(node.inputs)), str(x.elements))
    if x.dtype == "int8":
        return Call("cumsum", (*arguments, literal("ear_sum", **_factors(graph, node))), function="ear_add_n")
    return Call("cumsum", arguments, function=f"ear_add_n_{x.dtype}")


OPS = (
    Op("CUMSUM", range(1, 2), _check, _meaning, _call, no_macs, in_place=True),
    Op("ADD_N", range(1, 3), _check_n, _add_n, _call_n, no_macs, in_place=True),
)
