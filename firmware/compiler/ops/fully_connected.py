"""FULLY_CONNECTED: rows of inputs times a constant matrix."""

from __future__ import annotations

from collections.abc import Sequence

from firmware.compiler import convolution, layouts, overwriting
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.layouts.layout import Product
from firmware.compiler.ops import Call, Op, literal, output, refuse, require_constant, tensor


def check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless shapes, types and scales suit the kernel."""
    x, weights, y = tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node)
    if weights.data is None:
        what = f"weights {weights.name!r} are computed at run time"
        raise refuse(graph, node, what, "use a matrix product of activations (BATCH_MATMUL)")
    if (
        len(weights.shape) != 2
        or x.elements % weights.shape[1]
        or node.options["weights_format"] != "DEFAULT"
    ):
        raise refuse(
            graph, node, f"shapes {x.shape}, {weights.shape}", "give it plain (outputs, inputs) weights"
        )
    convolution.check_weighted(graph, node, convolution.Operands(axis=0))
    if y.elements != x.elements // weights.shape[1] * weights.shape[0] or y.shape[-1] != weights.shape[0]:
        raise refuse(graph, node, f"output {y.shape} of {x.shape} and {weights.shape}", "export it again")


def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return the product of inputs[0] (…, depth) with the weights (outputs, depth)."""
    x, weights = inputs[0], inputs[1]
    made = convolution.channels(graph, node, axis=0).requantise(
        convolution.matmul(x.reshape(-1, weights.shape[1]), weights)
    )
    y = output(graph, node).shape
    clips = x.size // tensor(graph, node, 0).elements
    return [made.reshape(y[0] * clips, *y[1:])]


def call(graph: Graph, node: Node) -> Call:
    """Return the kernel call; the weights are rows of depth."""
    x = tensor(graph, node, 0)
    weights = require_constant(graph, node, tensor(graph, node, 1))
    channels = convolution.channels(graph, node, axis=0)
    outputs, depth = weights.shape
    rows = x.elements // depth
    product = Product(
        weights,
        channels,
        columns=rows,
        gathered=False,
        nibbles=tensor(graph, node, 1).nibbles,
        roomy=graph.roomy,
    )
    layout = layouts.product(graph.unit, product)
    shape = literal("ear_fully_connected", rows=rows, depth=depth, outputs=outputs)
    over = overwriting.products(graph.unit, rows, depth, outputs)
    if rows == 1 and depth % 4 == 0 and layout.scratch:  # the row is widened once, from its start on
        over = {**over, "scratch": layout.scratch - depth}
    return layout.call("fully_connected", shape, channels, over)


def macs(graph: Graph, node: Node) -> int:
    """Return depth times output elements."""
    return output(graph, node).elements * tensor(graph, node, 1).shape[1]


OP = Op("FULLY_CONNECTED", range(1, 14), check, meaning, call, macs, batch=True)
