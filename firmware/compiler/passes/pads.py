"""Folds a PAD into the convolution that reads it: the kernel already treats its border as the zero-point."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler import convolution
from firmware.compiler.graph import Graph, Node
from firmware.compiler.ops import pad, per_tensor, tensor
from firmware.compiler.passes.rewrite import Links, links

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def fold_pads(graph: Graph) -> Graph:
    """Return the graph with spatial zero-point PADs folded into convolutions; others stay."""
    found, nodes = links(graph), []
    for node in graph.nodes:
        padding = found.writer(node.inputs[0]) if node.op in CONVOLUTIONS else None
        if padding is not None and padding.op in ("PAD", "PADV2") and _folds(graph, found, padding):
            nodes.append(_folded(graph, node, padding))
        else:
            nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _folds(graph: Graph, found: Links, node: Node) -> bool:
    around = pad.amounts(graph, node)
    zero_point = per_tensor(graph, node, tensor(graph, node, 0))[1]
    exact = len(around) == 4 and around[0] == around[3] == (0, 0) and pad.fill(graph, node) == zero_point
    only = all(reader.op in CONVOLUTIONS for reader in found.read(node.outputs[0]))
    return exact and only and node.outputs[0] not in found.kept


def _folded(graph: Graph, node: Node, padding: Node) -> Node:
    filters = tensor(graph, node, 1).shape
    window = convolution.window(graph, node, (filters[1], filters[2]))
    _, (top, bottom), (left, right), _ = pad.amounts(graph, padding)
    rows = top + window.before[0], bottom + window.after[0]
    columns = left + window.before[1], right + window.after[1]
    options = {**node.options, "padding": "EXPLICIT", "pad": (*rows, *columns)}
    return replace(node, inputs=(padding.inputs[0], *node.inputs[1:]), options=options)
