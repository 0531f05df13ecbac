"""MEAN, SUM, REDUCE_MAX and REDUCE_MIN over any axes.

As TFLM: MEAN and SUM add up in 32 bits, take the zero-points off and requantise once; for MEAN the 1 / count
is folded into the multiplier, rounded down. LiteRT's reference gets int8 SUM wrong: TFLM is followed.
REDUCE_MAX and REDUCE_MIN move bytes, so input and output must share scale and zero-point.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.fixed_point import multiply_by_quantised_multiplier, saturate_int8
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, c_list, lead, positive_axis, product, stacked, strides
from firmware.compiler.ops import Call, Op, literal, no_macs, output, refuse, require_constant, tensor
from firmware.compiler.ops.quantize import factor, int8_of, only_output

LOOPS = 3  # kept axes, and reduced axes, that the kernel walks


def _axes(graph: Graph, node: Node) -> frozenset[int]:
    shape = tensor(graph, node, 0).shape
    given = require_constant(graph, node, tensor(graph, node, 1)).reshape(-1)
    axes = [positive_axis(int(axis), len(shape)) for axis in given]
    if None in axes:
        what = f"axis {given.tolist()} of a tensor with shape {shape}"
        raise refuse(graph, node, what, "the file is damaged; export it again")
    return frozenset(axis for axis in axes if axis is not None)


def _groups(graph: Graph, node: Node) -> dict[bool, list[tuple[int, int]]]:
    """Return the (size, step) of the merged kept (False) and reduced (True) axes, outermost first."""
    shape, axes = tensor(graph, node, 0).shape, _axes(graph, node)
    merged: list[tuple[bool, int, int]] = []
    for axis, (size, step) in enumerate(zip(shape, strides(shape), strict=True)):
        if size == 1:
            continue
        if merged and merged[-1][0] == (axis in axes):
            merged[-1] = (axis in axes, merged[-1][1] * size, step)
        else:
            merged.append((axis in axes, size, step))
    return {
        flag: [(size, step) for reduced, size, step in merged if reduced is flag] for flag in (False, True)
    }


def _loops(graph: Graph, node: Node) -> str:
    fields = []
    for name, axes in zip(("kept", "reduced"), _groups(graph, node).values(), strict=True):
        fields.append(f".{name} = {c_list(lead((size for size, _ in axes), LOOPS, 1))}")
        fields.append(f".{name}_step = {c_list(lead((step for _, step in axes), LOOPS, 0))}")
    return "(struct ear_reduce){ " + ", ".join(fields) + " }"


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    (scale_x, zero_x), (scale_y, zero_y) = (
        int8_of(graph, node, value) for value in (tensor(graph, node, 0), output(graph, node))
    )
    count = product(tensor(graph, node, 0).shape[axis] for axis in _axes(graph, node))
    multiplier, shift = factor(graph, node, scale_x / scale_y)
    if node.op == "MEAN":
        down = min(count.bit_length() - 1, 32, 31 + shift)
        multiplier, shift = (multiplier << down) // count, shift - down
    return {"zeros": zero_x * count, "multiplier": multiplier, "shift": shift, "zero_y": zero_y}


def _check_shapes(graph: Graph, node: Node) -> None:
    x, y, axes = tensor(graph, node, 0), only_output(graph, node), _axes(graph, node)
    keep = bool(node.options.get("keep_dims", False))
    expected = tuple(1 if i in axes else size for i, size in enumerate(x.shape) if keep or i not in axes)
    if y.shape != expected:
        what = f"its output has shape {y.shape}, {x.shape} over axes {sorted(axes)} gives {expected}"
        raise refuse(graph, node, what, "the file is damaged; export it again")
    if any(len(group) > LOOPS for group in _groups(graph, node).values()):
        raise refuse(
            graph, node, f"axes {sorted(axes)} of {x.shape} lie too far apart", "reduce in two steps"
        )
    if product(x.shape[axis] for axis in axes) > 1 << 22:
        raise refuse(graph, node, "more than 4194304 elements in one result", "reduce in two steps")


def _check_mean(graph: Graph, node: Node) -> None:
    _check_shapes(graph, node)
    _factors(graph, node)


def _check_max(graph: Graph, node: Node) -> None:
    _check_shapes(graph, node)
    x, y = int8_of(graph, node, tensor(graph, node, 0)), int8_of(graph, node, output(graph, node))
    if x != y:
        what = f"its input ({x[0]:.6g}, {x[1]}) and output ({y[0]:.6g}, {y[1]}) differ in scale or zero-point"
        raise refuse(graph, node, what, "quantise the model with one scale for both")


def _reduced(graph: Graph, node: Node, x: Array, reducer: np.ufunc, start: type) -> Array:
    """Return the reduction as `start`."""
    axes = tuple(axis + 1 for axis in sorted(_axes(graph, node)))
    y = reducer.reduce(by_clip(x, tensor(graph, node, 0)), axis=axes, dtype=start)
    return stacked(y, output(graph, node))


def _mean(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p = _factors(graph, node)
    total = _reduced(graph, node, inputs[0], np.add, np.int64) - p["zeros"]
    return [saturate_int8(multiply_by_quantised_multiplier(total, p["multiplier"], p["shift"]) + p["zero_y"])]


def _largest(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    reducer = np.maximum if node.op == "REDUCE_MAX" else np.minimum
    return [_reduced(graph, node, inputs[0], reducer, np.int8)]


def _call_mean(graph: Graph, node: Node) -> Call:
    parameters = literal("ear_mean", **_factors(graph, node))
    return Call("reduce", ("{in0}", "{out0}", _loops(graph, node), parameters), function="ear_mean")


def _call_max(graph: Graph, node: Node) -> Call:
    smallest = str(int(node.op == "REDUCE_MIN"))
    return Call("reduce", ("{in0}", "{out0}", _loops(graph, node), smallest), function="ear_reduce_max")


OPS = (
    Op("MEAN", range(1, 4), _check_mean, _mean, _call_mean, no_macs, batch=True),
    Op("SUM", range(1, 3), _check_mean, _mean, _call_mean, no_macs, batch=True),
    Op("REDUCE_MAX", range(1, 4), _check_max, _largest, _call_max, no_macs, batch=True),
    Op("REDUCE_MIN", range(1, 4), _check_max, _largest, _call_max, no_macs, batch=True),
)
