"""Joins the steps of softmax attention, and the transposes around them, into one EAR_ATTENTION."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from firmware.compiler.graph import Graph, ModelError, Node
from firmware.compiler.operands import broadcast_strides, merge, strides
from firmware.compiler.ops import OPS, ear_attention
from firmware.compiler.ops.ear_attention import BIASES, Plan, View, bias
from firmware.compiler.passes.rewrite import Links, drop_unused, links

MOST = 5  # nodes from the scores to the softmax


@dataclass(frozen=True)
class Source:
    """An operand: the tensor that it is a view of, the transpose between if any, steps of its axes."""

    tensor: int
    transpose: tuple[Node, ...]
    steps: tuple[int, ...]


def fuse_attention(graph: Graph) -> Graph:
    """Return the graph with BATCH_MATMUL, SOFTMAX, BATCH_MATMUL joined where that saves memory."""
    found = links(graph)
    made: dict[int, Node] = {}
    for node in graph.nodes:
        if node.op == "SOFTMAX":
            joined = _joined(graph, found, node)
            if joined is not None:
                made[joined.outputs[0]] = joined
    nodes = tuple(made.get(node.outputs[0], node) if node.outputs else node for node in graph.nodes)
    return drop_unused(replace(graph, nodes=nodes)) if made else graph


def _joined(graph: Graph, found: Links, softmax: Node) -> Node | None:
    scores = found.writer(softmax.inputs[0])
    between: tuple[Node, ...] = (softmax,)
    while scores is not None and scores.op in ("EAR_TABLE", *BIASES) and len(between) < MOST:
        source = _running(graph, scores)
        second = scores.op == "EAR_TABLE" and any(node.op == "EAR_TABLE" for node in between)
        if found.only(scores.outputs[0]) is not between[0] or source is None or second:
            return None
        between = (scores, *between)
        scores = found.writer(source)
    values = found.only(softmax.outputs[0], "BATCH_MATMUL")
    if scores is None or scores.op != "BATCH_MATMUL" or values is None:
        return None
    alone = found.only(scores.outputs[0]) is between[0] and values.inputs[0] == softmax.outputs[0]
    types = {graph.tensors[i].dtype for node in (scores, values) for i in (*node.inputs[:2], *node.outputs)}
    running = not any(graph.tensors[i].constant for node in (scores, values) for i in node.inputs[:2])
    if not alone or not running or types != {"int8"} or values.options.get("adj_x", False):
        return None
    return _node(graph, found, scores, between, values)


def _running(graph: Graph, node: Node) -> int | None:
    """Return the running input of a table, sum or product with a constant; None where it repeats."""
    first, other = node.inputs
    if node.op != "EAR_TABLE" and graph.tensors[first].constant and node.op != "SUB":
        first, other = other, first
    same = graph.tensors[first].shape == graph.tensors[node.outputs[0]].shape
    return first if same and graph.tensors[other].constant and not graph.tensors[first].constant else None


def _node(graph: Graph, found: Links, scores: Node, between: tuple[Node, ...], values: Node) -> Node | None:
    q, k = (_source(graph, found, i) for i in scores.inputs[:2])
    v = _source(graph, found, values.inputs[1])
    out = found.only(values.outputs[0], "TRANSPOSE")
    after = (out,) if out is not None and graph.tensors[out.inputs[1]].data is not None else ()
    y = (after or (values,))[-1].outputs[0]
    rank = len(graph.tensors[values.outputs[0]].shape)
    if any(len(part.steps) != rank for part in (q, k, v)):
        return None
    plan = _plan(graph, scores, between, values, (q, k, v), _result_steps(graph, y, after))
    if not plan.saves:
        return None
    chain = (*q.transpose, *k.transpose, *v.transpose, scores, *between, values, *after)
    options = {"chain": chain, "plan": plan}
    node = Node(ear_attention.name(plan), (q.tensor, k.tensor, v.tensor), (y,), options, 1, values.name)
    try:
        OPS[node.op].check(graph, node)
    except ModelError:
        return None
    return node


def _source(graph: Graph, found: Links, tensor: int) -> Source:
    node = found.writer(tensor, "TRANSPOSE")
    order = None if node is None else graph.tensors[node.inputs[1]].data
    if node is None or order is None:
        return Source(tensor, (), strides(graph.tensors[tensor].shape))
    own = strides(graph.tensors[node.inputs[0]].shape)
    return Source(node.inputs[0], (node,), tuple(own[int(axis)] for axis in np.asarray(order).reshape(-1)))


def _result_steps(graph: Graph, y: int, after: tuple[Node, ...]) -> tuple[int, ...]:
    """Return the steps of the product's axes in the tensor y, which may be its transpose."""
    own = strides(graph.tensors[y].shape)
    if not after:
        return own
    order = [int(axis) for axis in np.asarray(graph.tensors[after[0].inputs[1]].data).reshape(-1)]
    return tuple(own[order.index(axis)] for axis in range(len(order)))


def _plan(
    graph: Graph,
    scores: Node,
    between: tuple[Node, ...],
    values: Node,
    sources: tuple[Source, Source, Source],
    result: tuple[int, ...],
) -> Plan:
    shapes = [graph.tensors[i].shape for i in (*scores.inputs[:2], values.inputs[1], values.outputs[0])]
    stack = shapes[3][:-2]
    steps = [
        [0 if shape[axis] == 1 else part[axis] for axis in range(len(stack))]
        for shape, part in zip(shapes, (*(s.steps for s in sources), result), strict=True)
    ]
    whole = graph.tensors[scores.outputs[0]].shape
    biases = [
        broadcast_strides(graph.tensors[bias(graph, node)].shape, whole)
        for node in between
        if node.op in BIASES
    ]
    sizes, *merged = merge(stack, *steps, *(part[: len(stack)] for part in biases))
    swapped = (  # whether the last two axes of q, k, v, y are (columns, rows) of their views
        bool(scores.options.get("adj_x", False)),
        not scores.options.get("adj_y", False),
        bool(values.options.get("adj_y", False)),
        False,
    )
    views = [
        View(of_stack, *(part[-1:-3:-1] if swap else part[-2:]))
        for of_stack, part, swap in zip(
            merged[:4], (*(s.steps for s in sources), result), swapped, strict=True
        )
    ]
    rows, depth = shapes[0][-1:-3:-1] if swapped[0] else shapes[0][-2:]
    columns = graph.tensors[scores.outputs[0]].shape[-1]
    added = tuple(
        View(of_stack, *part[-2:]) for of_stack, part in zip(merged[len(views) :], biases, strict=True)
    )
    q, k, v, y = views
    return Plan(sizes, rows, columns, depth, shapes[3][-1], q, k, v, y, added)
