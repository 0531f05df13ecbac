"""Works out nodes of few known values while a graph is made: the counters and conditions of its loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from firmware.compiler.graph import Array, Graph, ModelError, Node, Tensor
from firmware.compiler.ops import OPS

MAX_ELEMENTS = 1 << 12  # of a value that is worked out here: a counter, an index, a row of a state
COUNTERS = ("int32", "int64", "bool")
# What a counter goes through, in plain integers; int32 wraps as it does on the device.
INTEGERS: Mapping[str, Callable[..., Any]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "MINIMUM": np.minimum,
    "MAXIMUM": np.maximum,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
    "GREATER": np.greater,
    "GREATER_EQUAL": np.greater_equal,
    "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal,
    "LOGICAL_AND": np.logical_and,
    "LOGICAL_OR": np.logical_or,
    "LOGICAL_NOT": np.logical_not,
}


def fold(graph: Graph, node: Node, tensors: Sequence[Tensor]) -> list[Array] | None:
    """Return the outputs of a node whose inputs are known and small, None when they are not.

    Args:
        graph: that the node comes from; its outputs are tensors of this graph.
        node: its inputs are of `tensors`.
        tensors: of the graph that is being made.
    """
    given = [tensors[i] if i >= 0 else None for i in node.inputs]
    results = [graph.tensors[i] for i in node.outputs]
    sizes = [value.elements for value in (*given, *results) if value is not None]
    if max(sizes) > MAX_ELEMENTS or any(value is not None and value.data is None for value in given):
        return None
    values: list[Any] = [None if value is None else value.data for value in given]
    if node.op in INTEGERS and all(value is not None and value.dtype in COUNTERS for value in given):
        return _counted(node, values, results)
    op = OPS.get(node.op)
    if op is None or node.version not in op.versions:
        return None
    inputs = [value for value in given if value is not None]
    at = iter(range(len(inputs)))
    places = tuple(-1 if value is None else next(at) for value in given)
    outputs = tuple(range(len(inputs), len(inputs) + len(results)))
    small = Graph((*inputs, *results), (), (), (), graph.name)
    moved = Node(node.op, places, outputs, node.options, node.version, node.name)
    try:
        op.check(small, moved)
    except ModelError:
        return None
    return list(op.meaning(small, moved, values))


def _counted(node: Node, values: list[Any], results: list[Tensor]) -> list[Array] | None:
    unary = node.op == "LOGICAL_NOT"
    if node.options.get("fused_activation_function", "NONE") != "NONE":
        return None
    if len(results) != 1 or len(values) != (1 if unary else 2):
        return None
    try:
        with np.errstate(over="ignore"):
            made = np.asarray(INTEGERS[node.op](*values))
    except ValueError:  # shapes that do not broadcast: the op's own check says so
        return None
    result = results[0]
    if made.size != result.elements:
        return None
    return [made.astype(result.dtype).reshape(result.shape)]
