"""DEPTHWISE_CONV_2D: each channel has filters of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler import convolution, layouts, overwriting
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.layouts.layout import Depthwise
from firmware.compiler.ops import Call, Op, literal, output, per_tensor, refuse, require_constant, tensor


def check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless shapes, types and scales suit the kernel."""
    x, weights, y = tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node)
    if len(x.shape) != 4 or len(weights.shape) != 4 or len(y.shape) != 4 or weights.shape[0] != 1:
        shapes = f"shapes {x.shape}, {weights.shape}"
        raise refuse(graph, node, shapes, "give it (1, rows, columns, channels) and weights (1, …)")
    convolution.check_weighted(graph, node, convolution.Operands(axis=3))
    if weights.shape[3] % x.shape[3] or y.shape[3] != weights.shape[3]:
        shapes = f"{x.shape[3]} channels, weights {weights.shape}, {y.shape[3]} outputs"
        raise refuse(graph, node, shapes, "make the outputs a multiple of the channels")
    convolution.window(graph, node, (weights.shape[1], weights.shape[2]))


def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return the depthwise convolution of inputs[0] (N, rows, columns, channels)."""
    x, weights = inputs[0], inputs[1]
    window = convolution.window(graph, node, (weights.shape[1], weights.shape[2]))
    _, in_zero = per_tensor(graph, node, tensor(graph, node, 0))
    patches = convolution.patches(x, window, in_zero)
    multiplier = weights.shape[3] // x.shape[3]
    sums = np.int32 if x.dtype == np.int8 else np.int64
    total = np.zeros((x.shape[0], *window.out, weights.shape[3]), sums)
    for row, column in np.ndindex(*window.size):
        taps = patches[:, :, :, row, column].astype(sums)
        total += np.repeat(taps, multiplier, axis=3) * weights[0, row, column]
    return [convolution.channels(graph, node, axis=3).requantise(total)]


def call(graph: Graph, node: Node) -> Call:
    """Return the kernel call; weights stay (filter rows, filter columns, channels)."""
    x, y = tensor(graph, node, 0), output(graph, node)
    weights = require_constant(graph, node, tensor(graph, node, 1))
    window = convolution.window(graph, node, (weights.shape[1], weights.shape[2]))
    channels = convolution.channels(graph, node, axis=3)
    taps = weights.reshape(-1, weights.shape[3])
    layout = layouts.depthwise(
        graph.unit, Depthwise(taps, channels, x.shape[3], window, tensor(graph, node, 1).nibbles)
    )
    shape = literal(
        "ear_depthwise_conv_2d",
        batches=x.shape[0],
        in_rows=x.shape[1],
        in_columns=x.shape[2],
        in_channels=x.shape[3],
        in_zero=per_tensor(graph, node, x)[1],
        out_rows=y.shape[1],
        out_columns=y.shape[2],
        out_channels=y.shape[3],
        filter_rows=weights.shape[1],
        filter_columns=weights.shape[2],
        stride_rows=window.stride[0],
        stride_columns=window.stride[1],
        dilation_rows=window.dilation[0],
        dilation_columns=window.dilation[1],
        pad_rows=window.before[0],
        pad_columns=window.before[1],
    )
    over = overwriting.positions(graph.unit, x.shape, window, y.shape[3], depthwise=True)
    return layout.call("depthwise_conv_2d", shape, channels, over)


def macs(graph: Graph, node: Node) -> int:
    """Return filter taps times output elements."""
    rows, columns = tensor(graph, node, 1).shape[1:3]
    return output(graph, node).elements * rows * columns


OP = Op("DEPTHWISE_CONV_2D", range(1, 8), check, meaning, call, macs, batch=True)
