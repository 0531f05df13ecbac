"""Strips QUANTIZE from float inputs and DEQUANTIZE from float outputs: the board speaks int8."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.graph import Graph, Node
from firmware.compiler.passes.rewrite import readers, writer


def strip_borders(graph: Graph) -> Graph:
    """Return the graph with int8 inputs and outputs where only a QUANTIZE or DEQUANTIZE kept them float."""
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    dropped: list[Node] = []
    for position, tensor in enumerate(inputs):
        users = readers(graph, tensor)
        single = len(users) == 1 and users[0].op == "QUANTIZE" and tensor not in outputs
        if single and graph.tensors[tensor].dtype == "float32":
            inputs[position] = users[0].outputs[0]
            dropped.append(users[0])
    for position, tensor in enumerate(outputs):
        node = writer(graph, tensor)
        if node is not None and node.op == "DEQUANTIZE" and node.inputs and not readers(graph, tensor):
            outputs[position] = node.inputs[0]
            dropped.append(node)
    nodes = tuple(node for node in graph.nodes if not any(node is gone for gone in dropped))
    return replace(graph, nodes=nodes, inputs=tuple(inputs), outputs=tuple(outputs))
