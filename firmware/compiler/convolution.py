"""What convolutions and pools share: windows and padding, patches, folded channel parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware.compiler import fixed_point, ops
from firmware.compiler.graph import Array, Graph, Node, Tensor

EXACT_FLOAT32 = 1 << 24  # integers below this are exact in float32
NARROW = 1 << 23  # |sums| below this fit the upper 24 bits of a paired sum, see dsp/matmul.h
LARGEST = {"int8": 128, "int16": 32768}  # magnitude of an activation
LONG = 1 << 31  # |sums| below this fit 32 bits
LONG_SHIFTS = range(-31, -1)  # that the short requantisation of int16/matmul.h can do
LONG_BIAS = 1 << 46  # sums of 64 bits with such a bias stay below 2**47
WIDE_SHIFTS = range(-31, 8)  # that the factor of a 64-bit sum may have
NARROW_SHIFTS = range(-22, 0)  # that the short requantisation of matmul.h can do without overflow


@dataclass(frozen=True)
class Window:
    """A filter that slides over rows and columns; `before` and `after` are the padding (rows, columns)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    out: tuple[int, int]


def window(graph: Graph, node: Node, size: tuple[int, int]) -> Window:
    """Return the window of a node with input 0 and output 0 of shape (N, rows, columns, channels).

    Raises:
        ModelError: sizes that cannot be, or an output shape that does not follow from them.
    """
    x, y = ops.tensor(graph, node, 0), ops.output(graph, node)
    if len(x.shape) != 4 or len(y.shape) != 4:
        raise ops.refuse(graph, node, f"shapes {x.shape} → {y.shape}", "give it tensors of rank 4")
    stride = node.options["stride_h"], node.options["stride_w"]
    dilation = node.options.get("dilation_h_factor", 1), node.options.get("dilation_w_factor", 1)
    if min(*size, *stride, *dilation) < 1 or max(*size, *stride, *dilation) > 1 << 16:
        sizes = f"filter {size}, stride {stride}, dilation {dilation}"
        raise ops.refuse(graph, node, sizes, "the file is damaged; export it again")
    spans = [span(node, x.shape[1 + i], size[i], stride[i], dilation[i], i) for i in (0, 1)]
    out = spans[0][2], spans[1][2]
    if y.shape[1:3] != out or y.shape[0] != x.shape[0]:
        raise ops.refuse(graph, node, f"output {y.shape} should have {out} rows, columns", "export it again")
    before, after = (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])
    return Window(size, stride, dilation, before, after, out)


