"""MEAN, SUM, REDUCE_MAX, REDUCE_MIN, REDUCE_ANY, REDUCE_ALL and REDUCE_PROD over any axes.

As TFLM: MEAN and SUM add up in 32 bits, take the zero-points off and requantise once; for MEAN the 1 / count
is folded into the multiplier, rounded down. LiteRT's reference gets int8 SUM wrong: TFLM is followed.
REDUCE_MAX and REDUCE_MIN (int16 and int32 not in TFLM: LiteRT) move values, so input and output must share
scale and zero-point. REDUCE_ANY (LiteRT) and REDUCE_ALL (TFLM) are the largest and the smallest of booleans.
REDUCE_PROD is of int32 and wraps, as LiteRT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from firmware.compiler.fixed_point import RANGES, multiply_by_quantised_multiplier, saturate
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, c_list, lead, positive_axis, product, stacked, strides
from firmware.compiler.ops import (
    Call,
    Op,
    literal,
    no_macs,
    output,
    refuse,
    require_dtype,
    require_integers,
    tensor,
)
from firmware.compiler.ops.quantize import factor, only_output, quantised, same_dtype
from firmware.compiler.ops.transpose import moves_bytes

MOST = {"int8": 1 << 22, "int16": (1 << 16) - 1}  # values whose sum fits the kernel's 32 bits
LOOPS = 3  # kept axes, and reduced axes, that the kernel walks


def _axes(graph: Graph, node: Node) -> frozenset[int]:
    shape = tensor(graph, node, 0).shape
    given = require_integers(graph, node, 1)
    axes = [positive_axis(axis, len(shape)) for axis in given]
    if None in axes:
        what = f"axis {given} of a tensor with shape {shape}"
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
    fields.append(f".width = {np.dtype(output(graph, node).dtype).itemsize}")
    return "(struct ear_reduce){ " + ", ".join(fields) + " }"


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    (scale_x, zero_x), (scale_y, zero_y) = (
        quantised(graph, node, value) for value in (tensor(graph, node, 0), output(graph, node))
    )
    count = product(tensor(graph, node, 0).shape[axis] for axis in _axes(graph, node))
    multiplier, shift = factor(graph, node, scale_x / scale_y)
    if node.op == "MEAN":
        down = min(count.bit_length() - 1, 32, 31 + shift)
        multiplier, shift = (multiplier << down) // count, shift - down
    low, high = RANGES[output(graph, node).dtype]
    factors = {"multiplier": multiplier, "shift": shift}
    return {"zeros": zero_x * count, **factors, "zero_y": zero_y, "low": low, "high": high}


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


def _check_mean(graph: Graph, node: Node) -> None:
    _check_shapes(graph, node)
    x = tensor(graph, node, 0)
    dtype = same_dtype(graph, node, x, output(graph, node))
    if product(x.shape[axis] for axis in _axes(graph, node)) > MOST[dtype]:
        raise refuse(graph, node, f"more than {MOST[dtype]} elements in one result", "reduce in two steps")
    _factors(graph, node)


def _check_types(*dtypes: str) -> Callable[[Graph, Node], None]:
    """Return the check of a reduction that keeps type, scale and zero-point."""

    def check(graph: Graph, node: Node) -> None:
        _check_shapes(graph, node)
        require_dtype(graph, node, tensor(graph, node, 0), *dtypes)
        moves_bytes(graph, node, tensor(graph, node, 0), output(graph, node))

    return check


def _reduced(graph: Graph, node: Node, x: Array, reducer: np.ufunc, start: type) -> Array:
    """Return the reduction as `start`."""
    axes = tuple(axis + 1 for axis in sorted(_axes(graph, node)))
    y = reducer.reduce(by_clip(x, tensor(graph, node, 0)), axis=axes, dtype=start)
    return stacked(y, output(graph, node))


def _mean(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p = _factors(graph, node)
    total = _reduced(graph, node, inputs[0], np.add, np.int64) - p["zeros"]
    scaled = multiply_by_quantised_multiplier(total, p["multiplier"], p["shift"])
    return [saturate(scaled + p["zero_y"], output(graph, node).dtype)]


REDUCERS: dict[str, np.ufunc] = {
    "REDUCE_ALL": np.minimum,
    "REDUCE_ANY": np.maximum,
    "REDUCE_MAX": np.maximum,
    "REDUCE_MIN": np.minimum,
    "REDUCE_PROD": np.multiply,
}


def _kept(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    return [_reduced(graph, node, inputs[0], REDUCERS[node.op], inputs[0].dtype.type)]


def _call_mean(graph: Graph, node: Node) -> Call:
    parameters = literal("ear_mean", **_factors(graph, node))
    return Call("reduce", ("{in0}", "{out0}", _loops(graph, node), parameters), function="ear_mean")


def _call_max(graph: Graph, node: Node) -> Call:
    smallest = str(int(REDUCERS[node.op] is np.minimum))
    return Call("reduce", ("{in0}", "{out0}", _loops(graph, node), smallest), function="ear_reduce_max")


def _call_product(graph: Graph, node: Node) -> Call:
    return Call("reduce", ("{in0}", "{out0}", _loops(graph, node)), function="ear_reduce_product")


NUMBERS = _check_types("int8", "int16", "int32")
BOOLEANS = _check_types("bool")
OPS = (
    Op("MEAN", range(1, 4), _check_mean, _mean, _call_mean, no_macs, batch=True),
    Op("SUM", range(1, 3), _check_mean, _mean, _call_mean, no_macs, batch=True),
    Op("REDUCE_MAX", range(1, 4), NUMBERS, _kept, _call_max, no_macs, batch=True),
    Op("REDUCE_MIN", range(1, 4), NUMBERS, _kept, _call_max, no_macs, batch=True),
    Op("REDUCE_ANY", range(1, 2), BOOLEANS, _kept, _call_max, no_macs, batch=True),
    Op("REDUCE_ALL", range(1, 2), BOOLEANS, _kept, _call_max, no_macs, batch=True),
    Op("REDUCE_PROD", range(1, 3), _check_types("int32"), _kept, _call_product, no_macs, batch=True),
)
