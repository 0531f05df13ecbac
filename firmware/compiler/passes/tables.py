"""Turns every chain of elementwise ops of one int8 value into a table of 256 results.

Where TFLM has all ops of the chain in int8, the table holds the bytes that they give. Elsewhere each entry
is the output nearest to the true value of the chain, worked out in float64, so no chain of rounded steps is
nearer; what saturates on the way, saturates still, as the model may have been trained with it. Chains may
fork and join (x * sigmoid(x)), pass through float and have constant operands; one a channel gives a table a
channel. A float result that goes on into an island is tabled as float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from firmware.compiler import interp, reals
from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.passes.rewrite import Links, drop_unused, links

MAX_TABLES = 64  # of 256 bytes, one a channel
FIXED = ("LOGISTIC", "TANH")  # the scale of their output is not calibrated: 127/128 stands for 1
TFLM = {  # ops whose int8 bytes it defines
    *(
        "ABS",
        "ADD",
        "ELU",
        "HARD_SWISH",
        "LEAKY_RELU",
        "LOGISTIC",
        "MAXIMUM",
        "MINIMUM",
        "MUL",
        "PRELU",
        "QUANTIZE",
    ),
    *("RELU", "RELU6", "RSQRT", "SQUARED_DIFFERENCE", "SUB", "TANH"),
}
CHEAP = {"ADD", "DEQUANTIZE", "MUL", "QUANTIZE", "SUB"}  # linear: cheaper as ops than as a table a channel


@dataclass(frozen=True)
class Chain:
    """A value that depends on one int8 tensor only: its true values for each of -128..127."""

    source: int
    values: Array  # float64 (256,), or (256, channels)
    nodes: int  # elementwise nodes on the way, each way counted
    linear: bool


def table_chains(graph: Graph) -> Graph:
    """Return the graph with each chain of two nodes or more replaced by one EAR_TABLE."""
    found = links(graph)
    chains = _chains(graph)
    tensors, nodes = list(graph.tensors), []
    for node in graph.nodes:
        chain = chains.get(node.outputs[0]) if len(node.outputs) == 1 else None
        if chain is not None and _worth(graph, found, chains, node, chain):
            path = _path(graph, found, node, chain.source)
            if all(step.op in TFLM and graph.tensors[step.outputs[0]].dtype == "int8" for step in path):
                table = _bytes(graph, path, chain)
            else:
                table = _table(graph.tensors[node.outputs[0]], chain.values)
            nodes.append(_tabled(node, chain.source, len(tensors)))
            tensors.append(Tensor(f"{node.name} table", table.shape, str(table.dtype), data=table))
        else:
            nodes.append(node)
    return drop_unused(replace(graph, tensors=tuple(tensors), nodes=tuple(nodes)))


def _path(graph: Graph, found: Links, node: Node, source: int) -> list[Node]:
    """Return the nodes between a chain's source and its end, in the order of the graph."""
    waiting, chosen = [node], dict[int, Node]()
    while waiting:
        step = waiting.pop()
        if step.outputs[0] in chosen:
            continue
        chosen[step.outputs[0]] = step
        running = (i for i in step.inputs if i >= 0 and i != source and not graph.tensors[i].constant)
        waiting += [writer for i in running if (writer := found.writer(i)) is not None]
    return [step for step in graph.nodes if step.outputs and step.outputs[0] in chosen]


def _bytes(graph: Graph, path: list[Node], chain: Chain) -> Array:
    """Return what the ops of a chain make of each byte: (256,), or (channels, 256) where channels differ."""
    source, channels = chain.source, chain.values.shape[1:] or (1,)
    tensors = list(graph.tensors)
    for index in (source, *(step.outputs[0] for step in path)):
        tensors[index] = replace(tensors[index], shape=(256, *channels), data=None)
    for index in {i for step in path for i in step.inputs if i >= 0 and tensors[i].data is not None}:
        data = np.reshape(graph.tensors[index].data, (-1,))  # type: ignore[arg-type]  # constants have data
        tensors[index] = replace(tensors[index], shape=data.shape, data=data)
    one = Graph(tuple(tensors), tuple(path), (source,), path[-1].outputs, graph.name)
    x = np.broadcast_to(np.arange(-128, 128, dtype=np.int8)[:, None], (256, *channels))
    (y,) = interp.run(one, [x])
    table = np.ascontiguousarray(np.roll(y, -128, axis=0).T)
    return table[0] if (table == table[0]).all() else table


