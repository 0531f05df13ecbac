"""Float32 CONV_2D and DEPTHWISE_CONV_2D: products added by filter row, column and channel, then the bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler import convolution
from firmware.compiler.floats import PREFIX, c_clamp, check_float, clamp, clamped
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, literal, output, refuse, tensor
from firmware.compiler.ops.ear_float_matmul import in_depth, real_bias, real_weights


def _depthwise(node: Node) -> bool:
    return node.op.endswith("DEPTHWISE_CONV_2D")


def _filters(graph: Graph, node: Node) -> Array:
    """Return the weights as (rows, columns, channels of a group, outputs), zeros where outputs see less."""
    weights = real_weights(graph, node)
    if weights.ndim != 4:
        raise refuse(graph, node, f"weights {weights.shape}", "give it 4-D weights")
    return weights.transpose(1, 2, 0, 3) if _depthwise(node) else weights.transpose(1, 2, 3, 0)


def _window(graph: Graph, node: Node) -> convolution.Window:
    shape = _filters(graph, node).shape
    return convolution.window(graph, node, (shape[0], shape[1]))


def _check(graph: Graph, node: Node) -> None:
    check_float(graph, node, 1)
    clamp(graph, node)
    filters = _filters(graph, node)
    _window(graph, node)
    channels, outputs = tensor(graph, node, 0).shape[3], output(graph, node).shape[3]
    depth = filters.shape[2]
    fits = outputs == filters.shape[3] and channels % depth == 0
    groups = channels if _depthwise(node) else channels // max(depth, 1)
    if not fits or outputs % groups:
        what = f"{channels} channels, weights {filters.shape}, {outputs} outputs"
        raise refuse(graph, node, what, "make the channel counts divide by the groups")
    real_bias(graph, node, outputs)


def _groups(graph: Graph, node: Node) -> int:
    channels = tensor(graph, node, 0).shape[3]
    return channels if _depthwise(node) else channels // _filters(graph, node).shape[2]


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    filters, groups = _filters(graph, node), _groups(graph, node)
    patches = convolution.patches(inputs[0], _window(graph, node), 0)
    each = filters.shape[3] // groups
    parts = []
    for group, part in enumerate(np.split(patches, groups, axis=5)):
        flat = part.reshape(*part.shape[:3], -1)
        own = filters[..., group * each : (group + 1) * each]
        parts.append(in_depth(flat, own.reshape(-1, each)))
    bias = real_bias(graph, node, filters.shape[3])
    return [clamped(graph, node, np.concatenate(parts, axis=-1) + bias)]


def _call(graph: Graph, node: Node) -> Call:
    x, filters, window = tensor(graph, node, 0), _filters(graph, node), _window(graph, node)
    groups = _groups(graph, node)
    sizes = {
        "batches": x.shape[0],
        "in_rows": x.shape[1],
        "in_columns": x.shape[2],
        "in_channels": x.shape[3],
        "out_rows": window.out[0],
        "out_columns": window.out[1],
        "outputs": filters.shape[3],
        "outputs_of_group": filters.shape[3] // groups,
        "depth": filters.shape[2],
    }
    for name in ("size", "stride", "dilation", "before"):
        pair = getattr(window, name)
        sizes |= {f"{name}_rows": pair[0], f"{name}_columns": pair[1]}
    weights = np.ascontiguousarray(filters.transpose(3, 0, 1, 2))
    constants = {"weights": weights, "bias": real_bias(graph, node, filters.shape[3])}
    arguments = ("{in0}", "{weights}", "{bias}", "{out0}", literal("ear_float_conv", **sizes))
    return Call("float_conv", (*arguments, c_clamp(graph, node)), constants)


def _macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements * int(np.prod(_filters(graph, node).shape[:3]))


OPS = tuple(
    Op(PREFIX + name, range(1, 16), _check, _meaning, _call, _macs, batch=True)
    for name in ("CONV_2D", "DEPTHWISE_CONV_2D")
)
