"""MAX_POOL_2D: the max of each window, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler import convolution, pooling
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op


def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return the greatest value of each window of inputs[0]."""
    patches = convolution.patches(inputs[0], pooling.window(graph, node), np.iinfo(inputs[0].dtype).min)
    greatest = np.clip(patches.max(axis=(3, 4)), *pooling.activation_range(graph, node))
    return [greatest.astype(inputs[0].dtype)]


def call(graph: Graph, node: Node) -> Call:
    """Return the kernel call."""
    return pooling.call(graph, node, "max_pool_2d")


OP = Op("MAX_POOL_2D", range(1, 4), pooling.check, meaning, call, pooling.macs, batch=True)
