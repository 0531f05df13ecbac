"""Removes transposes: pairs that cancel, also across elementwise ops between; those of axes of size 1 only.

What is left of two in a row becomes one. A transpose at the end of elementwise ops whose operands are all
transposed the other way (or constants) goes away with theirs: the ops work in the order of before.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from firmware.compiler import reals
from firmware.compiler.graph import Graph, Node, Tensor, same_scale
from firmware.compiler.passes.rewrite import Links, drop_unused, links, redirect

Order = tuple[int, ...]


@dataclass
class _Edit:
    """A graph in the making."""

    graph: Graph
    found: Links
    tensors: list[Tensor]
    nodes: list[Node] = field(default_factory=list)
    instead: dict[int, int] = field(default_factory=dict)

    def add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def drop_transposes(graph: Graph) -> Graph:
    """Return the graph with as few TRANSPOSE nodes as those rules leave."""
    if not any(node.op == "TRANSPOSE" for node in graph.nodes):
        return graph
    edit = _Edit(graph, links(graph), list(graph.tensors))
    for node in graph.nodes:
        order = _order(graph, node)
        if order is None:
            edit.nodes.append(node)
        else:
            _transpose(edit, node, order)
    made = replace(graph, tensors=tuple(edit.tensors), nodes=tuple(edit.nodes))
    return drop_unused(redirect(made, edit.instead))


def _order(graph: Graph, node: Node | None) -> Order | None:
    """Return the order of axes of a TRANSPOSE that is known when compiling, None for another node."""
    data = graph.tensors[node.inputs[1]].data if node is not None and node.op == "TRANSPOSE" else None
    if node is None or data is None:
        return None
    rank = len(graph.tensors[node.outputs[0]].shape)
    return tuple(int(axis) % rank for axis in np.asarray(data).reshape(-1))


def _transpose(edit: _Edit, node: Node, order: Order) -> None:
    """Put what is left of the node."""
    source, y = node.inputs[0], node.outputs[0]
    first = edit.found.writer(source)
    before = _order(edit.graph, first)
    if first is not None and before is not None:  # two in a row
        source, order = first.inputs[0], tuple(before[axis] for axis in order)
    shape = edit.graph.tensors[source].shape
    alike = same_scale(edit.graph.tensors[source], edit.graph.tensors[y])
    if order == tuple(range(len(order))) and y not in edit.found.kept and alike:
        edit.instead[y] = source
    elif _keeps_order(shape, order):
        edit.nodes.append(replace(node, op="RESHAPE", inputs=(source,), options={}, version=1))
    elif before is None and _upright(edit, node, order):
        pass
    else:
        constant = edit.add(
            Tensor(f"{node.name} order", (len(order),), "int32", data=np.array(order, np.int32))
        )
        edit.nodes.append(replace(node, inputs=(source, constant)))


def _keeps_order(shape: tuple[int, ...], order: Order) -> bool:
    """Tell whether the axes that are longer than 1 stay in order: the bytes do not move."""
    long = [axis for axis in order if shape[axis] > 1]
    return long == sorted(long)


def _upright(edit: _Edit, node: Node, order: Order) -> bool:
    """Work the elementwise ops before the node out in the node's own order, where that costs nothing."""
    count, size = len(edit.nodes), len(edit.tensors)
    made = _turned(edit, node.inputs[0], order, {})
    if made is None or not edit.nodes[count:]:
        del edit.nodes[count:], edit.tensors[size:]
        return False
    edit.nodes[-1] = replace(edit.nodes[-1], outputs=node.outputs)
    return True


def _turned(edit: _Edit, tensor: int, order: Order, known: dict[int, int]) -> int | None:
    """Return the index of a tensor with its axes in this order, None when that would take a transpose."""
    value = edit.graph.tensors[tensor]
    if tensor in known:
        return known[tensor]
    if value.data is not None:
        if value.elements == 1:
            return tensor
        if value.quantisation is not None and value.quantisation.scale.size > 1:
            return None
        whole = value.data.reshape((1,) * (len(order) - value.data.ndim) + value.shape).transpose(order)
        return edit.add(replace(value, shape=whole.shape, data=np.ascontiguousarray(whole)))
    node = edit.found.writer(tensor)
    before = _order(edit.graph, node)
    if node is None or len(value.shape) != len(order):
        return None
    if before is not None:
        back = tuple(before[axis] for axis in order) == tuple(range(len(order)))
        alike = same_scale(edit.graph.tensors[node.inputs[0]], edit.graph.tensors[tensor])
        return node.inputs[0] if back and alike else None
    if not reals.known(node) or edit.found.only(tensor) is None or len(node.outputs) != 1:
        return None
    inputs = []
    for index in node.inputs:
        made = _turned(edit, index, order, known)
        if made is None:
            return None
        inputs.append(made)
    output = edit.add(replace(value, shape=tuple(value.shape[axis] for axis in order)))
    edit.nodes.append(replace(node, inputs=tuple(inputs), outputs=(output,)))
    known[tensor] = output
    return output
