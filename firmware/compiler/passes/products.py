"""Joins products of slices, functions and constants into one EAR_PRODUCTS: gates (GLU) and rotary positions.

A MUL of two factors of which one is a slice of a tensor or a function of one, or an ADD or SUB of two such
products: the halves are not copied and nothing is rounded before the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from firmware.compiler.graph import Array, Graph, ModelError, Node
from firmware.compiler.operands import merge, strides
from firmware.compiler.ops import OPS
from firmware.compiler.ops.ear_products import Term, Terms
from firmware.compiler.passes.factors import Factor, Product, affine, factors
from firmware.compiler.passes.rewrite import Links, drop_unused, links
from firmware.compiler.products import AXES, Operand, finest, tabled

SUMS = ("ADD", "SUB")
MAX_TABLE = 1 << 12  # bytes


def fuse_products(graph: Graph) -> Graph:
    """Return the graph with each gate and each rotation that saves a node in one kernel."""
    if not any(node.op == "MUL" for node in graph.nodes):
        return graph
    found = links(graph)
    made: dict[int, Node] = {}
    for node in graph.nodes:
        joined = _joined(graph, found, node) if node.op in ("MUL", *SUMS) else None
        if joined is not None:
            made[joined.outputs[0]] = joined
    nodes = tuple(made.get(node.outputs[0], node) if node.outputs else node for node in graph.nodes)
    return drop_unused(replace(graph, nodes=nodes)) if made else graph


def _plain(graph: Graph, node: Node) -> bool:
    value = graph.tensors[node.outputs[0]]
    return node.options.get("fused_activation_function", "NONE") == "NONE" and value.dtype == "int8"


def _joined(graph: Graph, found: Links, node: Node) -> Node | None:
    if not _plain(graph, node):
        return None
    if node.op == "MUL":
        parts = [_gate(graph, found, node)]
    else:
        parts = [_rotated(graph, found, node, operand) for operand in node.inputs]
    if any(part is None for part in parts):
        return None
    return _node(graph, node, [part for part in parts if part is not None])


def _gate(graph: Graph, found: Links, node: Node) -> Product | None:
    """Return the factors of a MUL that saves what only it reads: a copy, or a function of another tensor."""
    if any(graph.tensors[i].constant for i in node.inputs):
        return None
    if not any(_saved(graph, found, tensor, node) for tensor in node.inputs):
        return None
    parts = factors(graph, found, node.outputs[0])
    return parts if parts is not None and len(parts) == 2 else None


def _saved(graph: Graph, found: Links, tensor: int, reader: Node) -> bool:
    """Tell whether the tensor is a copy or a function of another that nobody but this node reads."""
    parts = factors(graph, found, tensor) if found.only(tensor) is reader else None
    if parts is None or len(parts) > 1 or parts[0].base == tensor:
        return False
    return not (parts[0].plain and np.array_equal(parts[0].at.reshape(-1), np.arange(parts[0].at.size)))


def _rotated(graph: Graph, found: Links, node: Node, operand: int) -> Product | None:
    """Return the factors of a product that only this sum reads, a constant among them."""
    mul = found.writer(operand, "MUL")
    if mul is None or not _plain(graph, mul) or found.only(operand) is not node:
        return None
    parts = factors(graph, found, operand)
    constant = parts is not None and any(graph.tensors[part.base].constant for part in parts)
    shape = graph.tensors[operand].shape == graph.tensors[node.outputs[0]].shape
    return parts if constant and shape and len(parts or ()) == 2 else None


def _node(graph: Graph, node: Node, parts: Sequence[Product]) -> Node | None:
    """Return the node, None when its factors are no views of few axes."""
    shape = graph.tensors[node.outputs[0]].shape
    running = {f.base for part in parts for f in part if not graph.tensors[f.base].constant}
    inputs = tuple(sorted(running, key=lambda i: -graph.tensors[i].elements))
    for sizes in _layouts(shape):
        lines = [
            [_operand(graph, factor, _sign(graph, part, factor), inputs, sizes) for factor in part]
            for part in parts
        ]
        if any(operand is None for line in lines for operand in line):
            continue
        terms = _merged(sizes, [[o for o in line if o is not None] for line in lines])
        if terms is None:
            continue
        minus = node.op == "SUB"
        terms = replace(
            terms, terms=tuple(replace(t, minus=minus and i == 1) for i, t in enumerate(terms.terms))
        )
        made = Node("EAR_PRODUCTS", inputs, node.outputs, {"terms": terms}, 1, node.name)
        return made if _holds(graph, made) else None
    return None


def _holds(graph: Graph, node: Node) -> bool:
    try:
        OPS[node.op].check(graph, node)
    except ModelError:
        return False
    return True


def _layouts(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shape as it is, and with its last axis as halves or as pairs."""
    if not shape or shape[-1] % 2:
        return [shape]
    half = shape[-1] // 2
    return [shape, (*shape[:-1], 2, half), (*shape[:-1], half, 2)]


def _sign(graph: Graph, part: Product, factor: Factor) -> Array | None:
    """Return the signs that a factor takes over: all of the product's if it is its first constant."""
    constants = [f for f in part if graph.tensors[f.base].constant]
    signs = [f.sign for f in part if f.sign is not None]
    if not signs:
        return None
    if not constants:
        return signs[0]
    return np.prod(np.stack(signs), axis=0) if factor is constants[0] else None


def _operand(
    graph: Graph, factor: Factor, sign: Array | None, inputs: Sequence[int], sizes: tuple[int, ...]
) -> Operand | None:
    value = graph.tensors[factor.base]
    q = value.quantisation
    if q is None or factor.values.ndim > 1:
        return None
    if value.data is not None:
        zero, scale, numbers = int(q.zero_point[0]), float(q.scale[0]), value.data.reshape(-1)[factor.at]
        if sign is None:
            return _constant(numbers, zero, scale, sizes)
        return _constant(((numbers.astype(np.int64) - zero) * sign).astype(np.int16), 0, scale, sizes)
    even = affine(factor.at.reshape(sizes))
    if even is None or sign is not None:
        return None
    position = inputs.index(factor.base)
    if factor.plain:
        return Operand(position, *even, int(q.zero_point[0]), float(q.scale[0]))
    scale = finest(factor.values)
    return Operand(position, *even, 0, scale, tabled(factor.values, scale))


def _constant(numbers: Array, zero: int, scale: float, sizes: tuple[int, ...]) -> Operand:
    """Return the operand of known numbers, each kept once where they repeat along an axis."""
    kept = numbers.reshape(sizes)
    for axis in range(kept.ndim):
        if (kept == kept.take([0], axis)).all():
            kept = kept.take([0], axis)
    steps = tuple(
        0 if size == 1 else step for size, step in zip(kept.shape, strides(kept.shape), strict=True)
    )
    return Operand(-1, 0, steps, zero, scale, numbers=kept.reshape(-1))


def _merged(sizes: tuple[int, ...], lines: Sequence[Sequence[Operand]]) -> Terms | None:
    """Return the terms with neighbouring axes joined, None when more are left than the kernel has."""
    merged, *steps = merge(sizes, *(operand.steps for line in lines for operand in line))
    if len(merged) > AXES:
        return None
    left = iter(steps)
    terms = [Term(tuple(replace(operand, steps=next(left)) for operand in line)) for line in lines]
    return Terms(merged, tuple(terms))
