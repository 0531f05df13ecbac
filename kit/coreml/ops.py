"""What each op of a .tflite is in Core ML's MIL, in real numbers; Net adds the int8 steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder

from firmware.compiler.graph import Node
from kit.coreml.net import Net, ints

Writer = Callable[[Net, Node], None]


def _pair(make: Callable[..., Any]) -> Writer:
    def write(net: Net, node: Node) -> None:
        planes = net.in_planes(node, *node.inputs)
        ask = net.planes if planes else net.rows
        net.put(node, make(x=ask(node.inputs[0]), y=ask(node.inputs[1])), planes=planes)

    return write


def _single(make: Callable[..., Any], **more: Any) -> Writer:
    def write(net: Net, node: Node) -> None:
        planes = net.in_planes(node, node.inputs[0])
        x = net.planes(node.inputs[0]) if planes else net.rows(node.inputs[0])
        net.put(node, make(x=x, **more), planes=planes)

    return write


def _same(net: Net, node: Node) -> None:
    """QUANTIZE and DEQUANTIZE: the number stays, its steps are the output's."""
    planes = net.in_planes(node, node.inputs[0])
    x = net.planes(node.inputs[0]) if planes else net.rows(node.inputs[0])
    net.put(node, x if planes or node.op == "DEQUANTIZE" else Builder.identity(x=x), planes=planes)


def _difference(net: Net, node: Node) -> None:
    x, y = (net.rows(i) for i in node.inputs)
    difference = Builder.sub(x=x, y=y)
    net.put(node, Builder.mul(x=difference, y=difference))


def _reduce(make: Callable[..., Any]) -> Writer:
    def write(net: Net, node: Node) -> None:
        x, count = node.inputs[0], len(net.tensor(node.inputs[0]).shape)
        axes = [axis % count for axis in ints(net, node.inputs[1])]
        keep = bool(node.options.get("keep_dims", False))
        planes = keep and net.in_planes(node, x)
        value = net.planes(x) if planes else net.rows(x)
        axes = [(0, 2, 3, 1)[axis] for axis in axes] if planes else axes
        net.put(node, make(x=value, axes=axes, keep_dims=keep), planes=planes)

    return write


