"""TRANSPOSE, SLICE, STRIDED_SLICE and BROADCAST_TO: the output is the input read along other strides.

Any type; input and output must share scale and zero-point; all inputs but the first are constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.operands import (
    MAX_AXES,
    broadcast_strides,
    by_clip,
    byte_walk,
    c_list,
    lead,
    stacked,
    strides,
)
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, require_constant, tensor
from firmware.compiler.ops.quantize import only_output


@dataclass(frozen=True)
class View:
    """How the output reads the input: element `start`, then `steps` along the axes of `shape`."""

    start: int
    shape: tuple[int, ...]  # axes of the input's rank, or of the output's
    steps: tuple[int, ...]


def damaged(graph: Graph, node: Node, what: str) -> Exception:
    """Return the error of a node whose own numbers contradict each other."""
    return refuse(graph, node, what, "the file is damaged; export it again")


def moves_bytes(graph: Graph, node: Node, x: Tensor, y: Tensor) -> None:
    """Raise ModelError unless a value may go from x to y unchanged: same type, scale and zero-point."""
    same = x.dtype == y.dtype and (x.quantisation is None) == (y.quantisation is None)
    if same and x.quantisation is not None and y.quantisation is not None:
        same = np.array_equal(x.quantisation.scale, y.quantisation.scale) and np.array_equal(
            x.quantisation.zero_point, y.quantisation.zero_point
        )
    if not same:
        what = f"{x.name!r} and {y.name!r} differ in type, scale or zero-point; this op only moves values"
        raise refuse(graph, node, what, "quantise the model with one scale for both")


def integers(graph: Graph, node: Node, position: int, count: int) -> list[int]:
    """Return the `count` integers of a constant input."""
    data = require_constant(graph, node, tensor(graph, node, position)).reshape(-1)
    if data.size != count:
        raise damaged(graph, node, f"input {position} has {data.size} numbers, not {count}")
    return [int(value) for value in data]


def _transpose(graph: Graph, node: Node) -> View:
    shape = tensor(graph, node, 0).shape
    order = [axis % max(len(shape), 1) for axis in integers(graph, node, 1, len(shape))]
    if sorted(order) != list(range(len(shape))):
        raise damaged(graph, node, f"permutation {order} of a tensor with shape {shape}")
    own = strides(shape)
    return View(0, tuple(shape[axis] for axis in order), tuple(own[axis] for axis in order))


def _slice(graph: Graph, node: Node) -> View:
    shape = tensor(graph, node, 0).shape
    begin, size = (integers(graph, node, position, len(shape)) for position in (1, 2))
    size = [
        whole - first if count == -1 else count
        for first, count, whole in zip(begin, size, shape, strict=True)
    ]
    for first, count, whole in zip(begin, size, shape, strict=True):
        if not (first >= 0 and 0 < count <= whole - first):
            raise damaged(graph, node, f"it takes {size} from {begin} of a tensor with shape {shape}")
    own = strides(shape)
    return View(sum(b * s for b, s in zip(begin, own, strict=True)), tuple(size), own)


def _range(first: int, last: int, step: int, size: int, open_first: bool, open_last: bool) -> range:
    """Return the indices that Python's slice first:last:step takes of an axis."""
    return range(size)[slice(None if open_first else first, None if open_last else last, step)]


