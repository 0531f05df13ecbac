"""Folds a RELU or a requantisation into the op before it: one rounding where there were two.

The sums of a convolution, a matrix product or an addition go straight to the scale of the later tensor. What
the earlier scale would have cut off is kept, so the result is never farther from the real numbers.
"""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.graph import Graph, ModelError, Node
from firmware.compiler.ops import OPS
from firmware.compiler.passes.rewrite import drop_unused, links

SUMS = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB")
CLAMPS = {"RELU": "RELU", "RELU6": "RELU6", "RELU_N1_TO_1": "RELU_N1_TO_1"}


def fold_activations(graph: Graph) -> Graph:
    """Return the graph without RELU and int8 QUANTIZE behind an op that can do their work."""
    found, made = links(graph), dict[int, Node]()
    for node in graph.nodes:
        if not node.inputs:
            continue
        before = made.get(node.inputs[0]) or found.writer(node.inputs[0], *SUMS)
        if before is None or found.only(before.outputs[0]) is not node:
            continue
        joined = _joined(graph, before, node)
        if joined is not None:
            made[joined.outputs[0]] = joined
    nodes = tuple(made.get(node.outputs[0], node) if node.outputs else node for node in graph.nodes)
    return drop_unused(replace(graph, nodes=nodes)) if made else graph


def _joined(graph: Graph, before: Node, node: Node) -> Node | None:
    """Return the earlier node with the later one's output, None when it cannot stand for both."""
    ends = [graph.tensors[i] for i in (before.inputs[0], before.outputs[0], node.outputs[0])]
    activation = before.options.get("fused_activation_function", "NONE")
    if node.op in CLAMPS and activation == "NONE":
        activation = CLAMPS[node.op]
    elif node.op != "QUANTIZE":
        return None
    if any(end.dtype != "int8" for end in ends) or ends[1].shape != ends[2].shape:
        return None
    options = {**before.options, "fused_activation_function": activation}
    joined = replace(before, outputs=node.outputs, options=options)
    try:
        OPS[joined.op].check(graph, joined)
    except ModelError:
        return None
    return joined
