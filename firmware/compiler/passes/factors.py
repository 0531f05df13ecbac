"""Follows a product of int8 values back to the tensors that its factors are read from, element by element.

Views (slices, reshapes, transposes, splits) become indices; functions of one value become the real numbers
that its 256 bytes stand for. What the scales of the steps between would have rounded or cut off is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from firmware.compiler import reals
from firmware.compiler.floats import PREFIX
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import OPS
from firmware.compiler.passes.rewrite import Links

MOST = 3  # factors of a product
DEEPEST = 64  # nodes that are followed
VIEWS = {  # op: which input it moves
    "EXPAND_DIMS": 0,
    "RESHAPE": 0,
    "SLICE": 0,
    "SPLIT": 1,
    "SPLIT_V": 0,
    "SQUEEZE": 0,
    "STRIDED_SLICE": 0,
    "TRANSPOSE": 0,
    "UNPACK": 0,
}


@dataclass(frozen=True)
class Factor:
    """One factor of each element of a product."""

    base: int  # int8 tensor
    at: Array  # of the product's shape: which element of the base
    values: Array  # float64 (256,), or (256, size of the last axis): what -128..127 stand for
    plain: bool  # the values are those of the base's own scale
    sign: Array | None = None  # of the product's shape, -1 or 1; None: 1 everywhere


Product = tuple[Factor, ...]


def whole(graph: Graph, tensor: int) -> Product | None:
    """Return an int8 tensor as its own only factor, None for one without a single scale."""
    value = graph.tensors[tensor]
    q = value.quantisation
    if value.dtype != "int8" or q is None or q.scale.size != 1 or value.nibbles:
        return None
    real = (np.arange(-128, 128) - float(q.zero_point[0])) * float(q.scale[0])
    return (Factor(tensor, np.arange(value.elements).reshape(value.shape), real, plain=True),)


def factors(
    graph: Graph, found: Links, tensor: int, depth: int = 0, *, single: bool = False
) -> Product | None:
    """Return the product that a tensor is, its factors followed as far as they go; None without int8.

    Args:
        graph: the graph.
        found: its links.
        tensor: what to follow.
        depth: nodes followed so far.
        single: a constant factor belongs to the function that another is of its base.
    """
    if (tensor, single) not in found.followed:
        node = found.writer(tensor) if depth < DEEPEST else None
        made = None if node is None else _through(graph, found, node, tensor, depth + 1, single)
        found.followed[tensor, single] = made or whole(graph, tensor)
    product: Product | None = found.followed[tensor, single]
    return product


def _through(graph: Graph, found: Links, node: Node, tensor: int, depth: int, single: bool) -> Product | None:
    name = node.op.removeprefix(PREFIX)
    if node.op in VIEWS:
        return _viewed(graph, found, node, tensor, depth, single)
    if name in ("QUANTIZE", "DEQUANTIZE"):
        return factors(graph, found, node.inputs[0], depth, single=single)
    if name in ("CONCATENATION", "PACK"):
        return _joined([factors(graph, found, i, depth, single=True) for i in node.inputs], node)
    running = [i for i in node.inputs if i >= 0 and not graph.tensors[i].constant]
    if not reals.known(node) or not running:
        return None
    if len(running) == 1:
        elements = [graph.tensors[i].elements for i in node.inputs if i not in running]
        made = _function(graph, found, node, running[0], depth) if single or elements in ([], [1]) else None
        if made is not None:
            return made
    if name != "MUL" or node.options.get("fused_activation_function", "NONE") != "NONE":
        return None
    return _multiplied(graph, found, node, tensor, depth)


def _multiplied(graph: Graph, found: Links, node: Node, tensor: int, depth: int) -> Product | None:
    """Return the factors of both operands; the longer operand is one factor when they would be too many."""
    one, other = (factors(graph, found, i, depth) for i in node.inputs)
    if one is None or other is None:
        return None
    if len(one) + len(other) > MOST:
        one = whole(graph, node.inputs[0]) if len(one) >= len(other) else one
        other = whole(graph, node.inputs[1]) if one and len(one) + len(other) > MOST else other
    if one is None or other is None or len(one) + len(other) > MOST:
        return None
    shape = graph.tensors[tensor].shape
    made = tuple(_spread(factor, shape) for factor in (*one, *other))
    a, b = made[0], made[-1]
    alike = len(made) == 2 and a.base == b.base and a.sign is None and b.sign is None
    if alike and a.values.ndim == b.values.ndim and np.array_equal(a.at, b.at):  # such as x * sigmoid(x)
        return (replace(a, values=a.values * b.values, plain=False),)
    return made


def _spread(factor: Factor, shape: tuple[int, ...]) -> Factor:
    sign = None if factor.sign is None else np.broadcast_to(factor.sign, shape)
    return replace(factor, at=np.broadcast_to(factor.at, shape), sign=sign)


def _viewed(graph: Graph, found: Links, node: Node, tensor: int, depth: int, single: bool) -> Product | None:
    data = VIEWS[node.op]
    parts = factors(graph, found, node.inputs[data], depth, single=single)
    if parts is None:
        return None
    position = node.outputs.index(tensor)

    def moved(what: Array) -> Array:
        given = [what if i == data else graph.tensors[k].data for i, k in enumerate(node.inputs)]
        result: Array = OPS[node.op].meaning(graph, node, given)[position]  # type: ignore[arg-type]
        return result.reshape(graph.tensors[tensor].shape)

    if any(graph.tensors[k].data is None for i, k in enumerate(node.inputs) if i != data):
        return None
    if any(part.values.ndim > 1 for part in parts):  # each channel of the last axis has values of its own
        before, after = graph.tensors[node.inputs[data]].shape, graph.tensors[tensor].shape
        channel = moved(np.ascontiguousarray(np.broadcast_to(np.arange(before[-1]), before)))
        if not np.array_equal(channel, np.broadcast_to(np.arange(after[-1]), after)):
            return None
    return tuple(
        replace(p, at=moved(np.ascontiguousarray(p.at)), sign=None if p.sign is None else moved(p.sign))
        for p in parts
    )


def _joined(parts: Sequence[Product | None], node: Node) -> Product | None:
    """Return the factor of a concatenation of parts of one tensor, some of them negated perhaps."""
    single = [part[0] for part in parts if part is not None and len(part) == 1]
    if len(single) != len(parts) or any(p.base != single[0].base or p.values.ndim > 1 for p in single):
        return None
    first = next((part for part in single if part.plain), single[0])
    axis, signs = int(node.options["axis"]), []
    for part in single:
        own = np.ones(part.at.shape, np.int64) if part.sign is None else part.sign
        if np.array_equal(part.values, first.values):
            signs.append(own)
        elif np.allclose(part.values, -first.values, rtol=1e-9, atol=0):
            signs.append(-own)
        else:
            return None
    join = np.stack if node.op == "PACK" else np.concatenate
    at = join([part.at for part in single], axis)
    return (replace(first, at=at, sign=join(signs, axis)),)


def _function(graph: Graph, found: Links, node: Node, running: int, depth: int) -> Product | None:
    """Return the factor that a function of one value is, its constants one value or one a channel."""
    parts = factors(graph, found, running, depth, single=True)
    shape = graph.tensors[node.outputs[0]].shape
    if parts is None or len(parts) != 1 or parts[0].sign is not None:
        return None
    operands: list[Array] = []
    for index in node.inputs:
        constant = reals.constant(graph.tensors[index])
        if index == running:
            operands.append(parts[0].values)
        elif constant is not None and constant.size == 1:
            operands.append(constant.reshape(1))
        elif constant is not None and constant.shape == (*(1,) * (constant.ndim - 1), *shape[-1:]):
            operands.append(constant.reshape(1, -1))
        else:
            return None
    if any(operand.ndim > 1 for operand in operands):
        operands = [operand.reshape(len(operand), -1) for operand in operands]
    values = reals.apply(graph, node, operands)
    if not np.isfinite(values).all():
        return None
    return (replace(_spread(parts[0], shape), values=values, plain=False),)


def affine(at: Array) -> tuple[int, tuple[int, ...]] | None:
    """Return (first, steps) with at[i, j] = first + i steps[0] + j steps[1], None where it is not so."""
    first, steps, line = int(at.flat[0]), [], np.full(at.shape, int(at.flat[0]))
    for axis, size in enumerate(at.shape):
        origin = [0] * at.ndim
        origin[axis] = min(1, size - 1)
        step = int(at[tuple(origin)]) - first
        steps.append(step)
        line = line + np.arange(size).reshape(-1, *(1,) * (at.ndim - 1 - axis)) * step
    return (first, tuple(steps)) if np.array_equal(line, at) else None
