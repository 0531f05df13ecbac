"""AVERAGE_POOL_2D: the average of each window, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler import convolution, pooling
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op


def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return the rounded mean (halves away from zero) over the part of each window inside inputs[0]."""
    x, window = inputs[0], pooling.window(graph, node)
    total = convolution.patches(x.astype(np.int32), window, 0).sum(axis=(3, 4), dtype=np.int64)
    inside = np.ones((1, *x.shape[1:3], 1), np.int32)
    count = convolution.patches(inside, window, 0).sum(axis=(3, 4))
    magnitude = (np.abs(total) + count // 2) // count
    return [np.clip(np.sign(total) * magnitude, *pooling.activation_range(graph, node)).astype(x.dtype)]


def call(graph: Graph, node: Node) -> Call:
    """Return the kernel call."""
    return pooling.call(graph, node, "average_pool_2d")


OP = Op("AVERAGE_POOL_2D", range(1, 4), pooling.check, meaning, call, pooling.macs, batch=True)
