"""One rule a kind of op: how it turns the new rows of its inputs into the new rows of its outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from firmware.compiler import convolution, pooling
from firmware.compiler.graph import Node
from firmware.compiler.stream.flow import BlockedError, Builder, Flow, Rule, values

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D")


def elementwise(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Row by row, when every operand flows alike or is the same for all rows."""
    rank = len(b.graph.tensors[node.outputs[0]].shape)
    aligned = []
    for position, tensor in enumerate(node.inputs):
        shift = rank - len(b.graph.tensors[tensor].shape)
        if position in flows:
            aligned.append(replace(flows[position], axis=flows[position].axis + shift))
    flow = aligned[0]
    if any(other != flow for other in aligned):
        raise BlockedError("its operands are rows of different times")
    for position, tensor in enumerate(node.inputs):
        axis = flow.axis - (rank - len(b.graph.tensors[tensor].shape))
        if position not in flows and axis >= 0 and b.graph.tensors[tensor].shape[axis] != 1:
            raise BlockedError("its constant differs from row to row")
    b.add(node, _fresh(b, node, flows), [flow] * len(node.outputs))


def by_row(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Ops along the last axis: each row by itself."""
    flow = _only(flows, 0)
    if flow.axis == len(b.graph.tensors[node.inputs[0]].shape) - 1:
        raise BlockedError("it works along the time axis")
    b.add(node, _fresh(b, node, flows), [flow])


def fully_connected(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A product along the last axis; the axes before it may have been merged."""
    flow = _only(flows, 0)
    x, y = b.graph.tensors[node.inputs[0]].shape, b.graph.tensors[node.outputs[0]].shape
    depth = b.graph.tensors[node.inputs[1]].shape[-1]
    if x[-1] != depth or flow.axis == len(x) - 1:
        raise BlockedError("it takes all rows of the window as one vector")
    b.add(node, _fresh(b, node, flows), [_located(flow, x, y)])


def batch_matmul(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Rows times a constant matrix; a product of two flows is attention over the window."""
    flow, x = _only(flows, 0), b.graph.tensors[node.inputs[0]].shape
    if len(flows) > 1 or flow.axis != len(x) - 2 or node.options.get("adj_x", False):
        raise BlockedError("it relates every row of the window to every other")
    b.add(node, _fresh(b, node, flows), [flow])


def reshape(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A reshape that leaves the time axis one of its axes."""
    flow = _only(flows, 0)
    x, y = (b.graph.tensors[i].shape for i in (node.inputs[0], node.outputs[0]))
    located = _located(flow, x, y)
    b.add(replace(node, inputs=node.inputs[:1]), {0: b.fresh[node.inputs[0]]}, [located])


def transpose(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """The time axis moves along."""
    flow = _only(flows, 0)
    axes = values(b.graph, node, 1)
    b.add(node, _fresh(b, node, flows), [replace(flow, axis=axes.index(flow.axis))])


def concatenation(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Channels beside channels of the same rows."""
    flow = flows[min(flows)]
    axis = int(node.options["axis"]) % len(b.graph.tensors[node.outputs[0]].shape)
    if axis == flow.axis or len(flows) != len(node.inputs) or any(f != flow for f in flows.values()):
        raise BlockedError("it joins rows of different times")
    b.add(node, _fresh(b, node, flows), [flow])


def split(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Channels apart, in the same rows."""
    position = 1 if node.op == "SPLIT" else 0
    flow = _only(flows, position)
    made = [b.graph.tensors[i].shape for i in node.outputs]
    if any(len(shape) <= flow.axis or shape[flow.axis] != flow.rows for shape in made):
        raise BlockedError("it takes the rows of the window apart")
    b.add(node, _fresh(b, node, flows), [flow] * len(node.outputs))


def reduce(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A sum or extreme over axes other than time."""
    flow = _only(flows, 0)
    rank = len(b.graph.tensors[node.inputs[0]].shape)
    axes = {axis % rank for axis in values(b.graph, node, 1)}
    if flow.axis in axes:
        raise BlockedError("it sums up all rows of the window")
    gone = 0 if node.options.get("keep_dims", False) else sum(axis < flow.axis for axis in axes)
    b.add(node, _fresh(b, node, flows), [replace(flow, axis=flow.axis - gone)])


def windowed(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A filter that slides over time: it remembers the rows that its next output needs again."""
    flow = _only(flows, 0)
    if flow.axis not in (1, 2):
        raise BlockedError("time lies along its channels")
    axis = flow.axis - 1
    if node.op in WEIGHTED:
        size = b.graph.tensors[node.inputs[1]].shape[1:3]
        slide = convolution.window(b.graph, node, (size[0], size[1]))
    else:
        slide = pooling.window(b.graph, node)
    reach = (slide.size[axis] - 1) * slide.dilation[axis] + 1
    stride, before, made = slide.stride[axis], slide.before[axis], slide.out[axis]
    unused = flow.rows + before - ((made - 1) * stride + reach)  # rows at the end that no output looks at
    context = reach - stride + unused
    _slides(node, flow, stride, before, unused, context)
    pads = [0, 0, 0, 0]
    pads[2 - 2 * axis : 4 - 2 * axis] = slide.before[1 - axis], slide.after[1 - axis]
    options = {**node.options, "padding": "EXPLICIT", "pad": tuple(pads)}
    b.remembers |= before > 0
    x = b.window(node.inputs[0], context + flow.step)
    filled = flow.filled and before == context
    b.add(replace(node, options=options), {0: x}, [Flow(flow.axis, made, flow.step // stride, filled)])


def _slides(node: Node, flow: Flow, stride: int, before: int, unused: int, context: int) -> None:
    """Raise BlockedError when the filter's outputs depend on where the window starts or ends."""
    if unused < 0:
        raise BlockedError(f"it looks {-unused} rows past the end of the window (pad only before it)")
    if before and node.op not in WEIGHTED:
        raise BlockedError("it pads the start of the window")
    if before and not flow.filled:
        raise BlockedError("it pads rows that an earlier filter has not filled yet")
    if before > context:
        raise BlockedError("it pads more rows before the window than its filter remembers")
    if flow.step % stride:
        raise BlockedError(f"its stride of {stride} does not divide the {flow.step} new rows")
    if context < 0:
        raise BlockedError("it skips rows")


def pad(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Borders around other axes than time."""
    flow = _only(flows, 0)
    around = np.reshape(values(b.graph, node, 1), (-1, 2))
    if around[flow.axis].any():
        raise BlockedError("it pads the time axis")
    b.add(node, _fresh(b, node, flows), [flow])


def resize(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Each row repeated the same number of times."""
    flow = _only(flows, 0)
    made = b.graph.tensors[node.outputs[0]].shape
    times, rest = divmod(made[flow.axis], flow.rows)
    exact = not node.options.get("align_corners", False) and not node.options.get("half_pixel_centers", False)
    if rest or not exact:
        raise BlockedError("it does not repeat rows a whole number of times")
    sizes = values(b.graph, node, 1)
    sizes[flow.axis - 1] = times * flow.step
    target = b.constant(b.graph.tensors[node.inputs[1]], np.array(sizes, np.int32))
    result = Flow(flow.axis, made[flow.axis], times * flow.step, flow.filled)
    b.add(node, {0: b.fresh[node.inputs[0]], 1: target}, [result])


def _only(flows: Mapping[int, Flow], position: int) -> Flow:
    if position not in flows:
        raise BlockedError("time enters it through a parameter")
    return flows[position]


def _fresh(b: Builder, node: Node, flows: Mapping[int, Flow]) -> dict[int, int]:
    return {position: b.fresh[node.inputs[position]] for position in flows}


def _located(flow: Flow, x: tuple[int, ...], y: tuple[int, ...]) -> Flow:
    """Return the flow in a reshaped tensor: the axis of as many rows behind as many elements."""
    for axis, size in enumerate(y):
        if size == flow.rows and math.prod(y[:axis]) == math.prod(x[: flow.axis]):
            return replace(flow, axis=axis)
    raise BlockedError("it merges the time axis with others")


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(
        ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "POW", "PRELU", "SELECT_V2"),
        elementwise,
    ),
    **dict.fromkeys(
        (
            *(
                "ABS",
                "CAST",
                "COS",
                "DEQUANTIZE",
                "EAR_TABLE",
                "ELU",
                "EXP",
                "GELU",
                "HARD_SWISH",
                "LEAKY_RELU",
            ),
            *("LOG", "LOGISTIC", "NEG", "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "RSQRT"),
            *("SIN", "SQRT", "SQUARE", "TANH"),
        ),
        elementwise,
    ),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION", "EAR_LAYER_NORM", "EAR_RMS_NORM"), by_row),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), reshape),
    **dict.fromkeys(("SPLIT", "SPLIT_V", "UNPACK"), split),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), reduce),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D"), windowed),
    **dict.fromkeys(("PAD", "PADV2"), pad),
    "BATCH_MATMUL": batch_matmul,
    "CONCATENATION": concatenation,
    "FULLY_CONNECTED": fully_connected,
    "RESIZE_NEAREST_NEIGHBOR": resize,
    "TRANSPOSE": transpose,
}
