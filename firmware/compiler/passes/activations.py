"""Folds a RELU that keeps the scale into the op before it: the same bytes, one pass over memory less."""

from __future__ import annotations

from dataclasses import replace

from firmware.compiler.graph import Graph, ModelError, Node, same_scale
from firmware.compiler.ops import OPS
from firmware.compiler.passes.rewrite import drop_unused, links

SUMS = ("ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB")
CLAMPS = {"RELU": "RELU", "RELU6": "RELU6", "RELU_N1_TO_1": "RELU_N1_TO_1"}


def fold_activations(graph: Graph) -> Graph:
    """Return the graph without RELU behind an op that can clamp as well."""
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
    if node.op not in CLAMPS or before.options.get("fused_activation_function", "NONE") != "NONE":
        return None
    if any(end.dtype != "int8" for end in ends) or ends[1].shape != ends[2].shape:
        return None
    if not same_scale(ends[1], ends[2]):
        return None
    options = {**before.options, "fused_activation_function": CLAMPS[node.op]}
    joined = replace(before, outputs=node.outputs, options=options)
    try:
        OPS[joined.op].check(graph, joined)
    except ModelError:
        return None
    return joined
