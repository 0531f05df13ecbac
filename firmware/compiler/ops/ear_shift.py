"""EAR_SHIFT: a window of rows that moves on by the new ones; what streaming models remember of the past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import product
from firmware.compiler.ops import Call, Op, literal, no_macs, output, refuse, tensor


def _check(graph: Graph, node: Node) -> None:
    kept, x, y = tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node)
    axis = int(node.options["axis"])
    others = [[n for i, n in enumerate(v.shape) if i != axis] for v in (kept, x, y)]
    same = kept.dtype == x.dtype == y.dtype and kept.shape == y.shape and others[0] == others[1]
    if not same or not 0 <= axis < len(kept.shape) or x.shape[axis] > kept.shape[axis]:
        raise refuse(
            graph, node, f"{x.shape} into {kept.shape} along axis {axis}", "this is a bug: report it"
        )


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    kept, x = inputs
    axis = int(node.options["axis"])
    rest = np.split(kept, [x.shape[axis]], axis)[1]
    return [np.concatenate([rest, x], axis)]


def _call(graph: Graph, node: Node) -> Call:
    kept, x = tensor(graph, node, 0), tensor(graph, node, 1)
    outer = product(kept.shape[: int(node.options["axis"])])
    sizes = literal("ear_shift", outer=outer, window=kept.bytes // outer, fresh=x.bytes // outer)
    return Call("shift", (sizes, "{in0}", "{in1}", "{out0}"))


OP = Op("EAR_SHIFT", range(1, 2), _check, _meaning, _call, no_macs, updates={0: 0})
