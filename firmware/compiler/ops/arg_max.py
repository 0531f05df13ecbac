"""ARG_MAX and ARG_MIN: the index along a constant axis, int32, the first where several are equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, positive_axis, product, stacked
from firmware.compiler.ops import Call, Op, no_macs, output, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, integers


def _axis(graph: Graph, node: Node) -> int:
    shape, given = tensor(graph, node, 0).shape, integers(graph, node, 1, 1)[0]
    axis = positive_axis(given, len(shape))
    if axis is None:
        raise damaged(graph, node, f"axis {given} of {shape}")
    return axis


def _check(graph: Graph, node: Node) -> None:
    x, y, axis = tensor(graph, node, 0), only_output(graph, node), _axis(graph, node)
    require_dtype(graph, node, x, "int8")
    require_dtype(graph, node, y, "int32")
    if y.shape != (*x.shape[:axis], *x.shape[axis + 1 :]):
        raise damaged(graph, node, f"its output has shape {y.shape}, its input {x.shape}, its axis is {axis}")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    find = np.argmax if node.op == "ARG_MAX" else np.argmin
    x = by_clip(inputs[0], tensor(graph, node, 0))
    return [stacked(find(x, axis=_axis(graph, node) + 1).astype(np.int32), output(graph, node))]


def _call(graph: Graph, node: Node) -> Call:
    shape, axis = tensor(graph, node, 0).shape, _axis(graph, node)
    sizes = (product(shape[:axis]), shape[axis], product(shape[axis + 1 :]), int(node.op == "ARG_MIN"))
    return Call("arg_max", ("{in0}", "{out0}", *(str(size) for size in sizes)))


OPS = (
    Op("ARG_MAX", range(1, 4), _check, _meaning, _call, no_macs, batch=True),
    Op("ARG_MIN", range(1, 4), _check, _meaning, _call, no_macs, batch=True),
)
