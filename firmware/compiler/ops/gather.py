"""GATHER, EMBEDDING_LOOKUP and REVERSE_SEQUENCE (chosen slices along one axis), GATHER_ND, ONE_HOT. Any type.

Indices are constants or tensors of int32 or int64. One out of range stops LiteRT and reads past the tensor
in TFLM: a constant one is refused, one of run time is moved into the range. The lengths of REVERSE_SEQUENCE
are constants.
ONE_HOT, REVERSE_SEQUENCE and batch_dims are not in TFLM: LiteRT is followed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.operands import c_list, positive_axis, product, strides
from firmware.compiler.ops import Call, Op, literal, no_macs, output, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, integers, moves_bytes

Indices = npt.NDArray[np.int32]
SOURCES = {"EMBEDDING_LOOKUP": 1}  # input that holds the values, where it is not the first


def _source(graph: Graph, node: Node) -> Tensor:
    return tensor(graph, node, SOURCES.get(node.op, 0))


def _indices(graph: Graph, node: Node) -> Tensor:
    return tensor(graph, node, 1 - SOURCES.get(node.op, 0))


def _axis(graph: Graph, node: Node, name: str = "axis") -> int:
    shape, given = _source(graph, node).shape, int(node.options.get(name, 0))
    axis = positive_axis(given, len(shape))
    if axis is None:
        raise damaged(graph, node, f"{name} {given} of {shape}")
    return axis


def _batches(graph: Graph, node: Node) -> int:
    """Return how many leading axes of the indices go along with those of the values."""
    given, chosen = int(node.options.get("batch_dims", 0)), _indices(graph, node).shape
    count = given + len(chosen) if given < 0 else given
    axis = _axis(graph, node)
    if not 0 <= count <= min(axis, len(chosen)) or chosen[:count] != _source(graph, node).shape[:count]:
        raise damaged(graph, node, f"batch_dims {given} of indices with shape {chosen}, axis {axis}")
    return count


def _check_indices(graph: Graph, node: Node, chosen: Tensor, sizes: Sequence[int]) -> None:
    """Raise ModelError unless the indices are integers, below the sizes where they are constants."""
    require_dtype(graph, node, chosen, "int32", "int64")
    if chosen.data is not None and ((chosen.data < 0).any() or (chosen.data >= np.array(sizes)).any()):
        raise damaged(graph, node, f"indices outside 0..{max(sizes, default=1) - 1}")


def _check(graph: Graph, node: Node) -> None:
    x, y, chosen, axis = (
        _source(graph, node),
        only_output(graph, node),
        _indices(graph, node),
        _axis(graph, node),
    )
    moves_bytes(graph, node, x, y)
    _check_indices(graph, node, chosen, [x.shape[axis]])
    shape = (*x.shape[:axis], *chosen.shape[_batches(graph, node) :], *x.shape[axis + 1 :])
    if y.shape != shape:
        raise damaged(graph, node, f"its output has shape {y.shape}, its inputs give {shape}")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    source = SOURCES.get(node.op, 0)
    x, axis, batches = inputs[source], _axis(graph, node), _batches(graph, node)
    size, shape = _source(graph, node).shape[axis], output(graph, node).shape
    chosen = np.clip(inputs[1 - source], 0, size - 1)
    each = zip(x.reshape(-1, *x.shape[batches:]), chosen.reshape(-1, *chosen.shape[batches:]), strict=True)
    if batches:
        return [np.stack([np.take(a, i, axis=axis - batches) for a, i in each]).reshape(shape)]
    return [np.take(x, chosen, axis=axis).reshape(shape)]


def _call(graph: Graph, node: Node) -> Call:
    x, axis, batches, chosen = (
        _source(graph, node),
        _axis(graph, node),
        _batches(graph, node),
        _indices(graph, node),
    )
    sizes = literal(
        "ear_gather",
        batches=product(x.shape[:batches]),
        rows=product(x.shape[batches:axis]),
        length=x.shape[axis],
        count=product(chosen.shape[batches:]),
        index=np.dtype(chosen.dtype).itemsize,
        run=product(x.shape[axis + 1 :]) * np.dtype(x.dtype).itemsize,
    )
    values, places = ("{in1}", "{in0}") if node.op in SOURCES else ("{in0}", "{in1}")
    return Call("gather", (values, "{out0}", places, sizes))


def _reversal(graph: Graph, node: Node) -> tuple[int, Indices]:
    """Return (first axis of both, which place of the two axes and those between goes to each place)."""
    shape = tensor(graph, node, 0).shape
    sequence, batch = (_axis(graph, node, name) for name in ("seq_dim", "batch_dim"))
    if sequence == batch:
        raise damaged(graph, node, f"seq_dim and batch_dim are both {batch}")
    lengths = integers(graph, node, 1, shape[batch])
    if min(lengths) < 0 or max(lengths) > shape[sequence]:
        raise damaged(graph, node, f"lengths {lengths} of an axis of {shape[sequence]}")
    first, last = sorted((sequence, batch))
    inner = shape[first : last + 1]
    places = np.moveaxis(np.arange(product(inner)).reshape(inner), (batch - first, sequence - first), (0, 1))
    turned = np.array(places)
    for row, length in enumerate(lengths):
        turned[row, :length] = places[row, :length][::-1]
    return first, np.moveaxis(turned, (0, 1), (batch - first, sequence - first)).reshape(-1).astype(np.int32)


def _check_reverse(graph: Graph, node: Node) -> None:
    x, y = tensor(graph, node, 0), only_output(graph, node)
    moves_bytes(graph, node, x, y)
    if x.shape != y.shape:
        raise damaged(graph, node, f"its output has shape {y.shape}, its input {x.shape}")
    _reversal(graph, node)


def _reversed(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    shape = tensor(graph, node, 0).shape
    first, places = _reversal(graph, node)
    return [inputs[0].reshape(product(shape[:first]), places.size, -1)[:, places].reshape(shape)]


def _call_reverse(graph: Graph, node: Node) -> Call:
    x, (first, places) = tensor(graph, node, 0), _reversal(graph, node)
    rows = product(x.shape[:first])
    sizes = literal(
        "ear_gather",
        batches=1,
        rows=rows,
        length=places.size,
        count=places.size,
        index=4,
        run=x.bytes // (rows * places.size),
    )
    return Call("gather", ("{in0}", "{out0}", "{places}", sizes), {"places": places})


def _check_nd(graph: Graph, node: Node) -> None:
    x, y, chosen = tensor(graph, node, 0), only_output(graph, node), tensor(graph, node, 1)
    moves_bytes(graph, node, x, y)
    depth = chosen.shape[-1] if chosen.shape else 0
    if not 1 <= depth <= len(x.shape):
        raise damaged(graph, node, f"indices with shape {chosen.shape} into {x.shape}")
    _check_indices(graph, node, chosen, x.shape[:depth])
    shape = (*chosen.shape[:-1], *x.shape[depth:])
    if y.shape != shape:
        raise damaged(graph, node, f"its output has shape {y.shape}, its inputs give {shape}")


def _gathered(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, chosen = inputs[0], inputs[1]
    depth = chosen.shape[-1]
    inside = np.clip(chosen, 0, np.array(x.shape[:depth]) - 1)
    return [x[tuple(np.moveaxis(inside, -1, 0))].reshape(output(graph, node).shape)]


def _call_nd(graph: Graph, node: Node) -> Call:
    x, chosen = tensor(graph, node, 0), tensor(graph, node, 1)
    depth, item = chosen.shape[-1], np.dtype(x.dtype).itemsize
    own = strides(x.shape)
    steps, index = c_list(step * item for step in own[:depth]), np.dtype(chosen.dtype).itemsize
    fields = (
        f".count = {product(chosen.shape[:-1])}, .depth = {depth}, .index = {index}, "
        f".size = {c_list(x.shape[:depth])}, .step = {steps}, .run = {own[depth - 1] * item}"
    )
    arguments = ("{in0}", "{out0}", "{in1}", f"(struct ear_gather_nd){{ {fields} }}")
    return Call("gather", arguments, function="ear_gather_nd")


def _hot_axis(graph: Graph, node: Node) -> int:
    given, rank = int(node.options.get("axis", -1)), len(output(graph, node).shape)
    axis = positive_axis(given, rank)
    if axis is None:
        raise damaged(graph, node, f"axis {given} of {output(graph, node).shape}")
    return axis


def _check_hot(graph: Graph, node: Node) -> None:
    x, y = tensor(graph, node, 0), only_output(graph, node)
    require_dtype(graph, node, x, "int32", "int64")
    depth = integers(graph, node, 1, 1)[0]
    for position in (2, 3):
        value = tensor(graph, node, position)
        moves_bytes(graph, node, value, y)
        if value.elements != 1:
            raise damaged(graph, node, f"input {position} has shape {value.shape}")
    axis = _hot_axis(graph, node)
    if y.shape != (*x.shape[:axis], depth, *x.shape[axis:]):
        raise damaged(graph, node, f"{x.shape} with {depth} values on axis {axis} is not {y.shape}")


def _hot(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, _, on, off = inputs
    axis, y = _hot_axis(graph, node), output(graph, node)
    depths = np.arange(y.shape[axis]).reshape(-1, *[1] * (len(y.shape) - axis - 1))
    return [np.where(np.expand_dims(x, axis) == depths, on.reshape(()), off.reshape(())).astype(y.dtype)]


def _call_hot(graph: Graph, node: Node) -> Call:
    x, y, axis = tensor(graph, node, 0), output(graph, node), _hot_axis(graph, node)
    sizes = literal(
        "ear_one_hot",
        outer=product(y.shape[:axis]),
        depth=y.shape[axis],
        inner=product(y.shape[axis + 1 :]),
        index=np.dtype(x.dtype).itemsize,
        item=np.dtype(y.dtype).itemsize,
    )
    return Call("gather", ("{in0}", "{out0}", "{in2}", "{in3}", sizes), function="ear_one_hot")


OPS = (
    Op("GATHER", range(1, 8), _check, _meaning, _call, no_macs),
    Op("EMBEDDING_LOOKUP", range(1, 5), _check, _meaning, _call, no_macs),
    Op("REVERSE_SEQUENCE", range(1, 2), _check_reverse, _reversed, _call_reverse, no_macs),
    Op("GATHER_ND", range(1, 6), _check_nd, _gathered, _call_nd, no_macs),
    Op("ONE_HOT", range(1, 2), _check_hot, _hot, _call_hot, no_macs),
)
