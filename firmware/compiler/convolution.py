"""What convolutions and pools share: windows and padding, patches, folded channel parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware.compiler import fixed_point, ops
from firmware.compiler.graph import Array, Graph, Node, Tensor

EXACT_FLOAT32 = 1 << 24  # integers below this are exact in float32
NARROW = 1 << 23  # |sums| below this fit the upper 24 bits of a paired sum, see dsp/matmul.h
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
    spans = [_span(node, x.shape[1 + i], size[i], stride[i], dilation[i], i) for i in (0, 1)]
    out = spans[0][2], spans[1][2]
    if y.shape[1:3] != out or y.shape[0] != x.shape[0]:
        raise ops.refuse(graph, node, f"output {y.shape} should have {out} rows, columns", "export it again")
    before, after = (spans[0][0], spans[1][0]), (spans[0][1], spans[1][1])
    return Window(size, stride, dilation, before, after, out)


def _span(node: Node, length: int, size: int, stride: int, dilation: int, axis: int) -> tuple[int, int, int]:
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
    """Return x @ weights.T exactly for int8 operands of shapes (…, depth) and (out, depth), through BLAS."""
    depth = weights.shape[-1]
    float_type = np.float32 if depth * 128 * 128 < EXACT_FLOAT32 else np.float64
    product = x.astype(float_type) @ weights.T.astype(float_type)
    exact: npt.NDArray[np.int64] = product.astype(np.int64)
    return exact


@dataclass(frozen=True)
class Channels:
    """Per output channel: the bias with the input zero-point folded in, and the requantisation."""

    bias: npt.NDArray[np.int64]  # int32 values
    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.int32]
    out_zero: int
    low: int
    high: int
    narrow: bool  # every possible sum and shift suits the short requantisation of matmul.h

    def requantise(self, accumulator: Array) -> npt.NDArray[np.int8]:
        """Return the int8 outputs of accumulators (…, channels) that hold sum(x * w), without bias."""
        scaled = fixed_point.multiply_by_quantised_multiplier(
            np.asarray(accumulator) + self.bias, self.multiplier, self.shift
        )
        return fixed_point.saturate_int8(scaled + self.out_zero, self.low, self.high)

    def literal(self, packed: bool) -> str:
        """Return the C literal of what all channels share; `packed`: the unit's own kernel computes them."""
        return ops.literal(
            "ear_output",
            zero=self.out_zero,
            low=self.low,
            high=self.high,
            narrow=int(self.narrow),
            packed=int(packed),
        )

    def table(self) -> npt.NDArray[np.int32]:
        """Return the kernels' int32 table (channels, 3): bias, multiplier, right shift less one."""
        return np.stack([self.bias, self.multiplier, -self.shift - 1], axis=1).astype(np.int32)


def channels(graph: Graph, node: Node, axis: int) -> Channels:
    """Return the folded parameters of a node whose weights keep their output channels along `axis`."""
    x, weights, y = ops.tensor(graph, node, 0), ops.tensor(graph, node, 1), ops.output(graph, node)
    in_scale, in_zero = ops.per_tensor(graph, node, x)
    assert weights.quantisation is not None  # check_weighted() refuses weights without scales
    scales = in_scale * weights.quantisation.scale.astype(np.float64)
    out_scale, out_zero = ops.per_tensor(graph, node, y)
    data = ops.require_constant(graph, node, weights).astype(np.int64)
    others = tuple(i for i in range(data.ndim) if i != axis % data.ndim)
    count = data.shape[axis]
    bias_tensor = ops.optional(graph, node, 2)
    raw = np.zeros(count, np.int64) if bias_tensor is None else ops.require_constant(graph, node, bias_tensor)
    bias = fixed_point.wrap_int32(raw.astype(np.int64).reshape(-1) - in_zero * data.sum(axis=others))
    multiplier, shift = fixed_point.quantise_multipliers(np.broadcast_to(scales / out_scale, (count,)))
    low, high = fixed_point.activation_range(node.options["fused_activation_function"], out_scale, out_zero)
    bound = np.abs(bias) + 128 * np.abs(data).sum(axis=others)
    shifts = set(shift.tolist()) <= set(NARROW_SHIFTS)
    narrow = bool((bound < NARROW).all() and shifts)
    return Channels(bias, multiplier, shift, out_zero, low, high, narrow)


def check_weighted(graph: Graph, node: Node, axis: int) -> None:
    """Raise ModelError unless input, weights, bias and output are int8 (bias int32) and suit each other.

    `axis` is where the weights keep their output channels.
    """
    x, weights, y = ops.tensor(graph, node, 0), ops.tensor(graph, node, 1), ops.output(graph, node)
    for value in (x, weights, y):
        ops.require_dtype(graph, node, value, "int8")
    ops.require_constant(graph, node, weights)
    count = weights.shape[axis]
    _check_scales(graph, node, weights, axis)
    bias = ops.optional(graph, node, 2)
    if bias is not None:
        ops.require_dtype(graph, node, bias, "int32")
        ops.require_constant(graph, node, bias)
        if bias.elements != count:
            what = f"bias {bias.name!r} has {bias.elements} values for {count} channels"
            raise ops.refuse(graph, node, what, "export it again")
    for value in (x, y):
        _, zero_point = ops.per_tensor(graph, node, value)
        if not -128 <= zero_point <= 127:
            raise ops.refuse(
                graph, node, f"{value.name!r} has the zero-point {zero_point}", "export it again"
            )
    activation = node.options["fused_activation_function"]
    if activation not in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1"):
        raise ops.refuse(graph, node, f"fused activation {activation}", "make it an op of its own")


def _check_scales(graph: Graph, node: Node, weights: Tensor, axis: int) -> None:
    q = weights.quantisation
    if q is None or q.scale.size not in (1, weights.shape[axis]):
        what = f"weights {weights.name!r} lack a scale for each of {weights.shape[axis]} channels"
        raise ops.refuse(graph, node, what, "quantise weights per tensor or per output channel")
    if (q.zero_point != 0).any():
        raise ops.refuse(
            graph, node, f"weights {weights.name!r} are asymmetric", "quantise weights symmetrically"
        )
