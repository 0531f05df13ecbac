"""The rule of recurrent layers: in a stream their states go on from hop to hop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from firmware.compiler.graph import Node, State, Tensor
from firmware.compiler.ops import ear_scan
from firmware.compiler.products import Operand
from firmware.compiler.stream.flow import BlockedError, Builder, Flow, only


def lstm(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """An LSTM over the new rows; its states are those that it has in the window model."""
    flow = only(flows, 0)
    if flow.axis != (0 if node.options["time_major"] else 1):
        raise BlockedError("time is not the axis that it goes along")
    if not flow.filled:
        raise BlockedError("an earlier filter has not filled its first rows yet: pad that one causally")
    y = b.graph.tensors[node.outputs[0]]
    made = b.tensor(y, [flow.step if i == flow.axis else n for i, n in enumerate(y.shape)])
    b.fresh[node.outputs[0]], b.flows[node.outputs[0]] = made, flow
    b.nodes.append(
        replace(
            node,
            inputs=(b.fresh[node.inputs[0]], *node.inputs[1:]),
            outputs=(made, *node.outputs[1:]),
        )
    )
    b.remembers = True


def scan(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A scan over the new rows, which goes on from the states of the hop before: from zeros at first."""
    flow, found = only(flows, min(flows)), node.options["scan"]
    y = b.graph.tensors[node.outputs[0]]
    same = all(other.rows == flow.rows and other.step == flow.step for other in flows.values())
    if not same or found.sizes[0] != flow.rows or found.outputs or len(found.ends) > 1:
        raise BlockedError("its steps are not the rows of a stream")
    if not all(only(flows, position).filled for position in flows):
        raise BlockedError("an earlier filter has not filled its first rows yet: pad that one causally")
    operands = (found.decay, *found.fresh, *((found.weight,) if found.weight else ()))
    if not all(_by_row(b, node, flows, operand, found.sizes) for operand in operands):
        raise BlockedError("its factors differ from row to row")
    axis = next(
        (i for i, n in enumerate(y.shape) if n == flow.rows and _behind(y.shape, i) == found.places[0]), -1
    )
    if axis < 0:
        raise BlockedError("its steps are not rows of what it makes")
    before, after = (
        b.tensor(Tensor(f"{node.name} {word}", (), "int32"), found.sizes[1:]) for word in ("before", "after")
    )
    made = b.tensor(y, [flow.step if i == axis else n for i, n in enumerate(y.shape)])
    inputs = [b.fresh[t] if i in flows else t for i, t in enumerate(node.inputs)]
    options = {**node.options, "scan": replace(found, sizes=(flow.step, *found.sizes[1:]))}
    b.nodes.append(Node(ear_scan.ON, (before, *inputs[1:]), (after, made), options, node.version, node.name))
    b.states.append(State(before, after, 0))
    b.fresh[node.outputs[0]], b.flows[node.outputs[0]] = made, replace(flow, axis=axis)
    b.remembers = True


def _behind(shape: tuple[int, ...], axis: int) -> int:
    return math.prod(shape[axis + 1 :])


def _by_row(
    b: Builder, node: Node, flows: Mapping[int, Flow], operand: Operand, sizes: tuple[int, ...]
) -> bool:
    """Tell whether each step reads its own row, or what is the same for all."""
    if operand.position not in flows:
        return operand.steps[0] == 0
    shape, axis = b.graph.tensors[node.inputs[operand.position]].shape, flows[operand.position].axis
    row = _behind(shape, axis)
    reach = sum(step * (size - 1) for step, size in zip(operand.steps[1:], sizes[1:], strict=True))
    inside = operand.first >= 0 and min(operand.steps) >= 0 and operand.first + reach < row
    return math.prod(shape[:axis]) == 1 and operand.steps[0] == row and inside
