"""Float32 ops along axes: MEAN, SUM, REDUCE_MAX/MIN/PROD, CUMSUM, SOFTMAX, LOG_SOFTMAX, L2_NORMALIZATION.

Sums are taken in order, element by element, so that every core gives the same bits. A softmax is the
exponentials of the differences from the greatest, each divided by their sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler import float_functions as functions
from firmware.compiler.floats import (
    PREFIX,
    c_float,
    check_float,
    in_order,
    one_axis,
    same_elements,
    split_axes,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, literal, no_macs, output, refuse, require_integers, tensor

REDUCTIONS = ("MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM")
ROWS = ("L2_NORMALIZATION", "LOG_SOFTMAX", "SOFTMAX")  # along the last axis, shape kept
LEAST = np.float32(1e-6)  # norm that L2_NORMALIZATION divides by at least


def _name(node: Node) -> str:
    return node.op.removeprefix(PREFIX)


def _axes(graph: Graph, node: Node) -> frozenset[int]:
    if _name(node) in ROWS:
        return one_axis(graph, node, -1)
    return frozenset[int]().union(*(one_axis(graph, node, axis) for axis in require_integers(graph, node, 1)))


def _sizes(graph: Graph, node: Node) -> tuple[int, int, int]:
    return split_axes(graph, node, _axes(graph, node))


def _check(graph: Graph, node: Node) -> None:
    check_float(graph, node, 1)
    axes, shape = _axes(graph, node), tensor(graph, node, 0).shape
    _sizes(graph, node)
    if _name(node) not in REDUCTIONS:
        same_elements(graph, node)
        return
    keep = bool(node.options.get("keep_dims", False))
    expected = tuple(1 if i in axes else size for i, size in enumerate(shape) if keep or i not in axes)
    if output(graph, node).shape != expected:
        what = (
            f"its output has shape {output(graph, node).shape}, {shape} over {sorted(axes)} gives {expected}"
        )
        raise refuse(graph, node, what, "the file is damaged; export it again")


def _reduced(name: str, x: Array) -> Array:
    """Return x (outer, count, inner) reduced to (outer, 1, inner)."""
    if name == "REDUCE_PROD":
        return np.take(np.multiply.accumulate(x, axis=1, dtype=np.float32), [-1], axis=1)
    if name in ("REDUCE_MAX", "REDUCE_MIN"):
        extreme = np.maximum if name == "REDUCE_MAX" else np.minimum
        return np.asarray(extreme.reduce(x, axis=1, keepdims=True))
    total = in_order(x, 1)
    return total / np.float32(x.shape[1]) if name == "MEAN" else total


def _running_sum(node: Node, x: Array) -> Array:
    x = x[:, ::-1] if node.options.get("reverse", False) else x
    y = np.add.accumulate(x, axis=1, dtype=np.float32)
    if node.options.get("exclusive", False):
        y = np.concatenate([np.zeros_like(y[:, :1]), y[:, :-1]], axis=1)
    return y[:, ::-1] if node.options.get("reverse", False) else y


def _rows(node: Node, x: Array) -> Array:
    if _name(node) == "L2_NORMALIZATION":
        return np.asarray(x / np.maximum(np.sqrt(in_order(x * x, 1)), LEAST))
    difference = x - x.max(axis=1, keepdims=True)
    if _name(node) == "LOG_SOFTMAX":
        return np.asarray(difference - functions.log(in_order(functions.exp(difference), 1)))
    e = functions.exp(difference * np.float32(node.options.get("beta", 1.0)))
    return e / in_order(e, 1)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    _, count, inner = _sizes(graph, node)
    x, y = inputs[0].reshape(-1, count, inner), output(graph, node)
    with np.errstate(all="ignore"):
        if _name(node) in REDUCTIONS:
            made = _reduced(_name(node), x)
        else:
            made = _running_sum(node, x) if _name(node) == "CUMSUM" else _rows(node, x)
    clips = inputs[0].size // tensor(graph, node, 0).elements
    shape = (y.shape[0] * clips, *y.shape[1:]) if y.shape else ()
    return [made.astype(np.float32).reshape(shape)]


def _call(graph: Graph, node: Node) -> Call:
    outer, count, inner = _sizes(graph, node)
    sizes = literal("ear_axis", outer=outer, count=count, inner=inner)
    extra: tuple[str, ...] = ()
    if _name(node) == "CUMSUM":
        extra = tuple(str(int(bool(node.options.get(name, False)))) for name in ("reverse", "exclusive"))
    elif _name(node) == "SOFTMAX":
        extra = (c_float(float(node.options.get("beta", 1.0))),)
    function = f"ear_float_{_name(node).lower()}"
    return Call("float_reduce", ("{in0}", "{out0}", sizes, *extra), function=function)


def _refuse_nothing_to_reduce(graph: Graph, node: Node) -> None:
    _check(graph, node)
    if not _axes(graph, node):
        raise refuse(graph, node, "no axes", "the file is damaged; export it again")


OPS = tuple(
    Op(PREFIX + name, range(1, 16), _refuse_nothing_to_reduce, _meaning, _call, no_macs, batch=True)
    for name in (*REDUCTIONS, "CUMSUM")
) + tuple(
    Op(PREFIX + name, range(1, 16), _check, _meaning, _call, no_macs, in_place=True, batch=True)
    for name in ROWS
)
