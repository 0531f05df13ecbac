"""Shapes that the model's file leaves open: a converter writes 1 for sizes that follow from the batch.

A tensor with an open size says so (`Tensor.open`). Its true shape follows from the node's inputs, whose
shapes and constants are known by then; a node without a rule keeps what the file says, and its op checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from firmware.compiler import convolution
from firmware.compiler.graph import Graph, Node, Tensor

Shape = tuple[int, ...]
Rule = Callable[[Graph, Node], Shape | None]


def shaped(graph: Graph, node: Node) -> dict[int, Tensor]:
    """Return the outputs of a node whose sizes were open, by index, with the shapes that follow."""
    rule = RULES.get(node.op.removeprefix("EAR_FLOAT_"))
    if rule is None or not any(graph.tensors[i].open for i in node.outputs) or not node.inputs:
        return {}
    try:
        made = rule(graph, node)
    except (IndexError, ValueError, KeyError, ZeroDivisionError):
        return {}
    if made is None or min(made, default=1) < 1:
        return {}
    return {i: replace(graph.tensors[i], shape=made, open=False) for i in node.outputs}


def _shape(graph: Graph, node: Node, position: int = 0) -> Shape:
    return graph.tensors[node.inputs[position]].shape


def _numbers(graph: Graph, node: Node, position: int) -> list[int]:
    """Return a constant input; ValueError when it is none."""
    data = graph.tensors[node.inputs[position]].data
    if data is None or data.dtype.kind != "i":
        raise ValueError(node.name)
    return [int(number) for number in data.reshape(-1)]


def _same(graph: Graph, node: Node) -> Shape:
    return _shape(graph, node)


def _broadcast(graph: Graph, node: Node) -> Shape:
    return np.broadcast_shapes(*(graph.tensors[i].shape for i in node.inputs))


def _reshape(graph: Graph, node: Node) -> Shape:
    wanted = _numbers(graph, node, 1) if len(node.inputs) > 1 else list(node.options["new_shape"])
    rest = int(np.prod([n for n in wanted if n != -1], dtype=np.int64))
    count = graph.tensors[node.inputs[0]].elements
    return tuple(count // rest if n == -1 else n for n in wanted)


def _expand_dims(graph: Graph, node: Node) -> Shape:
    return tuple(np.expand_dims(np.empty(_shape(graph, node), np.bool_), _numbers(graph, node, 1)[0]).shape)


def _squeeze(graph: Graph, node: Node) -> Shape:
    x = _shape(graph, node)
    axes = {axis % len(x) for axis in node.options["squeeze_dims"]} or {i for i, n in enumerate(x) if n == 1}
    return tuple(n for i, n in enumerate(x) if i not in axes)


def _transpose(graph: Graph, node: Node) -> Shape:
    x = _shape(graph, node)
    return tuple(x[axis] for axis in _numbers(graph, node, 1))


def _fully_connected(graph: Graph, node: Node) -> Shape:
    x, (outputs, depth) = _shape(graph, node), _shape(graph, node, 1)
    if node.options["keep_num_dims"]:
        return (*x[:-1], outputs)
    return graph.tensors[node.inputs[0]].elements // depth, outputs


def _batch_matmul(graph: Graph, node: Node) -> Shape:
    a, b = _shape(graph, node, 0), _shape(graph, node, 1)
    rows = a[-1] if node.options["adj_x"] else a[-2]
    columns = b[-2] if node.options["adj_y"] else b[-1]
    return (*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns)


def _convolution(graph: Graph, node: Node) -> Shape:
    filters = _shape(graph, node, 1)
    channels = filters[0] if node.op.endswith("CONV_2D") and "DEPTHWISE" not in node.op else filters[3]
    return _slid(graph, node, (filters[1], filters[2]), channels)


def _pool(graph: Graph, node: Node) -> Shape:
    size = node.options["filter_height"], node.options["filter_width"]
    return _slid(graph, node, size, _shape(graph, node)[3])


def _slid(graph: Graph, node: Node, size: tuple[int, int], channels: int) -> Shape:
    x = _shape(graph, node)
    stride = node.options["stride_h"], node.options["stride_w"]
    dilation = node.options.get("dilation_h_factor", 1), node.options.get("dilation_w_factor", 1)
    spans = (convolution.span(node, x[1 + i], size[i], stride[i], dilation[i], i)[2] for i in (0, 1))
    return (x[0], *spans, channels)


def _space_to_batch(graph: Graph, node: Node) -> Shape:
    x, blocks = _shape(graph, node), _numbers(graph, node, 1)
    around = np.reshape(_numbers(graph, node, 2), (-1, 2)).sum(axis=1)
    inner = tuple((n + int(border)) // block for n, border, block in zip(x[1:], around, blocks, strict=False))
    return (x[0] * int(np.prod(blocks)), *inner, *x[1 + len(blocks) :])


def _batch_to_space(graph: Graph, node: Node) -> Shape:
    x, blocks = _shape(graph, node), _numbers(graph, node, 1)
    cut = np.reshape(_numbers(graph, node, 2), (-1, 2)).sum(axis=1)
    inner = tuple(n * block - int(crop) for n, crop, block in zip(x[1:], cut, blocks, strict=False))
    return (x[0] // int(np.prod(blocks)), *inner, *x[1 + len(blocks) :])


def _concatenation(graph: Graph, node: Node) -> Shape:
    shapes = [graph.tensors[i].shape for i in node.inputs]
    axis = node.options["axis"] % len(shapes[0])
    joined = sum(shape[axis] for shape in shapes)
    return (*shapes[0][:axis], joined, *shapes[0][axis + 1 :])


def _reduce(graph: Graph, node: Node) -> Shape:
    x = _shape(graph, node)
    axes = {axis % len(x) for axis in _numbers(graph, node, 1)}
    if node.options["keep_dims"]:
        return tuple(1 if i in axes else n for i, n in enumerate(x))
    return tuple(n for i, n in enumerate(x) if i not in axes)


def _pad(graph: Graph, node: Node) -> Shape:
    around = np.reshape(_numbers(graph, node, 1), (-1, 2)).sum(axis=1)
    return tuple(n + int(border) for n, border in zip(_shape(graph, node), around, strict=True))


def _from(position: int) -> Rule:
    """Return the rule of an op that names its output's shape in a constant."""
    return lambda graph, node: tuple(_numbers(graph, node, position))


