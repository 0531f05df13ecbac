"""Settles open shapes, and evaluates nodes whose outputs are known: constants, or only shapes matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from firmware.compiler.graph import Array, Graph, ModelError, Node, Quantisation, Tensor
from firmware.compiler.ops import OPS
from firmware.compiler.passes.shapes import shaped

MAX_ELEMENTS = 1 << 20  # of a folded value: a bigger one would not fit a device, and may be hostile
MAX_BYTES = 1 << 26  # of all folded values
MAX_MACS = 1 << 30  # of a folded node
TINY = 1e-12  # a scale for zeros that does not blur what they are added to
PRODUCTS = ("BATCH_MATMUL", "FULLY_CONNECTED", "MUL")  # give zero for zero, whatever the scales
MOVES = ("RESHAPE", "SLICE", "STRIDED_SLICE", "TRANSPOSE")  # so do these


def fold_constants(graph: Graph) -> Graph:
    """Return the graph with every node of constants replaced by its value; outputs stay computed.

    A node that its op refuses is left for the pass that reports it.
    """
    tensors = list(graph.tensors)
    kept = []
    spent = 0
    for node in graph.nodes:
        now = replace(graph, tensors=tuple(tensors))
        for index, value in shaped(now, node).items():
            tensors[index] = value
            now = replace(graph, tensors=tuple(tensors))
        if _vanishes(now, node):
            zero = tensors[node.outputs[0]]
            tensors[node.outputs[0]] = replace(zero, data=np.zeros(zero.shape, zero.dtype), quantisation=None)
            continue
        if not _foldable(now, node) or spent > MAX_BYTES:
            kept.append(node)
            continue
        spent += sum(tensors[i].bytes for i in node.outputs)
        inputs: list[Array] = [tensors[i].data if i >= 0 else None for i in node.inputs]  # type: ignore[misc]
        made = OPS[node.op].meaning(now, node, inputs)
        for index, array in zip(node.outputs, made, strict=True):
            tensors[index] = replace(tensors[index], data=array)
    return replace(graph, tensors=tuple(map(_scaled, tensors)), nodes=tuple(kept))


def _scaled(value: Tensor) -> Tensor:
    """Return the tensor; constant zeros to which the file gives no scale stand for zero in any."""
    if value.data is None or value.quantisation is not None or value.dtype not in ("int8", "int16"):
        return value
    if value.data.any():
        return value
    return replace(value, quantisation=Quantisation(np.full(1, TINY, np.float32), np.zeros(1, np.int32)))


def _vanishes(graph: Graph, node: Node) -> bool:
    """Tell whether int16 zeros stay zeros in this node: a recurrence that starts from zero."""
    if node.op not in (*PRODUCTS, *MOVES) or node.outputs[0] in graph.outputs or len(node.inputs) < 2:
        return False
    made = graph.tensors[node.outputs[0]]
    plain = made.dtype == "int16" and made.elements <= MAX_ELEMENTS
    unbiased = node.op in MOVES or all(i < 0 for i in node.inputs[2:])
    factors = [graph.tensors[i].data for i in node.inputs[: 2 if node.op == "MUL" else 1] if i >= 0]
    return plain and unbiased and any(data is not None and not data.any() for data in factors)


def _foldable(graph: Graph, node: Node) -> bool:
    op = OPS.get(node.op)
    known = all(i < 0 or graph.tensors[i].constant for i in node.inputs)
    if op is None or node.version not in op.versions or not (known or op.known):
        return False
    small = all(graph.tensors[i].elements <= MAX_ELEMENTS for i in node.outputs)
    if not small or set(node.outputs) & set(graph.outputs):
        return False
    try:
        op.check(graph, node)
    except ModelError:
        return False
    return op.macs(graph, node) <= MAX_MACS