def _strided_slice(graph: Graph, node: Node) -> View:
    shape = tensor(graph, node, 0).shape
    begin, end, step = (integers(graph, node, position, len(shape)) for position in (1, 2, 3))
    masks = {name: int(node.options.get(f"{name}_mask", 0)) for name in ("begin", "end", "shrink_axis")}
    for name in ("ellipsis_mask", "new_axis_mask", "offset"):
        if node.options.get(name, 0):
            raise refuse(
                graph, node, f"{name} is not supported", "write the slice with one range for each axis"
            )
    taken = []
    for axis, size in enumerate(shape):
        flags = {name: bool(mask >> axis & 1) for name, mask in masks.items()}
        if step[axis] == 0 or (flags["shrink_axis"] and step[axis] < 0):
            raise damaged(graph, node, f"stride {step[axis]} on axis {axis}")
        indices = _range(begin[axis], end[axis], step[axis], size, flags["begin"], flags["end"])
        if flags["shrink_axis"]:
            first = indices.start if flags["begin"] else begin[axis]
            indices = range(first % size, first % size + 1) if -size <= first < size else range(0)
        if not indices:
            raise damaged(graph, node, f"it takes nothing of axis {axis} of a tensor with shape {shape}")
        taken.append(indices)
    own = strides(shape)
    return View(
        sum(indices.start * step for indices, step in zip(taken, own, strict=True)),
        tuple(len(indices) for indices in taken),
        tuple(indices.step * step for indices, step in zip(taken, own, strict=True)),
    )


def _broadcast_to(graph: Graph, node: Node) -> View:
    x, y = tensor(graph, node, 0), output(graph, node)
    target = tuple(integers(graph, node, 1, len(y.shape)))
    try:
        fits = target == y.shape and np.broadcast_shapes(x.shape, target) == target
    except ValueError:
        fits = False
    if not fits:
        raise damaged(graph, node, f"{x.shape} broadcast to {target} is not {y.shape}")
    return View(0, target, broadcast_strides(x.shape, target))


VIEWS: dict[str, tuple[Callable[[Graph, Node], View], int]] = {
    "BROADCAST_TO": (_broadcast_to, 3),
    "SLICE": (_slice, 6),
    "STRIDED_SLICE": (_strided_slice, 8),
    "TRANSPOSE": (_transpose, 6),
}


def _view(graph: Graph, node: Node) -> View:
    return VIEWS[node.op][0](graph, node)


def _loops(graph: Graph, node: Node) -> tuple[list[int], list[int], int]:
    view = _view(graph, node)
    return byte_walk(view.shape, view.steps, np.dtype(output(graph, node).dtype).itemsize)


def _check(graph: Graph, node: Node) -> None:
    x, y = tensor(graph, node, 0), only_output(graph, node)
    moves_bytes(graph, node, x, y)
    view = _view(graph, node)
    dropped = int(node.options.get("shrink_axis_mask", 0)) if node.op == "STRIDED_SLICE" else 0
    shape = tuple(size for axis, size in enumerate(view.shape) if not dropped >> axis & 1)
    if shape != y.shape:
        raise damaged(graph, node, f"its output has shape {y.shape}, its input gives {shape}")
    if len(_loops(graph, node)[0]) > MAX_AXES:
        what = f"a tensor with shape {x.shape} takes more than {MAX_AXES} loops"
        raise refuse(graph, node, what, "reshape it to fewer axes first")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    view = _view(graph, node)
    x = np.ascontiguousarray(by_clip(inputs[0], tensor(graph, node, 0)))
    first = x.reshape(x.shape[0], -1)[:, view.start :]
    steps = [first.strides[0], *(step * x.itemsize for step in view.steps)]
    seen = np.lib.stride_tricks.as_strided(first, (x.shape[0], *view.shape), steps)
    return [stacked(seen.copy(), output(graph, node))]


def _call(graph: Graph, node: Node) -> Call:
    sizes, steps, run = _loops(graph, node)
    start = _view(graph, node).start * np.dtype(output(graph, node).dtype).itemsize
    size, step = c_list(lead(sizes, MAX_AXES, 1)), c_list(lead(steps, MAX_AXES, 0))
    walk = f"(struct ear_walk){{ .start = {start}, .size = {size}, .step = {step}, .run = {run} }}"
    return Call("strided_copy", ("{in0}", "{out0}", walk))


OPS = tuple(
    Op(name, range(1, newest + 1), _check, _meaning, _call, no_macs, batch=True)
    for name, (_, newest) in VIEWS.items()
)
