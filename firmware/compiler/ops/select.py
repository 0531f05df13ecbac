"""SELECT and SELECT_V2 with broadcasting. Any type; the three values share scale and zero-point.

SELECT also takes a condition of rank 1, one for each place of axis 0. TFLM has SELECT_V2 only, and of
three types; LiteRT is followed for the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import MAX_AXES, broadcast_strides, c_list, lead, merge, spans
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, moves_bytes


def _shapes(graph: Graph, node: Node) -> list[tuple[int, ...]]:
    """Return the shapes of condition and values as they broadcast."""
    condition, *values = (tensor(graph, node, position).shape for position in range(3))
    rank = len(output(graph, node).shape)
    if node.op == "SELECT" and len(condition) == 1 and rank > 1:
        condition = (*condition, *[1] * (rank - 1))
    return [condition, *values]


def _loops(graph: Graph, node: Node) -> tuple[tuple[int, ...], ...]:
    shape = output(graph, node).shape
    return merge(shape, *(broadcast_strides(own, shape) for own in _shapes(graph, node)))


def _check(graph: Graph, node: Node) -> None:
    y = only_output(graph, node)
    require_dtype(graph, node, tensor(graph, node, 0), "bool")
    for position in (1, 2):
        moves_bytes(graph, node, tensor(graph, node, position), y)
    shapes = _shapes(graph, node)
    if not spans(y.shape, *shapes):
        raise damaged(graph, node, f"shapes {shapes} do not give {y.shape}")
    if len(_loops(graph, node)[0]) > MAX_AXES:
        what = f"broadcasting {shapes} takes more than {MAX_AXES} loops"
        raise refuse(graph, node, what, "reshape all to fewer axes")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    condition, a, b = (x.reshape(shape) for x, shape in zip(inputs, _shapes(graph, node), strict=True))
    return [np.where(condition, a, b)]


def _call(graph: Graph, node: Node) -> Call:
    y, loops = output(graph, node), _loops(graph, node)
    lists = ", ".join(
        f".{name} = {c_list(lead(values, MAX_AXES, filler))}"
        for name, values, filler in zip(("size", "c", "a", "b"), loops, (1, 0, 0, 0), strict=True)
    )
    parameters = f"(struct ear_select){{ {lists}, .item = {np.dtype(y.dtype).itemsize} }}"
    return Call("select", ("{in0}", "{in1}", "{in2}", "{out0}", parameters))


OPS = (
    Op("SELECT", range(1, 5), _check, _meaning, _call, no_macs),
    Op("SELECT_V2", range(1, 3), _check, _meaning, _call, no_macs),
)
