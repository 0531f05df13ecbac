"""TRANSPOSE_CONV: a filter laid down at every input position, the results added (upsampling convolution).

As TFLM: int8, or int16 with sums of 64 bits (and a bias of 64), weights int8, symmetric per tensor or per
output channel. Inputs: the output's shape, weights (out, rows, columns, in), x, and perhaps a bias.

Lowered by phases: the outputs between two inputs see the same inputs, through taps of their own. See
kernels/transpose_conv.h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from firmware.compiler import convolution, layouts
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.layouts.layout import Layout, Product
from firmware.compiler.ops import Call, Op, literal, output, per_tensor, refuse, require_constant, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, integers

WHERE = convolution.Operands(axis=0, input=2, weights=1, bias=3)

MAX_STEP = 1 << 15
GAPS = 64  # phases without a tap, of which each costs a filter of zeros


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


def _check(graph: Graph, node: Node) -> None:
    x, weights, y = tensor(graph, node, 2), tensor(graph, node, 1), only_output(graph, node)
    if not len(x.shape) == len(weights.shape) == len(y.shape) == 4:
        raise damaged(graph, node, f"shapes {x.shape}, {weights.shape}, {y.shape}")
    if x.shape[3] != weights.shape[3] or y.shape[3] != weights.shape[0] or x.shape[0] != y.shape[0]:
        raise damaged(graph, node, f"shapes {x.shape}, {weights.shape}, {y.shape}")
    convolution.check_weighted(graph, node, WHERE)
    if tuple(integers(graph, node, 0, 4)) != y.shape:
        raise damaged(graph, node, f"its output has shape {y.shape}, not {integers(graph, node, 0, 4)}")
    if not all(0 < stride < MAX_STEP for stride in _strides(node)):
        raise damaged(graph, node, f"strides {_strides(node)}")
    if math.prod(_strides(node)) > math.prod(weights.shape[1:3]) + GAPS:
        what = f"strides {_strides(node)} leave gaps between filters of {weights.shape[1:3]}"
        raise refuse(graph, node, what, "make the filter as long as the stride")
    _padding(graph, node)
    if x.dtype == "int16" and len(node.inputs) > 3 and not _whole(graph, node).wide:
        raise refuse(graph, node, "int16 with a bias of 32 bits", "convert it again with a bias of 64 bits")


def _whole(graph: Graph, node: Node) -> convolution.Channels:
    """Return the requantisation of all taps."""
    weights = require_constant(graph, node, tensor(graph, node, 1))
    return convolution.channels_of(graph, node, WHERE, weights.reshape(len(weights), -1))


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x = inputs[2].astype(np.float64)  # exact: sums below 2**53
    weights, y = inputs[1].astype(np.float64), output(graph, node)
    (step_rows, step_columns), (top, left) = _strides(node), _padding(graph, node)
    (_, rows, columns, _), (count, size, width, _) = x.shape, weights.shape
    whole = (
        max((rows - 1) * step_rows + size, top + y.shape[1]),
        max((columns - 1) * step_columns + width, left + y.shape[2]),
    )
    sums = np.zeros((x.shape[0], *whole, count))
    x -= per_tensor(graph, node, tensor(graph, node, 2))[1]
    for i in range(size):
        for j in range(width):
            places = (
                slice(i, i + rows * step_rows, step_rows),
                slice(j, j + columns * step_columns, step_columns),
            )
            sums[:, *places] += x @ weights[:, i, j].T
    kept = sums[:, top : top + y.shape[1], left : left + y.shape[2]].astype(np.int64)
    bare = convolution.channels_of(graph, node, WHERE, np.zeros((count, 1), np.int8))  # no zero-point to fold
    return [bare.requantise(kept)]


@dataclass(frozen=True)
class _Phases:
    """Phases along one axis: the first `longer` have `taps` taps, the others one less, but at least one."""

    stride: int
    longer: int
    taps: int

    def taps_of(self, phase: int) -> int:
        return self.taps if phase < self.longer else max(self.taps - 1, 1)

    def filters(self, weights: Array, axis: int, phase: int) -> Array:
        """Return a phase's taps along an axis, last first, zeros where there is none."""
        taps = np.take(weights, range(phase, weights.shape[axis], self.stride), axis=axis)
        missing = [(0, 0)] * weights.ndim
        missing[axis] = (0, self.taps_of(phase) - taps.shape[axis])
        return np.flip(np.pad(taps, missing), axis)


