"""Evaluates nodes whose outputs are known when compiling: all inputs are constants, or only shapes matter."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.graph import Array, Graph, ModelError, Node
from firmware.compiler.ops import OPS

MAX_ELEMENTS = 1 << 20  # of a folded value: a bigger one would not fit a device, and may be hostile
MAX_BYTES = 1 << 26  # of all folded values
MAX_MACS = 1 << 30  # of a folded node


def fold_constants(graph: Graph) -> Graph:
    """Return the graph with every node of constants replaced by its value; outputs stay computed.

    A node that its op refuses is left for the pass that reports it.
    """
    tensors = list(graph.tensors)
    kept = []
    spent = 0
    for node in graph.nodes:
        now = replace(graph, tensors=tuple(tensors))
        if not _foldable(now, node) or spent > MAX_BYTES:
            kept.append(node)
            continue
        spent += sum(tensors[i].bytes for i in node.outputs)
        inputs: list[Array] = [tensors[i].data if i >= 0 else None for i in node.inputs]  # type: ignore[misc]
        made = OPS[node.op].meaning(now, node, inputs)
        for index, value in zip(node.outputs, made, strict=True):
            tensors[index] = replace(tensors[index], data=value)
    return replace(graph, tensors=tuple(tensors), nodes=tuple(kept))


def _foldable(graph: Graph, node: Node) -> bool:
    op = OPS.get(node.op)
    known = all(i < 0 or graph.tensors[i].constant for i in node.inputs)
    if op is None or node.version not in op.versions or not (known or op.known):
        return False
    small = all(graph.tensors[i].elements <= MAX_ELEMENTS for i in node.outputs)
    if not small or set(node.outputs) & set(graph.outputs):
        return False
    try:
        op.check(graph, node)
    except ModelError:
        return False
    return op.macs(graph, node) <= MAX_MACS