def span(node: Node, length: int, size: int, stride: int, dilation: int, axis: int) -> tuple[int, int, int]:
    """Return (padding before, padding after, outputs) along one axis."""
    reach = (size - 1) * dilation + 1
    padding = node.options["padding"]
    if padding == "EXPLICIT":
        before, after = node.options["pad"][2 * axis : 2 * axis + 2]
        return before, after, (length + before + after - reach) // stride + 1
    if padding == "VALID":
        return 0, 0, (length - reach) // stride + 1
    out = -(-length // stride)
    total = max(0, (out - 1) * stride + reach - length)
    return total // 2, total - total // 2, out


def patches(x: Array, w: Window, fill: int) -> Array:
    """Return a view (N, out rows, out columns, filter rows, filter columns, channels) of padded x."""
    (top, left), (bottom, right) = w.before, w.after
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    n, rows, columns, channels = padded.strides
    return np.lib.stride_tricks.as_strided(
        padded,
        (x.shape[0], *w.out, *w.size, x.shape[3]),
        (
            n,
            rows * w.stride[0],
            columns * w.stride[1],
            rows * w.dilation[0],
            columns * w.dilation[1],
            channels,
        ),
        writeable=False,
    )


def matmul(x: Array, weights: Array) -> npt.NDArray[np.int64]:
    """Return x (…, depth) @ weights.T exactly, int8 or int16 times int8 (out, depth), through BLAS."""
    greatest = LARGEST[str(x.dtype)] * 128 * weights.shape[-1]
    float_type = np.float32 if greatest < EXACT_FLOAT32 else np.float64
    product = x.astype(float_type) @ weights.T.astype(float_type)
    exact: npt.NDArray[np.int64] = product.astype(np.int64)
    return exact


@dataclass(frozen=True)
class Channels:
    """Per output channel: the bias with the input zero-point folded in, and the requantisation."""

    bias: npt.NDArray[np.int64]  # int32 values, unless wide
    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.int32]
    out_zero: int
    low: int
    high: int
    narrow: bool  # every possible sum and shift suits the short requantisation of the kernels
    dtype: str = "int8"  # of input and output
    wide: bool = False  # sums of 64 bits, requantised with one rounding

    def requantise(self, accumulator: Array) -> Array:
        """Return the outputs of accumulators (…, channels) that hold sum(x * w), without bias."""
        multiply = fixed_point.multiply_wide if self.wide else fixed_point.multiply_by_quantised_multiplier
        scaled = multiply(np.asarray(accumulator) + self.bias, self.multiplier, self.shift)
        return fixed_point.saturate(scaled + self.out_zero, self.dtype, self.low, self.high)

    def literal(self, packed: int) -> str:
        """Return the C literal of what all channels share; `packed`: the unit's own kernel computes them."""
        return ops.literal(
            "ear_output",
            zero=self.out_zero,
            low=self.low,
            high=self.high,
            narrow=int(self.narrow),
            packed=int(packed),
            wide=int(self.wide),
        )

    def table(self) -> npt.NDArray[np.int32]:
        """Return the kernels' int32 table (channels, 3): bias, multiplier, right shift less one."""
        return np.stack([self.bias, self.multiplier, -self.shift - 1], axis=1).astype(np.int32)

    def long_table(self) -> npt.NDArray[np.int32]:
        """Return the table of the int16 kernels (channels, 4): bias low and high, multiplier, shift."""
        factor = fixed_point.reduced(self.multiplier) if self.wide else self.multiplier
        shift = 15 - self.shift if self.wide else self.shift
        if self.narrow:
            factor, shift = factor << 16, shift - 16
        halves = self.bias.astype(np.int64).view(np.int32).reshape(-1, 2)
        return np.column_stack([halves, factor, shift]).astype(np.int32)


@dataclass(frozen=True)
class Operands:
    """Where a weighted op has its input, weights and bias, and the weights their output channels."""

    axis: int
    input: int = 0
    weights: int = 1
    bias: int = 2


def channels(graph: Graph, node: Node, axis: int) -> Channels:
    """Return the folded parameters of a node whose weights keep their output channels along `axis`."""
    weights = ops.require_constant(graph, node, ops.tensor(graph, node, 1))
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    return channels_of(graph, node, Operands(axis), rows)


def channels_of(graph: Graph, node: Node, where: Operands, rows: Array) -> Channels:
    """Return the folded parameters of rows of weights (outputs, depth), all of the node or some taps of them.

    There may be several times as many rows as output channels, which then follow each other again.
    """
    x, y = ops.tensor(graph, node, where.input), ops.output(graph, node)
    weights, bias = ops.tensor(graph, node, where.weights), ops.optional(graph, node, where.bias)
    in_scale, in_zero = ops.per_tensor(graph, node, x)
    out_scale, out_zero = ops.per_tensor(graph, node, y)
    assert weights.quantisation is not None  # check_weighted() refuses weights without scales
    count = weights.shape[where.axis]
    times = len(rows) // count
    scales = np.broadcast_to(in_scale * weights.quantisation.scale.astype(np.float64), (count,))
    raw = np.zeros(count, np.int64) if bias is None else ops.require_constant(graph, node, bias)
    data = rows.astype(np.int64)
    wide = x.dtype == "int16" and (bias is None or bias.dtype == "int64")
    folded = np.tile(raw.astype(np.int64).reshape(-1), times) - in_zero * data.sum(axis=1)
    folded = folded if wide else fixed_point.wrap_int32(folded)
    multiplier, shift = fixed_point.quantise_multipliers(np.tile(scales, times) / out_scale)
    low, high = fixed_point.activation_range(
        node.options.get("fused_activation_function", "NONE"), out_scale, out_zero, x.dtype
    )
    limit, shifts = (LONG, LONG_SHIFTS) if wide else (NARROW, NARROW_SHIFTS)
    bound = np.abs(folded) + LARGEST[x.dtype] * np.abs(data).sum(axis=1)
    suits = bool((bound < limit).all()) and set(shift.tolist()) <= set(shifts)
    narrow = suits and wide == (x.dtype == "int16")
    return Channels(folded, multiplier, shift, out_zero, low, high, narrow, x.dtype, wide)


