"""SPLIT, SPLIT_V and UNPACK: pieces of a tensor along one axis. Any type; scales must not change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.operands import by_clip, positive_axis, product, stacked
from firmware.compiler.ops import Call, Op, no_macs, output, tensor
from firmware.compiler.ops.transpose import damaged, integers, moves_bytes


def _source(graph: Graph, node: Node) -> Tensor:
    return tensor(graph, node, 1 if node.op == "SPLIT" else 0)


def _axis(graph: Graph, node: Node) -> int:
    if node.op == "UNPACK":
        given = int(node.options.get("axis", 0))
    else:
        given = integers(graph, node, 0 if node.op == "SPLIT" else 2, 1)[0]
    axis = positive_axis(given, len(_source(graph, node).shape))
    if axis is None:
        raise damaged(graph, node, f"axis {given} of {_source(graph, node).shape}")
    return axis


def _sizes(graph: Graph, node: Node) -> list[int]:
    """Return how much of the axis each output takes."""
    whole, count = _source(graph, node).shape[_axis(graph, node)], len(node.outputs)
    if node.op == "UNPACK":
        sizes = [1] * count
    elif node.op == "SPLIT":
        sizes = [whole // max(count, 1)] * count
    else:
        sizes = integers(graph, node, 1, count)
        sizes = [whole - sum(size for size in sizes if size != -1) if size == -1 else size for size in sizes]
    if min(sizes, default=0) < 1 or sum(sizes) != whole:
        raise damaged(graph, node, f"pieces {sizes} of an axis of {whole}")
    return sizes


def _check(graph: Graph, node: Node) -> None:
    x, axis = _source(graph, node), _axis(graph, node)
    for i, size in enumerate(_sizes(graph, node)):
        y = output(graph, node, i)
        moves_bytes(graph, node, x, y)
        middle = () if node.op == "UNPACK" else (size,)
        if y.shape != (*x.shape[:axis], *middle, *x.shape[axis + 1 :]):
            raise damaged(graph, node, f"piece {i} of {x.shape} along axis {axis} has shape {y.shape}")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, axis = _source(graph, node), _axis(graph, node)
    ends = np.cumsum(_sizes(graph, node))[:-1].tolist()
    pieces = np.split(by_clip(inputs[1 if node.op == "SPLIT" else 0], x), ends, axis=axis + 1)
    made = []
    for i, piece in enumerate(pieces):
        y = output(graph, node, i)
        made.append(stacked(np.ascontiguousarray(piece).reshape(piece.shape[0], *y.shape), y))
    return made


def _call(graph: Graph, node: Node) -> Call:
    rows = product(_source(graph, node).shape[: _axis(graph, node)])
    outputs = range(len(node.outputs))
    fields = ", ".join(f"{{ {{out{i}}}, {output(graph, node, i).bytes // rows} }}" for i in outputs)
    source = "{in1}" if node.op == "SPLIT" else "{in0}"
    return Call("split", (source, str(rows), str(len(outputs)), f"(const struct ear_piece[]){{ {fields} }}"))


OPS = tuple(
    Op(name, range(1, 5), _check, _meaning, _call, no_macs, batch=True)
    for name in ("SPLIT", "SPLIT_V", "UNPACK")
)