def _tabled(node: Node, source: int, table: int) -> Node:
    return Node("EAR_TABLE", (source, table), node.outputs, {}, 1, node.name)


def _chains(graph: Graph) -> dict[int, Chain]:
    found: dict[int, Chain] = {}
    for node in graph.nodes:
        made = _extended(graph, node, found) if reals.known(node) and len(node.outputs) == 1 else None
        if made is not None:
            found[node.outputs[0]] = made
    return found


def _extended(graph: Graph, node: Node, chains: Mapping[int, Chain]) -> Chain | None:
    """Return the chain that ends in this node, None when it has two sources, or none of int8."""
    running = [i for i in node.inputs if i >= 0 and not graph.tensors[i].constant]
    shape = graph.tensors[node.outputs[0]].shape
    if not running or any(graph.tensors[i].shape != shape for i in running):
        return None
    parts = [chains.get(i) or _start(graph, i) for i in running]
    for level in (parts, [_start(graph, i) for i in running]):  # else the chain begins here
        known = [part for part in level if part is not None]
        if len(known) == len(running) and len({part.source for part in known}) == 1:
            return _joined(graph, node, dict(zip(running, known, strict=True)))
    return None


def _start(graph: Graph, index: int) -> Chain | None:
    value = graph.tensors[index]
    q = value.quantisation
    if value.dtype != "int8" or q is None or q.scale.size != 1:
        return None
    return Chain(index, (np.arange(-128, 128) - float(q.zero_point[0])) * float(q.scale[0]), 0, True)


def _joined(graph: Graph, node: Node, parts: Mapping[int, Chain]) -> Chain | None:
    """Return the chain after the node, None for a constant operand that is not one value or one a channel."""
    operands: list[Array] = []
    for index in node.inputs:
        if index in parts:
            operands.append(parts[index].values)
            continue
        constant = reals.constant(graph.tensors[index])
        channels = graph.tensors[node.outputs[0]].shape[-1:]
        if constant is None or (constant.size != 1 and constant.shape[-1:] != channels):
            return None
        if constant.size not in (1, *channels) or constant.size > MAX_TABLES:
            return None
        operands.append(constant.reshape(1 if constant.size == 1 else (1, -1)))
    wide = any(operand.ndim > 1 for operand in operands)
    ready = [operand[:, None] if wide and operand.ndim == 1 else operand for operand in operands]
    source = next(iter(parts.values())).source
    values = reals.apply(graph, node, ready)
    if node.op not in FIXED:
        values = reals.saturated(graph.tensors[node.outputs[0]], values)
    linear = node.op.removeprefix("EAR_FLOAT_") in CHEAP and sum(i in parts for i in node.inputs) == 1
    return Chain(
        source,
        np.broadcast_to(values, (256, *values.shape[1:])),
        1 + sum(part.nodes for part in parts.values()),
        linear and all(part.linear for part in parts.values()),
    )


def _worth(graph: Graph, found: Links, chains: Mapping[int, Chain], node: Node, chain: Chain) -> bool:
    """Tell whether a table pays: two nodes, or one with a constant, needed by another than a longer chain."""
    value = graph.tensors[node.outputs[0]]
    single = chain.nodes == 1 and (node.op not in reals.PAIRS or chain.values.ndim > 1)
    if single or value.dtype not in ("int8", "float32"):
        return False
    if value.dtype == "float32" and (chain.values.ndim > 1 or np.isnan(chain.values).any()):
        return False
    readers = found.read(node.outputs[0])
    inside = readers and all(
        r.outputs[0] in chains and chains[r.outputs[0]].source == chain.source for r in readers
    )
    if inside and node.outputs[0] not in found.kept:
        return False
    return chain.values.ndim == 1 or not chain.linear


def _table(value: Tensor, real: Array) -> Array:
    """Return the table in the order of the unsigned byte: (256,), or (channels, 256)."""
    by_byte = np.roll(real, -128, axis=0).T
    if value.dtype == "float32":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(by_byte.astype(np.float32))
    q = value.quantisation
    assert q is not None  # int8 activations have a scale, or the op was refused
    steps = np.clip(np.nan_to_num(by_byte) / float(q.scale[0]), -1024, 1024)
    steps = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + float(q.zero_point[0])
    return np.ascontiguousarray(np.clip(steps, -128, 127).astype(np.int8))
