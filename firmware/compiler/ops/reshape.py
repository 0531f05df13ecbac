"""RESHAPE, SQUEEZE, EXPAND_DIMS: other sizes for the same bytes; costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, tensor


def check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless both sides have the same type and number of elements."""
    x, y = tensor(graph, node, 0), output(graph, node)
    if x.dtype != y.dtype or x.elements != y.elements:
        what = f"{x.shape} of {x.dtype} to {y.shape} of {y.dtype}"
        raise refuse(graph, node, what, "the file is damaged; export it again")


def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return inputs[0] in the output's shape."""
    return [inputs[0].reshape(output(graph, node).shape)]


def call(graph: Graph, node: Node) -> Call:
    """Return nothing to call: the output is the input."""
    raise AssertionError("an alias has no code")


def _op(name: str) -> Op:
    return Op(name, range(1, 4), check, meaning, call, no_macs, alias=True)


OPS = (_op("RESHAPE"), _op("SQUEEZE"), _op("EXPAND_DIMS"))
