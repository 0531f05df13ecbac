"""CONV_2D: a filter of every input channel, slid over rows and columns; groups when weights are narrower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler import convolution, layouts, overwriting
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.layouts.layout import Product
from firmware.compiler.ops import Call, Op, literal, output, per_tensor, refuse, require_constant, tensor


def check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless shapes, types and scales suit the kernel."""
    x, weights, y = tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node)
    if len(x.shape) != 4 or len(weights.shape) != 4 or len(y.shape) != 4:
        shapes = f"shapes {x.shape}, {weights.shape}"
        raise refuse(graph, node, shapes, "give it (1, rows, columns, channels) and 4-D weights")
    convolution.check_weighted(graph, node, convolution.Operands(axis=0))
    groups, rest = divmod(x.shape[3], weights.shape[3])
    if rest or y.shape[3] != weights.shape[0] or weights.shape[0] % groups:
        shapes = f"{x.shape[3]} channels, weights {weights.shape}, {y.shape[3]} outputs"
        raise refuse(graph, node, shapes, "make the channel counts divide by the groups")
    convolution.window(graph, node, (weights.shape[1], weights.shape[2]))


def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return the convolution of inputs[0] (N, rows, columns, channels)."""
    x, weights = inputs[0], inputs[1]
    window = convolution.window(graph, node, (weights.shape[1], weights.shape[2]))
    _, in_zero = per_tensor(graph, node, tensor(graph, node, 0))
    patches = convolution.patches(x, window, in_zero)
    groups = x.shape[3] // weights.shape[3]
    sums = [
        convolution.matmul(_flat(part), filters.reshape(filters.shape[0], -1))
        for part, filters in zip(np.split(patches, groups, axis=5), np.split(weights, groups), strict=True)
    ]
    return [convolution.channels(graph, node, axis=0).requantise(np.concatenate(sums, axis=-1))]


def _flat(patches: Array) -> Array:
    return patches.reshape(*patches.shape[:3], -1)


def call(graph: Graph, node: Node) -> Call:
    """Return the kernel call; the weights are rows of depth."""
    x, y = tensor(graph, node, 0), output(graph, node)
    weights = require_constant(graph, node, tensor(graph, node, 1))
    count, rows, columns, depth = weights.shape
    window = convolution.window(graph, node, (rows, columns))
    channels = convolution.channels(graph, node, axis=0)
    layout = layouts.product(
        graph.unit,
        Product(
            weights.reshape(count, -1),
            channels,
            columns=y.elements // count,
            gathered=not rows == columns == 1 or any((*window.before, *window.after)),
            groups=x.shape[3] // depth,
            nibbles=tensor(graph, node, 1).nibbles,
            window=window,
            roomy=graph.roomy,
        ),
    )
    shape = literal(
        "ear_conv_2d",
        batches=x.shape[0],
        in_rows=x.shape[1],
        in_columns=x.shape[2],
        in_channels=x.shape[3],
        in_zero=per_tensor(graph, node, x)[1],
        out_rows=y.shape[1],
        out_columns=y.shape[2],
        out_channels=y.shape[3],
        filter_rows=rows,
        filter_columns=columns,
        filter_channels=depth,
        stride_rows=window.stride[0],
        stride_columns=window.stride[1],
        dilation_rows=window.dilation[0],
        dilation_columns=window.dilation[1],
        pad_rows=window.before[0],
        pad_columns=window.before[1],
    )
    over = overwriting.positions(graph.unit, x.shape, window, count) if depth == x.shape[3] else {}
    return layout.call("conv_2d", shape, channels, over)


def macs(graph: Graph, node: Node) -> int:
    """Return filter elements times output elements."""
    return output(graph, node).elements * (tensor(graph, node, 1).elements // output(graph, node).shape[3])


OP = Op("CONV_2D", range(1, 9), check, meaning, call, macs, batch=True)