def check_weighted(graph: Graph, node: Node, where: Operands) -> None:
    """Raise ModelError unless input, weights, bias and output suit each other.

    Input and output are int8 with an int32 bias, or int16 with zero-point 0 and a bias of int64 or int32;
    weights are int8.
    """
    x, weights = ops.tensor(graph, node, where.input), ops.tensor(graph, node, where.weights)
    y, axis = ops.output(graph, node), where.axis
    ops.require_dtype(graph, node, x, "int8", "int16")
    ops.require_dtype(graph, node, y, x.dtype)
    ops.require_dtype(graph, node, weights, "int8")
    ops.require_constant(graph, node, weights)
    _check_scales(graph, node, weights, axis)
    _check_bias(graph, node, where)
    for value in (x, y):
        check_zero_point(graph, node, value)
    activation = node.options.get("fused_activation_function", "NONE")
    if activation not in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1"):
        raise ops.refuse(graph, node, f"fused activation {activation}", "make it an op of its own")
    rows = np.moveaxis(ops.require_constant(graph, node, weights), axis, 0)
    made = channels_of(graph, node, where, rows.reshape(len(rows), -1))
    if made.wide and not set(made.shift[made.multiplier > 0].tolist()) <= set(WIDE_SHIFTS):
        what = f"the output's scale is too fine: a factor above 2**{WIDE_SHIFTS.stop - 1}"
        raise ops.refuse(graph, node, what, "calibrate on data that reaches this tensor")


def check_zero_point(graph: Graph, node: Node, value: Tensor) -> None:
    """Raise ModelError unless the zero-point of an activation is one that its type may have."""
    _, zero_point = ops.per_tensor(graph, node, value)
    if value.dtype == "int16" and zero_point:
        what = f"{value.name!r} is int16 with the zero-point {zero_point}"
        raise ops.refuse(graph, node, what, "quantise int16 activations symmetrically")
    low, high = fixed_point.RANGES[value.dtype]
    if not low <= zero_point <= high:
        raise ops.refuse(graph, node, f"{value.name!r} has the zero-point {zero_point}", "export it again")


def _check_bias(graph: Graph, node: Node, where: Operands) -> None:
    bias = ops.optional(graph, node, where.bias)
    if bias is None:
        return
    count = ops.tensor(graph, node, where.weights).shape[where.axis]
    wide = ("int64",) if ops.tensor(graph, node, where.input).dtype == "int16" else ()
    ops.require_dtype(graph, node, bias, "int32", *wide)
    data = ops.require_constant(graph, node, bias)
    if bias.elements != count:
        what = f"bias {bias.name!r} has {bias.elements} values for {count} channels"
        raise ops.refuse(graph, node, what, "export it again")
    if (data > LONG_BIAS).any() or (data < -LONG_BIAS).any():
        raise ops.refuse(graph, node, f"bias {bias.name!r} exceeds 2**46", "the file is damaged")


def _check_scales(graph: Graph, node: Node, weights: Tensor, axis: int) -> None:
    q = weights.quantisation
    if q is None or q.scale.size not in (1, weights.shape[axis]):
        what = f"weights {weights.name!r} lack a scale for each of {weights.shape[axis]} channels"
        raise ops.refuse(graph, node, what, "quantise weights per tensor or per output channel")
    if (q.zero_point != 0).any():
        raise ops.refuse(
            graph, node, f"weights {weights.name!r} are asymmetric", "quantise weights symmetrically"
        )
