"""EAR_COPY: the same bytes in memory of their own. No .tflite has it: passes put it where states need it."""

from __future__ import annotations

from collections.abc import Sequence

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, tensor


def _check(graph: Graph, node: Node) -> None:
    x, y = tensor(graph, node, 0), output(graph, node)
    if (x.dtype, x.shape) != (y.dtype, y.shape):
        what = f"{x.shape} of {x.dtype} to {y.shape} of {y.dtype}"
        raise refuse(graph, node, what, "the file is damaged; export it again")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    return [inputs[0].copy()]


def _call(graph: Graph, node: Node) -> Call:
    arguments = ("{in0}", "{out0}", f"{output(graph, node).bytes}")
    return Call("copy", arguments, function="ear_copy_value")


OP = Op("EAR_COPY", range(1, 2), _check, _meaning, _call, no_macs, batch=True)
