"""What the pooling ops share: checks, the window, the call."""

from __future__ import annotations

import numpy as np

from firmware.compiler import convolution, fixed_point
from firmware.compiler.graph import Graph, Node
from firmware.compiler.ops import Call, literal, output, per_tensor, refuse, require_dtype, tensor


def check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless shapes and types suit the kernel."""
    x, y = tensor(graph, node, 0), output(graph, node)
    require_dtype(graph, node, x, "int8", "int16")
    require_dtype(graph, node, y, x.dtype)
    for value in (x, y):
        convolution.check_zero_point(graph, node, value)
    window(graph, node)
    if x.shape[3] != y.shape[3]:
        raise refuse(graph, node, f"shapes {x.shape} → {y.shape}", "the file is damaged; export it again")
    if per_tensor(graph, node, x) != per_tensor(graph, node, y):
        raise refuse(graph, node, "input and output have different scales", "give both the same range")
    if node.options["fused_activation_function"] not in ("NONE", "RELU", "RELU6", "RELU_N1_TO_1"):
        activation = node.options["fused_activation_function"]
        raise refuse(graph, node, f"fused activation {activation}", "make it an op of its own")


def window(graph: Graph, node: Node) -> convolution.Window:
    """Return the pooling window."""
    return convolution.window(graph, node, (node.options["filter_height"], node.options["filter_width"]))


def activation_range(graph: Graph, node: Node) -> tuple[int, int]:
    """Return the clamp of the fused activation."""
    y = output(graph, node)
    activation = node.options["fused_activation_function"]
    return fixed_point.activation_range(activation, *per_tensor(graph, node, y), y.dtype)


def call(graph: Graph, node: Node, kernel: str) -> Call:
    """Return the call of a pooling kernel."""
    x, y, w = tensor(graph, node, 0), output(graph, node), window(graph, node)
    low, high = activation_range(graph, node)
    shape = literal(
        "ear_pool_2d",
        batches=x.shape[0],
        in_rows=x.shape[1],
        in_columns=x.shape[2],
        channels=x.shape[3],
        out_rows=y.shape[1],
        out_columns=y.shape[2],
        filter_rows=w.size[0],
        filter_columns=w.size[1],
        stride_rows=w.stride[0],
        stride_columns=w.stride[1],
        pad_rows=w.before[0],
        pad_columns=w.before[1],
        low=low,
        high=high,
        width=np.dtype(x.dtype).itemsize,
    )
    return Call(kernel, (shape, "{in0}", "{out0}"))


def macs(graph: Graph, node: Node) -> int:
    """Return 0: a pool adds or compares, it does not multiply."""
    return 0
