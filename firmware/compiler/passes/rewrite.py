"""Small edits of a frozen graph that the passes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from firmware.compiler.graph import Graph, Node


def readers(graph: Graph, tensor: int) -> list[Node]:
    """Return the nodes that read a tensor."""
    return [node for node in graph.nodes if tensor in node.inputs]


def writer(graph: Graph, tensor: int) -> Node | None:
    """Return the node that writes a tensor, None for an input or a constant."""
    return next((node for node in graph.nodes if tensor in node.outputs), None)


def redirect(graph: Graph, instead: Mapping[int, int]) -> Graph:
    """Return the graph with every read of a key of `instead` reading its value; chains are followed."""

    def final(tensor: int) -> int:
        while tensor in instead:
            tensor = instead[tensor]
        return tensor

    nodes = tuple(replace(node, inputs=tuple(map(final, node.inputs))) for node in graph.nodes)
    return replace(graph, nodes=nodes, outputs=tuple(map(final, graph.outputs)))


def drop_unused(graph: Graph) -> Graph:
    """Return the graph without nodes whose outputs nobody reads."""
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return replace(graph, nodes=tuple(reversed(kept)))
