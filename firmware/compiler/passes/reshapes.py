"""Drops reshapes that change nothing, and joins chains of them."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.graph import Graph, same_scale
from firmware.compiler.ops import OPS
from firmware.compiler.passes.rewrite import kept, redirect


def drop_reshapes(graph: Graph) -> Graph:
    """Return the graph without no-op reshapes; a reshape of a reshape reads the first one's input."""
    source: dict[int, int] = {}  # output of a reshape → what its chain reads
    instead: dict[int, int] = {}
    nodes, needed = [], kept(graph)
    for node in graph.nodes:
        if not OPS[node.op].alias:
            nodes.append(node)
            continue
        x, y = source.get(node.inputs[0], node.inputs[0]), node.outputs[0]
        source[y] = x
        if (
            graph.tensors[x].shape == graph.tensors[y].shape
            and y not in needed
            and same_scale(graph.tensors[x], graph.tensors[y])
        ):
            instead[y] = x
        else:
            nodes.append(replace(node, inputs=(x, *node.inputs[1:])))
    return redirect(replace(graph, nodes=tuple(nodes)), instead)
