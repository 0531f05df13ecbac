"""EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, LOGICAL_AND, LOGICAL_OR and LOGICAL_NOT.

int8 as TFLM: 256 (x - zero) times the scale, rounded, is compared, so that values closer than 1/256 may be
equal. TFLM stops at a scale of 1 or more; ours goes on to 16384. int16 must share one scale: TFLM
has none, and LiteRT leaves an order with broadcasting undone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.fixed_point import multiply_by_quantised_multiplier, quantise_multiplier
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, stacked
from firmware.compiler.ops import Call, Op, literal, no_macs, output, refuse, require_dtype, tensor
from firmware.compiler.ops.add import call_pair, check_broadcast
from firmware.compiler.ops.quantize import int8_of, only_output, same_shape
from firmware.compiler.ops.transpose import moves_bytes

RELATIONS = {
    "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
}
NEWEST = {"EQUAL": 4, "NOT_EQUAL": 3}
LEFT_SHIFT = 8
MAX_SHIFT = 14
TYPES = ("int8", "int16", "int32", "int64", "float32")


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    fields: dict[str, int] = {}
    for name, position in (("a", 0), ("b", 1)):
        scale, zero = int8_of(graph, node, tensor(graph, node, position))
        multiplier, shift = quantise_multiplier(scale)
        if shift > MAX_SHIFT:
            raise refuse(
                graph, node, f"the scale {scale:.3g} is above 2^{MAX_SHIFT}", "calibrate on real data"
            )
        fields |= {f"zero_{name}": zero, f"multiplier_{name}": multiplier, f"shift_{name}": shift}
    return {**fields, "relation": [*RELATIONS].index(node.op)}


def _check(graph: Graph, node: Node) -> None:
    a, b, y = tensor(graph, node, 0), tensor(graph, node, 1), only_output(graph, node)
    require_dtype(graph, node, a, *TYPES, *(["bool"] if node.op in NEWEST else []))
    require_dtype(graph, node, b, a.dtype)
    require_dtype(graph, node, y, "bool")
    check_broadcast(graph, node)
    if a.dtype == "int8":
        _factors(graph, node)
    else:
        moves_bytes(graph, node, a, b)


def _operand(graph: Graph, node: Node, position: int, x: Array) -> Array:
    """Return an input as (clips, ...) in the numbers that are compared."""
    value = tensor(graph, node, position)
    wide = by_clip(x, value, len(output(graph, node).shape))
    if value.dtype != "int8":
        return wide
    p, name = _factors(graph, node), "ab"[position]
    steps = (wide.astype(np.int64) - p[f"zero_{name}"]) << LEFT_SHIFT
    return multiply_by_quantised_multiplier(steps, p[f"multiplier_{name}"], p[f"shift_{name}"])


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    a, b = (_operand(graph, node, i, x) for i, x in enumerate(inputs))
    return [stacked(RELATIONS[node.op](a, b), output(graph, node))]


def _call(graph: Graph, node: Node) -> Call:
    dtype = tensor(graph, node, 0).dtype
    if dtype == "int8":
        return call_pair(graph, node, "compare", literal("ear_compare", **_factors(graph, node)))
    call = call_pair(graph, node, "compare", str([*RELATIONS].index(node.op)))
    return Call("compare", call.arguments, function=f"ear_compare_{dtype}")


def _check_logic(graph: Graph, node: Node) -> None:
    for value in (tensor(graph, node, 0), tensor(graph, node, 1), only_output(graph, node)):
        require_dtype(graph, node, value, "bool")
    check_broadcast(graph, node)


def _logic(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    rank = len(output(graph, node).shape)
    a, b = (by_clip(x, tensor(graph, node, i), rank) for i, x in enumerate(inputs))
    return [stacked(a | b if node.op == "LOGICAL_OR" else a & b, output(graph, node))]


def _call_logic(graph: Graph, node: Node) -> Call:
    call = call_pair(graph, node, "compare", str(int(node.op == "LOGICAL_OR")))
    return Call("compare", call.arguments, function="ear_logical")


def _check_not(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    for value in (tensor(graph, node, 0), output(graph, node)):
        require_dtype(graph, node, value, "bool")


def _not(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    return [~inputs[0]]


def _call_not(graph: Graph, node: Node) -> Call:
    arguments = ("{in0}", "{out0}", str(output(graph, node).elements))
    return Call("compare", arguments, function="ear_logical_not")


OPS = (
    *(
        Op(name, range(1, NEWEST.get(name, 2) + 1), _check, _meaning, _call, no_macs, batch=True)
        for name in RELATIONS
    ),
    *(
        Op(name, range(1, 2), _check_logic, _logic, _call_logic, no_macs, in_place=True, batch=True)
        for name in ("LOGICAL_AND", "LOGICAL_OR")
    ),
    Op("LOGICAL_NOT", range(1, 2), _check_not, _not, _call_not, no_macs, in_place=True, batch=True),
)
