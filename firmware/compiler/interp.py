"""The living definition: runs a graph in numpy, integer for integer what the device computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, ModelError, Node
from firmware.compiler.ops import OPS, Op

BATCH_BYTES = 64 << 20  # of int8 activations that run_batch lets one op see at once, times its int64 work


def run(graph: Graph, inputs: Sequence[Array]) -> list[Array]:
    """Return the graph's outputs for one set of inputs, in the order and shapes of `graph.inputs`.

    States start from their initial values, as after a reset.

    Raises:
        ModelError: an input of the wrong shape or type, or an op that the compiler does not know.
    """
    return step(graph, inputs, initial_states(graph))[0]


def initial_states(graph: Graph) -> list[Array]:
    """Return what the states hold after a reset, in the order of `graph.states`."""
    tensors = ((graph.tensors[state.read], state.initial) for state in graph.states)
    return [np.full(tensor.shape, initial, tensor.dtype) for tensor, initial in tensors]


def step(graph: Graph, inputs: Sequence[Array], states: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """Return (outputs, next states) of one run; errors as for `run`."""
    values = trace(graph, inputs, states)
    return [values[index] for index in graph.outputs], [values[state.written] for state in graph.states]


def trace(graph: Graph, inputs: Sequence[Array], states: Sequence[Array]) -> dict[int, Array]:
    """Return tensor → value of everything that one run makes; errors as for `run`."""
    if len(inputs) != len(graph.inputs):
        raise ModelError(f"{graph.name} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    values: dict[int, Array] = {i: t.data for i, t in enumerate(graph.tensors) if t.data is not None}
    for index, array in zip(graph.inputs, inputs, strict=True):
        values[index] = _checked(graph, index, np.asarray(array))
    values.update((state.read, array) for state, array in zip(graph.states, states, strict=True))
    for node in graph.nodes:
        values.update(zip(node.outputs, _meaning(graph, node, values), strict=True))
    return values


def run_batch(graph: Graph, x: Array) -> Array:
    """Return the outputs (N, *output shape) of a one-input, one-output graph for N inputs at once.

    Args:
        graph: the graph.
        x: int8 array (N, *input shape without its batch axis of 1).

    Raises:
        ModelError: the graph has several inputs or outputs, or x has the wrong shape or type.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelError(
            f"{graph.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, not one each"
        )
    shape = graph.tensors[graph.inputs[0]].shape
    x = np.asarray(x)
    if x.shape[1:] not in (shape, shape[1:]):
        raise ModelError(f"{graph.name} takes inputs of shape {shape}, got {x.shape[1:]}")
    largest = max(t.bytes for t in graph.tensors if not t.constant)
    step = max(1, BATCH_BYTES // (largest * 64))
    parts = [_batch(graph, x[i : i + step]) for i in range(0, len(x), step)]
    out = graph.tensors[graph.outputs[0]]
    tail = out.shape[1:] if out.shape[:1] == (1,) else out.shape
    return np.concatenate(parts) if parts else np.zeros((0, *tail), out.dtype)


def _batch(graph: Graph, x: Array) -> Array:
    """Run N clips through every node; values keep a leading axis of clips before the tensor's own shape."""
    count = len(x)
    index = graph.inputs[0]
    values: dict[int, Array] = {i: t.data for i, t in enumerate(graph.tensors) if t.data is not None}
    values[index] = _checked(graph, index, x.reshape(count, *graph.tensors[index].shape), leading=1)
    for state, array in zip(graph.states, initial_states(graph), strict=True):
        values[state.read] = np.broadcast_to(array, (count, *array.shape))
    left = {
        i: sum(i in n.inputs for n in graph.nodes) + (i in graph.outputs) for i in range(len(graph.tensors))
    }
    for node in graph.nodes:
        values.update(zip(node.outputs, _node_batch(graph, node, values, count), strict=True))
        for i in set(node.inputs) - {-1}:
            left[i] -= 1
            if not left[i]:
                del values[i]
    out = graph.tensors[graph.outputs[0]]
    made = values[graph.outputs[0]]
    return made.reshape(count, *out.shape[1:]) if out.shape[:1] == (1,) else made


def _node_batch(graph: Graph, node: Node, values: dict[int, Array], count: int) -> list[Array]:
    op = operation(graph, node)
    shapes = [graph.tensors[i].shape for i in node.outputs]
    if op.alias:
        return [values[node.inputs[0]].reshape(count, *shapes[0])]
    running = {i for i in node.inputs if i >= 0 and not graph.tensors[i].constant}
    if op.batch and all(graph.tensors[i].shape[:1] == (1,) for i in (*running, *node.outputs)):
        merged = {i: values[i].reshape(count, *graph.tensors[i].shape[1:]) for i in running}
        made = _meaning(graph, node, {**values, **merged})
        return [array.reshape(count, *shape) for array, shape in zip(made, shapes, strict=True)]
    clips = [_meaning(graph, node, {**values, **{i: values[i][n] for i in running}}) for n in range(count)]
    return [np.stack(arrays) for arrays in zip(*clips, strict=True)]


def _meaning(graph: Graph, node: Node, values: dict[int, Array]) -> list[Array]:
    operands: list[Array] = [values[i] if i >= 0 else None for i in node.inputs]  # type: ignore[misc]
    return operation(graph, node).meaning(graph, node, operands)


def operation(graph: Graph, node: Node) -> Op:
    """Return the op of a node; ModelError naming it when there is none."""
    op = OPS.get(node.op)
    if op is None:
        raise ModelError(f"{graph.name}: {node.op} {node.name!r} is not supported")
    return op


def _checked(graph: Graph, index: int, array: Array, leading: int = 0) -> Array:
    wanted = graph.tensors[index]
    if array.dtype != wanted.dtype or array.shape[leading:] != wanted.shape:
        got = f"{array.dtype} {array.shape[leading:]}"
        raise ModelError(f"{graph.name}: input {wanted.name!r} is {wanted.dtype} {wanted.shape}, got {got}")
    return array
