"""Evaluates nodes whose inputs are all known when compiling."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.graph import Array, Graph
from firmware.compiler.ops import OPS


def fold_constants(graph: Graph) -> Graph:
    """Return the graph with every node of constants replaced by its value; outputs stay computed."""
    tensors = list(graph.tensors)
    kept = []
    for node in graph.nodes:
        known = all(i < 0 or tensors[i].constant for i in node.inputs)
        if not known or set(node.outputs) & set(graph.outputs):
            kept.append(node)
            continue
        inputs: list[Array] = [tensors[i].data if i >= 0 else None for i in node.inputs]  # type: ignore[misc]
        made = OPS[node.op].meaning(replace(graph, tensors=tuple(tensors)), node, inputs)
        for index, value in zip(node.outputs, made, strict=True):
            tensors[index] = replace(tensors[index], data=value)
    return replace(graph, tensors=tuple(tensors), nodes=tuple(kept))
