"""Evaluates nodes whose inputs are all known when compiling."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import OPS

MAX_ELEMENTS = 1 << 20  # of a folded value: a bigger one would not fit a device, and may be hostile


def fold_constants(graph: Graph) -> Graph:
    """Return the graph with every node of constants replaced by its value; outputs stay computed."""
    tensors = list(graph.tensors)
    kept = []
    for node in graph.nodes:
        known = all(i < 0 or tensors[i].constant for i in node.inputs)
        if not known or not _foldable(graph, node):
            kept.append(node)
            continue
        inputs: list[Array] = [tensors[i].data if i >= 0 else None for i in node.inputs]  # type: ignore[misc]
        made = OPS[node.op].meaning(replace(graph, tensors=tuple(tensors)), node, inputs)
        for index, value in zip(node.outputs, made, strict=True):
            tensors[index] = replace(tensors[index], data=value)
    return replace(graph, tensors=tuple(tensors), nodes=tuple(kept))


def _foldable(graph: Graph, node: Node) -> bool:
    small = all(graph.tensors[i].elements <= MAX_ELEMENTS for i in node.outputs)
    return small and not set(node.outputs) & set(graph.outputs)
