"""Names the ops of float islands: what stays float between DEQUANTIZE and QUANTIZE has kernels of its own."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.floats import PREFIX
from firmware.compiler.graph import Graph, Node
from firmware.compiler.ops import OPS

CONVERSIONS = ("DEQUANTIZE", "QUANTIZE")


def name_floats(graph: Graph) -> Graph:
    """Return the graph in which each float32 node carries the name of its float op, where there is one."""
    return replace(graph, nodes=tuple(_named(graph, node) for node in graph.nodes))


def _named(graph: Graph, node: Node) -> Node:
    ends = [graph.tensors[i].dtype for i in (*node.inputs[:1], *node.outputs) if i >= 0]
    known = PREFIX + node.op in OPS and node.op not in CONVERSIONS
    return replace(node, op=PREFIX + node.op) if known and "float32" in ends else node
