"""SHAPE, RANK, ZEROS_LIKE, RANGE and BROADCAST_ARGS: values that are known when compiling.

The passes replace them by constants; one that is an output of the model is copied. RANGE and
BROADCAST_ARGS take constants. ZEROS_LIKE of int8 is the zero-point; TFLM writes the byte 0, LiteRT has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, require_constant, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import MOVED, View, damaged, walk

MOST = 1 << 20  # elements: as many as the pass folds that evaluates constants
Value = Callable[[Graph, Node], Array]


def _shape(graph: Graph, node: Node) -> Array:
    return np.array(tensor(graph, node, 0).shape, np.int64)


def _rank(graph: Graph, node: Node) -> Array:
    return np.array(len(tensor(graph, node, 0).shape), np.int64)


def _zeros(graph: Graph, node: Node) -> Array:
    """Return the zero of each element: of a quantised tensor its zero-point."""
    x, y = tensor(graph, node, 0), output(graph, node)
    zero = 0 if y.quantisation is None else y.quantisation.zero_point[0]
    return np.full(x.shape, zero, y.dtype)


def _range(graph: Graph, node: Node) -> Array:
    y = output(graph, node)
    numbers = [require_constant(graph, node, tensor(graph, node, position)) for position in range(3)]
    if any(number.size != 1 or number.dtype != y.dtype for number in numbers):
        raise damaged(graph, node, f"it counts {y.dtype} by {[(n.dtype.name, n.shape) for n in numbers]}")
    start, limit, step = (number.reshape(-1)[0].item() for number in numbers)
    with np.errstate(all="ignore"):
        count = np.ceil(np.float64(limit - start) / step) if step else np.nan
    if y.shape != (count,):
        raise damaged(graph, node, f"{start} to {limit} in steps of {step} is not {y.shape}")
    return np.cumsum([start, *[step] * (y.elements - 1)], dtype=y.dtype)  # LiteRT adds step by step too


def _broadcast_args(graph: Graph, node: Node) -> Array:
    shapes = [require_constant(graph, node, tensor(graph, node, position)).tolist() for position in range(2)]
    try:
        return np.array(np.broadcast_shapes(*shapes), np.int64)
    except (TypeError, ValueError):
        raise damaged(graph, node, f"{shapes[0]} and {shapes[1]} do not broadcast") from None


VALUES: dict[str, tuple[Value, int]] = {  # op: (its value, newest version)
    "BROADCAST_ARGS": (_broadcast_args, 1),
    "RANGE": (_range, 2),
    "RANK": (_rank, 1),
    "SHAPE": (_shape, 1),
    "ZEROS_LIKE": (_zeros, 1),
}


def _value(graph: Graph, node: Node) -> Array:
    return VALUES[node.op][0](graph, node).astype(output(graph, node).dtype)


def _check(graph: Graph, node: Node) -> None:
    y = only_output(graph, node)
    if y.elements > MOST:
        raise refuse(graph, node, f"{y.elements} values", f"keep it to {MOST}")
    integer = node.op not in ("ZEROS_LIKE", "RANGE")
    require_dtype(graph, node, y, *(("int32", "int64") if integer else MOVED))
    if _value(graph, node).shape != y.shape:
        raise damaged(graph, node, f"its output has shape {y.shape}, not {_value(graph, node).shape}")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    return [_value(graph, node)]


def _call(graph: Graph, node: Node) -> Call:
    y, value = output(graph, node), _value(graph, node)
    copy = walk(y, View(0, (y.elements,), (1,)), "{value}", "{out0}")
    return Call("strided_copy", copy.arguments, {"value": value})


OPS = tuple(
    Op(name, range(1, newest + 1), _check, _meaning, _call, no_macs, known=True)
    for name, (_, newest) in VALUES.items()
)
