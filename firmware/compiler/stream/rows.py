"""Rules of ops that treat each row by itself: values, products and sums along other axes than time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from firmware.compiler.graph import Node
from firmware.compiler.products import Operand
from firmware.compiler.stream.flow import BlockedError, Builder, Flow, fresh, located, only, values


def elementwise(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Row by row, when every operand flows alike or is the same for all rows."""
    rank = len(b.graph.tensors[node.outputs[0]].shape)
    shapes = [b.graph.tensors[tensor].shape for tensor in node.inputs]
    if node.op == "SELECT" and len(shapes[0]) < rank:
        raise BlockedError("its condition has another rank: write SELECT_V2")
    aligned = []
    for position in flows:
        flow = only(flows, position, ahead=True)
        aligned.append(replace(flow, axis=flow.axis + rank - len(shapes[position])))
    flow = aligned[0]
    if any(other != flow for other in aligned):
        raise BlockedError("its operands are rows of different times")
    for position, shape in enumerate(shapes):
        axis = flow.axis - (rank - len(shape))
        if position not in flows and axis >= 0 and shape[axis] != 1:
            raise BlockedError("its constant differs from row to row")
    b.add(node, fresh(b, node, flows), [flow])


def unary(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A function of each value; what else it reads are its tables."""
    flow, x = only(flows, 0, ahead=True), b.graph.tensors[node.inputs[0]].shape
    tables = [b.graph.tensors[i].shape for i in node.inputs[1:]]
    if flow.axis == len(x) - 1 and any(len(shape) > 1 for shape in tables):
        raise BlockedError("its function differs from row to row")
    b.add(node, fresh(b, node, flows), [flow])


def by_row(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Ops along the last axis: each row by itself."""
    flow = only(flows, 0)
    if flow.axis == len(b.graph.tensors[node.inputs[0]].shape) - 1:
        raise BlockedError("it works along the time axis")
    b.add(node, fresh(b, node, flows), [flow] * len(node.outputs))


def norm(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Means over what lies behind the time axis; the axes up to it are told by their number of elements."""
    flow, x = only(flows, 0), b.graph.tensors[node.inputs[0]].shape
    outer, before = int(node.options["outer"]), 1
    for size in x[: flow.axis + 1]:
        before *= size
    if outer % before:
        raise BlockedError("it takes means over all rows of the window")
    options = {**node.options, "outer": outer // flow.rows * flow.step}
    b.add(replace(node, options=options), fresh(b, node, flows), [flow])


def products(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Products of views: time is their outermost axis, perhaps merged with those behind it.

    A view may begin a few rows behind the start of its tensor (attention to the rows before): such rows are
    remembered.
    """
    flow, found = only(flows, min(flows), ahead=True), node.options["terms"]
    y = b.graph.tensors[node.outputs[0]].shape
    axis = next((i for i, size in enumerate(found.sizes) if size > 1), 0)
    inner, rest = divmod(found.sizes[axis], y[flow.axis])
    if rest or math.prod(y[: flow.axis]) != 1:
        raise BlockedError("it merges the time axis with others")
    late = {}  # rows of each input behind the last one that a factor reads, with the factor's place
    for factor in (factor for term in found.terms for factor in term.factors):
        sizes = (inner, *found.sizes[axis + 1 :])
        reach = sum(step * (size - 1) for step, size in zip(factor.steps[axis:], sizes, strict=True))
        row = factor.steps[axis] * inner
        shape = b.graph.tensors[node.inputs[factor.position]].shape if factor.position >= 0 else ()
        along = math.prod(shape[flow.axis + 1 :]) if factor.position in flows else 0
        first = factor.first % along if along else factor.first
        straight = min(factor.steps) >= 0 and (not along or first + reach < along)
        merged = factor.apart and axis == len(found.sizes) - 1
        if row != along or not straight or merged or math.prod(shape[: flow.axis]) != 1:
            raise BlockedError("its factors differ from row to row")
        if along:
            begin = (factor.first - first) // along
            late[factor.position, factor.first] = shape[flow.axis] - y[flow.axis] - begin
    _views(b, node, flows, late, inner)


def _views(
    b: Builder, node: Node, flows: Mapping[int, Flow], late: Mapping[tuple[int, int], int], inner: int
) -> None:
    """Add products whose factors (input, place) leave so many rows at the end of their input unread."""
    flow, found = flows[min(flows)], node.options["terms"]
    y = b.graph.tensors[node.outputs[0]].shape
    whole = y[flow.axis] == flow.rows and all(other == flow for other in flows.values())
    wanted = (flow.axis, flow.step, 0, 0)
    if not whole and any((f.axis, f.step, f.ahead, f.lead) != wanted for f in flows.values()):
        raise BlockedError("its factors are rows of different times")
    if y[flow.axis] < flow.step:
        raise BlockedError("it takes a few rows out of the window")
    rows = {i: flow.step + max(n for (position, _), n in late.items() if position == i) for i in flows}
    inputs = {i: b.window(node.inputs[i], rows[i]) for i in flows}

    def moved(factor: Operand) -> Operand:
        if factor.position not in flows:
            return factor
        along = math.prod(b.graph.tensors[node.inputs[factor.position]].shape[flow.axis + 1 :])
        begin = rows[factor.position] - flow.step - late[factor.position, factor.first]
        return replace(factor, first=factor.first % along + begin * along)

    axis = next((i for i, size in enumerate(found.sizes) if size > 1), 0)
    sizes = tuple(flow.step * inner if i == axis else n for i, n in enumerate(found.sizes))
    terms = tuple(replace(term, factors=tuple(moved(f) for f in term.factors)) for term in found.terms)
    options = {**node.options, "terms": replace(found, sizes=sizes, terms=terms)}
    made = flow if whole else Flow(flow.axis, y[flow.axis], flow.step, filled=False)
    b.add(replace(node, options=options), inputs, [made])


def fully_connected(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A product along the last axis; the axes before it may have been merged."""
    flow = only(flows, 0)
    x, y = b.graph.tensors[node.inputs[0]].shape, b.graph.tensors[node.outputs[0]].shape
    depth = b.graph.tensors[node.inputs[1]].shape[-1]
    if x[-1] != depth or flow.axis == len(x) - 1:
        raise BlockedError("it takes all rows of the window as one vector")
    b.add(node, fresh(b, node, flows), [located(flow, x, y)])


def batch_matmul(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Rows times a constant matrix, or matrices of one time; else a product of two flows is attention."""
    flow, x = only(flows, 0), b.graph.tensors[node.inputs[0]].shape
    turned = node.options.get("adj_x", False)
    pair = len(flows) > 1 and len(b.graph.tensors[node.inputs[1]].shape) == len(x)
    if pair and only(flows, 1) == flow and flow.axis < len(x) - 2:
        b.add(node, fresh(b, node, flows), [flow])
        return
    if len(flows) > 1 or flow.axis > len(x) - (3 if turned else 2):
        raise BlockedError("it relates every row of the window to every other")
    matrices, y = b.graph.tensors[node.inputs[1]].shape, b.graph.tensors[node.outputs[0]].shape
    axis = flow.axis + len(matrices) - len(x)
    if flow.axis < len(x) - 2 and axis >= 0 and matrices[axis] != 1:
        raise BlockedError("its matrix differs from row to row")
    b.add(node, fresh(b, node, flows), [replace(flow, axis=flow.axis + len(y) - len(x))])


def reduce(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A sum, an extreme or its place over axes other than time."""
    flow = only(flows, 0)
    rank = len(b.graph.tensors[node.inputs[0]].shape)
    axes = {axis % rank for axis in values(b.graph, node, 1)}
    if flow.axis in axes:
        raise BlockedError("it sums up all rows of the window")
    same = len(b.graph.tensors[node.outputs[0]].shape) == rank
    gone = 0 if same else sum(axis < flow.axis for axis in axes)
    b.add(node, fresh(b, node, flows), [replace(flow, axis=flow.axis - gone)])


def cumulative(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Running sums along another axis than time."""
    flow = only(flows, 0)
    if values(b.graph, node, 1)[0] % len(b.graph.tensors[node.inputs[0]].shape) == flow.axis:
        raise BlockedError("it adds up the rows from the start of the window")
    b.add(node, fresh(b, node, flows), [flow])
