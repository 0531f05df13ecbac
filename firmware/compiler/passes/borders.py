"""Strips QUANTIZE from float inputs and DEQUANTIZE from float outputs: the board speaks int8."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.graph import Graph, Node
from firmware.compiler.passes.rewrite import links


def strip_borders(graph: Graph) -> Graph:
    """Return the graph with int8 inputs and outputs where only a QUANTIZE or DEQUANTIZE kept them float."""
    found = links(graph)
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    dropped: list[Node] = []
    for position, tensor in enumerate(inputs):
        users = found.read(tensor)
        single = len(users) == 1 and users[0].op == "QUANTIZE" and tensor not in outputs
        if single and graph.tensors[tensor].dtype == "float32":
            inputs[position] = users[0].outputs[0]
            dropped.append(users[0])
    for position, tensor in enumerate(outputs):
        node = found.writer(tensor)
        ends_here = not found.read(tensor) and outputs.count(tensor) == 1
        if node is not None and node.op == "DEQUANTIZE" and node.inputs and ends_here:
            outputs[position] = node.inputs[0]
            dropped.append(node)
    gone = set(map(id, dropped))
    nodes = tuple(node for node in graph.nodes if id(node) not in gone)
    return replace(graph, nodes=nodes, inputs=tuple(inputs), outputs=tuple(outputs))
