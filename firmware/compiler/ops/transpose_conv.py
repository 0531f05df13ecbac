"""TRANSPOSE_CONV: a filter laid down at every input position, the results added (upsampling convolution).

As TFLM: int8, weights symmetric per tensor or per output channel, sums in 32 bits, double rounding.
Inputs: the output's shape, weights (out, rows, columns, in), x, and perhaps an int32 bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler.fixed_point import (
    multiply_by_quantised_multiplier,
    quantise_multipliers,
    saturate_int8,
    wrap_int32,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import (
    Call,
    Op,
    literal,
    optional,
    output,
    refuse,
    require_constant,
    require_dtype,
    tensor,
)
from firmware.compiler.ops.add import clamp
from firmware.compiler.ops.quantize import MAX_SHIFT, int8_of, only_output
from firmware.compiler.ops.transpose import damaged, integers

MAX_STEP = 1 << 15


def _strides(node: Node) -> tuple[int, int]:
    return int(node.options.get("stride_h", 0)), int(node.options.get("stride_w", 0))


def _padding(graph: Graph, node: Node) -> tuple[int, int]:
    """Return the (rows, columns) cut off before the output; ModelError when the sizes do not fit."""
    x, weights, y = tensor(graph, node, 2).shape, tensor(graph, node, 1).shape, output(graph, node).shape
    cut = []
    for axis, stride in enumerate(_strides(node), start=1):
        size, whole = weights[axis], y[axis]
        reach = 1 if node.options.get("padding", "SAME") == "SAME" else size
        if (whole - reach + stride) // stride != x[axis]:
            raise damaged(
                graph, node, f"{x} with a filter of {weights} and stride {stride} does not give {y}"
            )
        cut.append(max(0, (x[axis] - 1) * stride + size - whole) // 2)
    return cut[0], cut[1]


def _channels(graph: Graph, node: Node) -> npt.NDArray[np.int32]:
    """Return (out channels, 3): bias, multiplier, shift."""
    x, weights, y = tensor(graph, node, 2), tensor(graph, node, 1), output(graph, node)
    q = weights.quantisation
    count = weights.shape[0]
    if (
        q is None
        or q.scale.size not in (1, count)
        or (q.scale.size > 1 and q.axis != 0)
        or q.zero_point.any()
    ):
        what = (
            f"weights {weights.name!r} are not symmetric with one scale, or one for each of {count} outputs"
        )
        raise refuse(graph, node, what, "quantise the weights symmetrically")
    scales = int8_of(graph, node, x)[0] * q.scale.astype(np.float64) / int8_of(graph, node, y)[0]
    multipliers, shifts = quantise_multipliers(np.broadcast_to(scales, (count,)))
    if shifts.max() > MAX_SHIFT:
        raise refuse(
            graph, node, "its scales are out of proportion", "calibrate on data that reaches this tensor"
        )
    bias = optional(graph, node, 3)
    values = np.zeros(count, np.int32) if bias is None else require_constant(graph, node, bias).reshape(-1)
    if values.size != count or values.dtype != np.int32:
        raise damaged(graph, node, f"a bias of {values.size} {values.dtype} for {count} outputs")
    return np.stack([values, multipliers, shifts], axis=1)


def _check(graph: Graph, node: Node) -> None:
    x, weights, y = tensor(graph, node, 2), tensor(graph, node, 1), only_output(graph, node)
    for value in (x, weights, y):
        require_dtype(graph, node, value, "int8")
    require_constant(graph, node, weights)
    if not len(x.shape) == len(weights.shape) == len(y.shape) == 4:
        raise damaged(graph, node, f"shapes {x.shape}, {weights.shape}, {y.shape}")
    if x.shape[3] != weights.shape[3] or y.shape[3] != weights.shape[0] or x.shape[0] != y.shape[0]:
        raise damaged(graph, node, f"shapes {x.shape}, {weights.shape}, {y.shape}")
    if tuple(integers(graph, node, 0, 4)) != y.shape:
        raise damaged(graph, node, f"its output has shape {y.shape}, not {integers(graph, node, 0, 4)}")
    if not all(0 < stride < MAX_STEP for stride in _strides(node)):
        raise damaged(graph, node, f"strides {_strides(node)}")
    _padding(graph, node)
    _channels(graph, node)
    clamp(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x = inputs[2].astype(np.float64) - int8_of(graph, node, tensor(graph, node, 2))[1]
    weights, y = inputs[1].astype(np.float64), output(graph, node)
    (step_rows, step_columns), (top, left) = _strides(node), _padding(graph, node)
    (_, rows, columns, _), (count, size, width, _) = x.shape, weights.shape
    whole = (
        max((rows - 1) * step_rows + size, top + y.shape[1]),
        max((columns - 1) * step_columns + width, left + y.shape[2]),
    )
    sums = np.zeros((x.shape[0], *whole, count))
    for i in range(size):
        for j in range(width):
            places = (
                slice(i, i + rows * step_rows, step_rows),
                slice(j, j + columns * step_columns, step_columns),
            )
            sums[:, *places] += x @ weights[:, i, j].T
    kept = sums[:, top : top + y.shape[1], left : left + y.shape[2]].astype(np.int64)
    bias, multiplier, shift = _channels(graph, node).T
    scaled = multiply_by_quantised_multiplier(wrap_int32(kept + bias), multiplier, shift)
    return [saturate_int8(scaled + int8_of(graph, node, y)[1], *clamp(graph, node))]


def _call(graph: Graph, node: Node) -> Call:
    x, weights, y = tensor(graph, node, 2), tensor(graph, node, 1), output(graph, node)
    low, high = clamp(graph, node)
    shape = literal(
        "ear_transpose_conv",
        **dict(zip(("batches", "in_rows", "in_columns", "in_channels"), x.shape, strict=True)),
        in_zero=int8_of(graph, node, x)[1],
        **dict(zip(("out_rows", "out_columns", "out_channels"), y.shape[1:], strict=True)),
        out_zero=int8_of(graph, node, y)[1],
        low=low,
        high=high,
        filter_rows=weights.shape[1],
        filter_columns=weights.shape[2],
        stride_rows=_strides(node)[0],
        stride_columns=_strides(node)[1],
        pad_rows=_padding(graph, node)[0],
        pad_columns=_padding(graph, node)[1],
    )
    arguments = (shape, "{in2}", "{in1}", "{channels}", "{out0}")
    return Call("transpose_conv", arguments, {"channels": _channels(graph, node)})


def _macs(graph: Graph, node: Node) -> int:
    """Return the products before cropping."""
    weights = tensor(graph, node, 1)
    return tensor(graph, node, 2).elements * weights.elements // weights.shape[3]


OP = Op("TRANSPOSE_CONV", range(1, 6), _check, _meaning, _call, _macs, batch=True)