def padding(node: Node, size: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return rows above, below, columns left and right that .tflite's SAME or VALID adds."""
    pads = []
    for axis, letter in enumerate("hw"):
        stride = node.options[f"stride_{letter}"]
        reach = (kernel[axis] - 1) * node.options.get(f"dilation_{letter}_factor", 1) + 1
        more = max(0, (-(-size[axis] // stride) - 1) * stride + reach - size[axis])
        pads += [more // 2, more - more // 2] if node.options["padding"] == "SAME" else [0, 0]
    return pads


def _conv(net: Net, node: Node) -> None:
    x, w = net.tensor(node.inputs[0]), net.tensor(node.inputs[1])
    deep = node.op == "DEPTHWISE_CONV_2D"
    order = (3, 0, 1, 2) if deep else (0, 3, 1, 2)
    kernel, options = w.shape[1:3], node.options
    value = Builder.conv(
        x=net.planes(node.inputs[0]),
        weight=net.constant(node.inputs[1], order=order),
        strides=[options["stride_h"], options["stride_w"]],
        dilations=[options["dilation_h_factor"], options["dilation_w_factor"]],
        groups=x.shape[3] if deep else x.shape[3] // w.shape[3],
        pad_type="custom",
        pad=padding(node, x.shape[1:3], kernel),
        **net.bias(node),
    )
    net.put(node, value, planes=True)


def _pool(make: Callable[..., Any], **more: Any) -> Writer:
    def write(net: Net, node: Node) -> None:
        options = node.options
        kernel = [options["filter_height"], options["filter_width"]]
        value = make(
            x=net.planes(node.inputs[0]),
            kernel_sizes=kernel,
            strides=[options["stride_h"], options["stride_w"]],
            pad_type="custom",
            pad=padding(node, net.tensor(node.inputs[0]).shape[1:3], kernel),
            **more,
        )
        net.put(node, value, planes=True)

    return write


def _fully_connected(net: Net, node: Node) -> None:
    x, w, y = net.tensor(node.inputs[0]), net.tensor(node.inputs[1]), net.tensor(node.outputs[0])
    if len(x.shape) == 4 and len(y.shape) == 4:  # `linear` takes three axes at most
        weight = net.constant(node.inputs[1], (*w.shape, 1, 1))
        value = Builder.conv(x=net.planes(node.inputs[0]), weight=weight, pad_type="valid", **net.bias(node))
        net.put(node, value, planes=True)
        return
    value = net.rows(node.inputs[0])
    if len(x.shape) > 3 or x.shape[-1] != w.shape[1]:
        value = Builder.reshape(x=value, shape=[-1, w.shape[1]])
    value = Builder.linear(x=value, weight=net.constant(node.inputs[1]), **net.bias(node))
    net.put(node, value if value.shape == y.shape else Builder.reshape(x=value, shape=list(y.shape)))


def _matmul(net: Net, node: Node) -> None:
    x, y = (net.rows(i) for i in node.inputs)
    turned = {"transpose_x": node.options["adj_x"], "transpose_y": node.options["adj_y"]}
    net.put(node, Builder.matmul(x=x, y=y, **turned))


def _softmax(net: Net, node: Node) -> None:
    x, beta = net.rows(node.inputs[0]), float(node.options.get("beta", 1.0))
    net.put(node, Builder.softmax(x=x if beta == 1.0 else Builder.mul(x=x, y=np.float32(beta)), axis=-1))


def _reshape(net: Net, node: Node) -> None:
    shape = list(net.tensor(node.outputs[0]).shape)
    net.put(node, Builder.reshape(x=net.rows(node.inputs[0]), shape=shape), same_bytes=True)


def _transpose(net: Net, node: Node) -> None:
    value = Builder.transpose(x=net.rows(node.inputs[0]), perm=ints(net, node.inputs[1]))
    net.put(node, value, same_bytes=True)


def _pad(net: Net, node: Node) -> None:
    sizes = np.array(ints(net, node.inputs[1])).reshape(-1, 2)
    planes = net.in_planes(node, node.inputs[0])
    value = net.planes(node.inputs[0]) if planes else net.rows(node.inputs[0])
    sizes = sizes[[0, 3, 1, 2]] if planes else sizes
    padded = Builder.pad(x=value, pad=sizes.ravel().tolist(), mode="constant", constant_val=np.float32(0))
    net.put(node, padded, planes=planes, same_bytes=True)


def _concatenation(net: Net, node: Node) -> None:
    count = len(net.tensor(node.outputs[0]).shape)
    values = [net.rows(i) for i in node.inputs]
    net.put(node, Builder.concat(values=values, axis=node.options["axis"] % count))


def _slice(net: Net, node: Node) -> None:
    begin, size = ints(net, node.inputs[1]), net.tensor(node.outputs[0]).shape
    value = Builder.slice_by_size(x=net.rows(node.inputs[0]), begin=begin, size=list(size))
    net.put(node, value, same_bytes=True)


def _square_root(x: Any) -> Any:
    return Builder.rsqrt(x=x, epsilon=np.float32(1e-12))


OPS: Mapping[str, Writer] = {
    "ABS": _single(Builder.abs),
    "ADD": _pair(Builder.add),
    "AVERAGE_POOL_2D": _pool(Builder.avg_pool, exclude_padding_from_average=True),
    "BATCH_MATMUL": _matmul,
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv,
    "COS": _single(Builder.cos),
    "DEPTHWISE_CONV_2D": _conv,
    "DEQUANTIZE": _same,
    "DIV": _pair(Builder.real_div),
    "EXP": _single(Builder.exp),
    "EXPAND_DIMS": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "LOGISTIC": _single(Builder.sigmoid),
    "MAXIMUM": _pair(Builder.maximum),
    "MAX_POOL_2D": _pool(Builder.max_pool),
    "MEAN": _reduce(Builder.reduce_mean),
    "MINIMUM": _pair(Builder.minimum),
    "MUL": _pair(Builder.mul),
    "NEG": _single(Builder.mul, y=np.float32(-1)),
    "PAD": _pad,
    "QUANTIZE": _same,
    "REDUCE_MAX": _reduce(Builder.reduce_max),
    "REDUCE_MIN": _reduce(Builder.reduce_min),
    "RELU": _single(Builder.relu),
    "RELU6": _single(Builder.relu6),
    "RESHAPE": _reshape,
    "RSQRT": _single(_square_root),
    "SIN": _single(Builder.sin),
    "SLICE": _slice,
    "SOFTMAX": _softmax,
    "SQRT": _single(Builder.sqrt),
    "SQUARE": _single(Builder.square),
    "SQUARED_DIFFERENCE": _difference,
    "SQUEEZE": _reshape,
    "SUB": _pair(Builder.sub),
    "SUM": _reduce(Builder.reduce_sum),
    "TANH": _single(Builder.tanh),
    "TRANSPOSE": _transpose,
}