def _split(graph: Graph, node: Node) -> Shape:
    x, axis = _shape(graph, node, 1), _numbers(graph, node, 0)[0]
    axis %= len(x)
    return (*x[:axis], x[axis] // len(node.outputs), *x[axis + 1 :])


def _unpack(graph: Graph, node: Node) -> Shape:
    x = _shape(graph, node)
    axis = node.options["axis"] % len(x)
    return (*x[:axis], *x[axis + 1 :])


def _pack(graph: Graph, node: Node) -> Shape:
    x = _shape(graph, node)
    axis = node.options["axis"] % (len(x) + 1)
    return (*x[:axis], len(node.inputs), *x[axis:])


def _slice(graph: Graph, node: Node) -> Shape:
    begin, size = _numbers(graph, node, 1), _numbers(graph, node, 2)
    whole = zip(_shape(graph, node), begin, size, strict=True)
    return tuple(n - start if count == -1 else count for n, start, count in whole)


def _strided_slice(graph: Graph, node: Node) -> Shape | None:
    if node.options["ellipsis_mask"] or node.options["new_axis_mask"]:
        return None
    x = _shape(graph, node)
    begin, end, step = (_numbers(graph, node, position) for position in (1, 2, 3))
    cuts: list[slice | int] = []
    for i, (first, last, stride) in enumerate(zip(begin, end, step, strict=True)):
        masks = (node.options[f"{name}_mask"] >> i & 1 for name in ("begin", "end", "shrink_axis"))
        from_start, to_end, single = masks
        whole = slice(None if from_start else first, None if to_end else last, stride)
        cuts.append(first if single else whole)
    return np.broadcast_to(np.empty((), np.bool_), x)[tuple(cuts)].shape


def _gather(graph: Graph, node: Node) -> Shape | None:
    x, chosen = _shape(graph, node), _shape(graph, node, 1)
    if node.options["batch_dims"]:
        return None
    axis = node.options["axis"] % len(x)
    return (*x[:axis], *chosen, *x[axis + 1 :])


def _resize(graph: Graph, node: Node) -> Shape:
    x = _shape(graph, node)
    return (x[0], *_numbers(graph, node, 1), x[3])


def _each(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


RULES: Mapping[str, Rule] = {
    **_each("ABS CAST CEIL COS CUMSUM DEQUANTIZE ELU EXP FLOOR GELU HARD_SWISH L2_NORMALIZATION", _same),
    **_each("LEAKY_RELU LOG LOGICAL_NOT LOGISTIC LOG_SOFTMAX NEG QUANTIZE RELU RELU6 RELU_0_TO_1", _same),
    **_each("RELU_N1_TO_1 REVERSE_V2 ROUND RSQRT SIGN SIN SOFTMAX SQRT SQUARE TANH ZEROS_LIKE", _same),
    **_each("ADD DIV FLOOR_DIV FLOOR_MOD MAXIMUM MINIMUM MUL POW PRELU SQUARED_DIFFERENCE SUB", _broadcast),
    **_each("EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL LOGICAL_AND LOGICAL_OR NOT_EQUAL", _broadcast),
    **_each("SELECT SELECT_V2", _broadcast),
    **_each("CONV_2D DEPTHWISE_CONV_2D", _convolution),
    **_each("AVERAGE_POOL_2D MAX_POOL_2D", _pool),
    **_each("MEAN REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD SUM", _reduce),
    **_each("MIRROR_PAD PAD PADV2", _pad),
    **_each("RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR", _resize),
    "BATCH_MATMUL": _batch_matmul,
    "BATCH_TO_SPACE_ND": _batch_to_space,
    "BROADCAST_TO": _from(1),
    "CONCATENATION": _concatenation,
    "EXPAND_DIMS": _expand_dims,
    "FILL": _from(0),
    "FULLY_CONNECTED": _fully_connected,
    "GATHER": _gather,
    "PACK": _pack,
    "RESHAPE": _reshape,
    "SLICE": _slice,
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "SPLIT": _split,
    "SQUEEZE": _squeeze,
    "STRIDED_SLICE": _strided_slice,
    "TRANSPOSE": _transpose,
    "TRANSPOSE_CONV": _from(0),
    "UNPACK": _unpack,
}