def _axes(graph: Graph, node: Node) -> tuple[_Phases, _Phases]:
    """Return the phases of rows and of columns."""
    sizes = zip(tensor(graph, node, 1).shape[1:3], _strides(node), strict=True)
    rows, columns = (_Phases(stride, size % stride or stride, -(-size // stride)) for size, stride in sizes)
    return rows, columns


def _matrices(graph: Graph, node: Node, columns: range) -> list[Product]:
    """Return for each row phase the matrix of some column phases; all share the way to requantise."""
    weights = require_constant(graph, node, tensor(graph, node, 1))
    of_rows, of_columns = _axes(graph, node)
    made = []
    for phase in range(of_rows.stride):
        part = of_rows.filters(weights, 1, phase)
        rows = np.concatenate([of_columns.filters(part, 2, j).reshape(len(part), -1) for j in columns])
        channels = convolution.channels_of(graph, node, WHERE, rows)
        made.append(Product(rows, channels, columns=2, gathered=True, roomy=graph.roomy))
    narrow = all(product.channels.narrow for product in made)
    return [replace(p, channels=replace(p.channels, narrow=narrow)) for p in made]


@dataclass(frozen=True)
class _Part:
    """The matrices of the column phases with as many taps, for all row phases."""

    phases: str
    output: str
    layout: Layout


def _part(graph: Graph, node: Node, columns: range) -> _Part:
    """Return the matrices of some column phases, all packed or none."""
    of_rows, of_columns = _axes(graph, node)
    products = _matrices(graph, node, columns)
    found = [layouts.product(graph.unit, product) for product in products]
    if len({layout.packed for layout in found}) > 1:
        found = [layouts.product("c", product) for product in products]
    weights = np.concatenate([layout.weights.reshape(-1) for layout in found])
    tables = np.concatenate([layout.channels.reshape(-1) for layout in found])
    phases = literal(
        "ear_phases",
        first=columns.start,
        count=len(columns),
        taps=of_columns.taps_of(columns.start),
        tall_step=found[0].weights.nbytes,
        short_step=found[-1].weights.nbytes if of_rows.longer < of_rows.stride else 0,
        table_step=found[0].channels.size,
    )
    scratch = max(layout.scratch for layout in found)
    layout = Layout(weights, tables, scratch, found[0].packed, found[0].family)
    return _Part(phases, products[0].channels.literal(layout.packed), layout)


def _call(graph: Graph, node: Node) -> Call:
    x, y = tensor(graph, node, 2), output(graph, node)
    of_rows, of_columns = _axes(graph, node)
    shape = literal(
        "ear_transpose_conv",
        **dict(zip(("batches", "in_rows", "in_columns", "in_channels"), x.shape, strict=True)),
        in_zero=per_tensor(graph, node, x)[1],
        **dict(zip(("out_rows", "out_columns", "out_channels"), y.shape[1:], strict=True)),
        stride_rows=of_rows.stride,
        stride_columns=of_columns.stride,
        pad_rows=_padding(graph, node)[0],
        pad_columns=_padding(graph, node)[1],
        tall=of_rows.longer,
        tall_taps=of_rows.taps,
        short_taps=of_rows.taps_of(of_rows.longer),
    )
    groups = range(of_columns.longer), range(of_columns.longer, of_columns.stride)
    parts = [_part(graph, node, columns) for columns in groups if columns]
    constants: dict[str, Array] = {}
    arguments, ends = [shape], ["{in2}"]
    for i, part in enumerate(parts):
        arguments += [part.phases, part.output]
        constants |= {f"weights{i}": part.layout.weights, f"channels{i}": part.layout.channels}
        ends += [f"{{weights{i}}}", f"{{channels{i}}}"]
    if len(parts) < len(groups):
        arguments += [literal("ear_phases", count=0), literal("ear_output", packed=0)]
        ends += ["0", "0"]
    width = np.dtype(y.dtype).itemsize
    results = [-(-2 * width * len(columns) * y.shape[3] // 16) * 16 for columns in groups]
    family = parts[0].layout.family
    return Call(
        f"{family}/transpose_conv" if family else "transpose_conv",
        (*arguments, *ends, "{out0}", "{scratch}"),
        constants,
        scratch=max(results) + max(part.layout.scratch for part in parts),
        function=f"ear_transpose_conv_{family}" if family else "",
    )


def _macs(graph: Graph, node: Node) -> int:
    """Return the products before cropping."""
    weights = tensor(graph, node, 1)
    return tensor(graph, node, 2).elements * weights.elements // weights.shape[3]


OP = Op("TRANSPOSE_CONV", range(1, 6), _check, _meaning, _call, _macs, batch=True)
