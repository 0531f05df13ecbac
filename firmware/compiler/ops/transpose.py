"""TRANSPOSE, and what every op shares whose output is the input read along other strides.

Any type; input and output must share scale and zero-point; all inputs but one are constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.operands import (
    by_clip,
    byte_walk,
    c_list,
    lead,
    positive_axis,
    stacked,
    strides,
)
from firmware.compiler.ops import (
    Call,
    Op,
    no_macs,
    output,
    refuse,
    require_dtype,
    require_integers,
    tensor,
)
from firmware.compiler.ops.quantize import only_output

AXES = 8  # loops of the copy
MOVED = ("int8", "int16", "int32", "int64", "uint8", "bool", "float32")


@dataclass(frozen=True)
class View:
    """How the output reads the input: element `start`, then `steps` along the axes of `shape`."""

    start: int
    shape: tuple[int, ...]  # of the walk, which may split or drop axes of the output
    steps: tuple[int, ...]
    result: tuple[int, ...] | None = None  # shape of the output where it is not that of the walk


def damaged(graph: Graph, node: Node, what: str) -> Exception:
    """Return the error of a node whose own numbers contradict each other."""
    return refuse(graph, node, what, "the file is damaged; export it again")


def moves_bytes(graph: Graph, node: Node, x: Tensor, y: Tensor) -> None:
    """Raise ModelError unless a value may go from x to y unchanged: same type, scale and zero-point."""
    require_dtype(graph, node, x, *MOVED)
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
    numbers = require_integers(graph, node, position)
    if len(numbers) != count:
        raise damaged(graph, node, f"input {position} has {len(numbers)} numbers, not {count}")
    return numbers


def one_axis(graph: Graph, node: Node) -> int:
    """Return the axis that input 1 names, counted from the front."""
    shape, given = tensor(graph, node, 0).shape, integers(graph, node, 1, 1)[0]
    axis = positive_axis(given, len(shape))
    if axis is None:
        raise damaged(graph, node, f"axis {given} of {shape}")
    return axis


def _transpose(graph: Graph, node: Node) -> View:
    shape = tensor(graph, node, 0).shape
    order = [axis % max(len(shape), 1) for axis in integers(graph, node, 1, len(shape))]
    if sorted(order) != list(range(len(shape))):
        raise damaged(graph, node, f"permutation {order} of a tensor with shape {shape}")
    own = strides(shape)
    return View(0, tuple(shape[axis] for axis in order), tuple(own[axis] for axis in order))


def _loops(value: Tensor, view: View) -> tuple[list[int], list[int], int]:
    return byte_walk(view.shape, view.steps, np.dtype(value.dtype).itemsize)


def view_op(name: str, newest: int, make: Callable[[Graph, Node], View], source: int = 0) -> Op:
    """Return the entry of an op that reads its input `source` along the strides that `make` works out."""

    def check(graph: Graph, node: Node) -> None:
        x, y = tensor(graph, node, source), only_output(graph, node)
        moves_bytes(graph, node, x, y)
        view = make(graph, node)
        shape = view.shape if view.result is None else view.result
        if shape != y.shape:
            raise damaged(graph, node, f"its output has shape {y.shape}, its input gives {shape}")
        if len(_loops(x, view)[0]) > AXES:
            what = f"a tensor with shape {x.shape} takes more than {AXES} loops"
            raise refuse(graph, node, what, "reshape it to fewer axes first")

    def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
        view = make(graph, node)
        x = np.ascontiguousarray(by_clip(inputs[source], tensor(graph, node, source)))
        first = x.reshape(x.shape[0], -1)[:, view.start :]
        steps = [first.strides[0], *(step * x.itemsize for step in view.steps)]
        seen = np.lib.stride_tricks.as_strided(first, (x.shape[0], *view.shape), steps)
        return [stacked(seen.copy(), output(graph, node))]

    def call(graph: Graph, node: Node) -> Call:
        x, view = tensor(graph, node, source), make(graph, node)
        return walk(x, view, f"{{in{source}}}", "{out0}")

    return Op(name, range(1, newest + 1), check, meaning, call, no_macs, batch=True)


def walk(value: Tensor, view: View, source: str, target: str) -> Call:
    """Return the copy of what `view` sees of `value`, between two C expressions."""
    sizes, steps, run = _loops(value, view)
    start = view.start * np.dtype(value.dtype).itemsize
    size, step = c_list(lead(sizes, AXES, 1)), c_list(lead(steps, AXES, 0))
    loops = f"(struct ear_walk){{ .start = {start}, .size = {size}, .step = {step}, .run = {run} }}"
    return Call("strided_copy", (source, target, loops))


OP = view_op("TRANSPOSE", 6, _transpose)
