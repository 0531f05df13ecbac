"""DYNAMIC_UPDATE_SLICE: a smaller tensor laid over another at a run-time place, moved inside. Any type."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import MAX_AXES, c_list, lead, strides
from firmware.compiler.ops import Call, Op, no_macs, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, moves_bytes


def _check(graph: Graph, node: Node) -> None:
    x, update, start, y = (*(tensor(graph, node, i) for i in range(3)), only_output(graph, node))
    moves_bytes(graph, node, x, y)
    moves_bytes(graph, node, update, y)
    require_dtype(graph, node, start, "int32", "int64")
    rank = len(x.shape)
    fits = len(update.shape) == rank and all(a <= b for a, b in zip(update.shape, x.shape, strict=True))
    if not fits or x.shape != y.shape or start.elements != rank or not 1 <= rank <= MAX_AXES:
        raise damaged(
            graph, node, f"{update.shape} laid over {x.shape} at {start.elements} numbers is not {y.shape}"
        )


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, update, start = inputs
    made = x.copy()
    place = np.clip(start.reshape(-1), 0, np.array(x.shape) - update.shape)
    made[tuple(slice(p, p + n) for p, n in zip(place, update.shape, strict=True))] = update
    return [made]


def _call(graph: Graph, node: Node) -> Call:
    x, update, start = (tensor(graph, node, i) for i in range(3))
    item = np.dtype(x.dtype).itemsize
    lists = ", ".join(
        f".{name} = {c_list(lead(values, MAX_AXES, filler))}"
        for name, values, filler in (
            ("size", x.shape, 1),
            ("update", update.shape, 1),
            ("step", (step * item for step in strides(x.shape)), 0),
        )
    )
    index = np.dtype(start.dtype).itemsize
    sizes = f"(struct ear_update){{ .bytes = {x.bytes}, {lists}, .index = {index}, .item = {item} }}"
    return Call("update_slice", ("{in0}", "{in1}", "{in2}", "{out0}", sizes, str(len(x.shape))))


OP = Op(
    "DYNAMIC_UPDATE_SLICE",
    range(1, 5),
    _check,
    _meaning,
    _call,
    no_macs,
    in_place=True,
    updates={0: 0},
)
