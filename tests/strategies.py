"""Hypothesis strategies for the core ops: shapes, strides, padding, dilation, groups, scales, saturation."""

from __future__ import annotations

from typing import Any

import numpy as np
import tflite_writer as tfl
from hypothesis import strategies as st
from op_oracle import Case, int8, quantisations, scales

ACTIVATIONS = st.sampled_from(["NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
PADDINGS = st.sampled_from(["SAME", "VALID"])


def out_size(length: int, size: int, stride: int, dilation: int, padding: str) -> int:
    """Return how many windows fit."""
    return -(-length // stride) if padding == "SAME" else (length - (size - 1) * dilation - 1) // stride + 1


@st.composite
def windows(draw: Any, dilated: bool) -> dict[str, Any]:
    """Draw the sizes of a sliding window that fits its input, by axis: rows, columns."""
    padding = draw(PADDINGS)
    found: dict[str, Any] = {"padding": padding}
    for axis in ("rows", "columns"):
        size, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        dilation = draw(st.integers(1, 3)) if dilated else 1
        least = 1 if padding == "SAME" else (size - 1) * dilation + 1
        length = draw(st.integers(least, least + 8))
        found[axis] = length, size, stride, dilation, out_size(length, size, stride, dilation, padding)
    return found


def sliding(window: dict[str, Any]) -> dict[str, Any]:
    """Return the options that conv and depthwise share."""
    (_, _, stride_h, dilation_h, _), (_, _, stride_w, dilation_w, _) = window["rows"], window["columns"]
    return {
        "padding": window["padding"],
        "stride_h": stride_h,
        "stride_w": stride_w,
        "dilation_h_factor": dilation_h,
        "dilation_w_factor": dilation_w,
    }


@st.composite
def weights(draw: Any, shape: tuple[int, ...], axis: int, x_scale: float, reach: int) -> tuple[Any, Any, Any]:
    """Draw (weights, bias or None, output scale); the scales make outputs saturate sometimes, not always."""
    channels = shape[axis]
    per_channel = draw(st.booleans())
    count = channels if per_channel else 1
    power = draw(st.floats(-7, 0))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    scale = np.exp(power + rng.uniform(-2, 2, count)).astype(np.float32)
    data = np.clip(rng.integers(-140, 141, shape), -127, 127)
    w = tfl.constant("w", data, "int8", scale, np.zeros(count), axis)
    b = None
    if draw(st.booleans()):
        bias = rng.integers(-(1 << draw(st.integers(4, 28))), 1 << 16, channels)
        b = tfl.constant("b", bias, "int32", scale * np.float32(x_scale), np.zeros(count))
    y_scale = float(
        np.float32(x_scale * np.exp(power) * np.sqrt(reach) * 30 * np.exp(draw(st.floats(-3, 3))))
    )
    return w, b, y_scale


@st.composite
def conv_2d(draw: Any) -> Case:
    """Draw a convolution, often 1×1, sometimes grouped."""
    window = draw(windows(dilated=True))
    groups, depth = draw(st.sampled_from([(1, 1), (1, 3), (1, 4), (1, 8), (2, 3), (3, 4)]))
    outputs = groups * draw(st.sampled_from([1, 2, 3, 4, 5, 8]))
    rows, columns = window["rows"], window["columns"]
    batch = draw(st.sampled_from([1, 1, 2]))
    q = draw(quantisations)
    x = tfl.Value("x", (batch, rows[0], columns[0], groups * depth), "int8", *q)
    shape = (outputs, rows[1], columns[1], depth)
    w, b, y_scale = draw(weights(shape, 0, q[0], rows[1] * columns[1] * depth))
    y = tfl.Value("y", (batch, rows[4], columns[4], outputs), "int8", y_scale, draw(st.integers(-128, 127)))
    options = {**sliding(window), "fused_activation_function": draw(ACTIVATIONS)}
    return Case(
        tfl.Op("CONV_2D", [v for v in (x, w, b) if v is not None], [y], options, 3), (int8(draw, x.shape),)
    )


@st.composite
def depthwise_conv_2d(draw: Any) -> Case:
    """Draw a depthwise convolution with a channel multiplier of 1 to 3."""
    window = draw(windows(dilated=True))
    channels, multiplier = draw(
        st.sampled_from([(1, 1), (3, 1), (4, 1), (8, 1), (10, 1), (1, 8), (2, 3), (4, 2)])
    )
    rows, columns = window["rows"], window["columns"]
    q = draw(quantisations)
    x = tfl.Value("x", (1, rows[0], columns[0], channels), "int8", *q)
    shape = (1, rows[1], columns[1], channels * multiplier)
    w, b, y_scale = draw(weights(shape, 3, q[0], rows[1] * columns[1]))
    y = tfl.Value("y", (1, rows[4], columns[4], shape[3]), "int8", y_scale, draw(st.integers(-128, 127)))
    options = {
        **sliding(window),
        "depth_multiplier": multiplier,
        "fused_activation_function": draw(ACTIVATIONS),
    }
    return Case(
        tfl.Op("DEPTHWISE_CONV_2D", [v for v in (x, w, b) if v is not None], [y], options, 3),
        (int8(draw, x.shape),),
    )


@st.composite
def fully_connected(draw: Any) -> Case:
    """Draw a fully connected op on one row or several, keeping the axes or not."""
    keep = draw(st.booleans())
    lead = draw(st.sampled_from([(1,), (1, 1), (1, 5), (7,), (2, 3)])) if keep else (draw(st.integers(1, 6)),)
    depth, outputs = draw(st.integers(1, 70)), draw(st.integers(1, 11))
    q = draw(quantisations)
    x = tfl.Value("x", (*lead, depth), "int8", *q)
    w, b, y_scale = draw(weights((outputs, depth), 0, q[0], depth))
    y = tfl.Value("y", (*lead, outputs), "int8", y_scale, draw(st.integers(-128, 127)))
    options = {"keep_num_dims": keep, "fused_activation_function": draw(ACTIVATIONS)}
    return Case(
        tfl.Op("FULLY_CONNECTED", [v for v in (x, w, b) if v is not None], [y], options, 4),
        (int8(draw, x.shape),),
    )


@st.composite
def pools(draw: Any) -> Case:
    """Draw an average or max pool."""
    window = draw(windows(dilated=False))
    rows, columns, channels = window["rows"], window["columns"], draw(st.integers(1, 9))
    q = draw(quantisations)
    x = tfl.Value("x", (1, rows[0], columns[0], channels), "int8", *q)
    y = tfl.Value("y", (1, rows[4], columns[4], channels), "int8", *q)
    options = {
        "padding": window["padding"],
        "stride_h": rows[2],
        "stride_w": columns[2],
        "filter_height": rows[1],
        "filter_width": columns[1],
        "fused_activation_function": draw(ACTIVATIONS),
    }
    name = draw(st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
    return Case(tfl.Op(name, [x], [y], options, 2), (int8(draw, x.shape),))


@st.composite
def pads(draw: Any) -> Case:
    """Draw a PAD, or a PADV2 with a value of its own, of one to four axes."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    around = [(draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in shape]
    q = draw(quantisations)
    x = tfl.Value("x", shape, "int8", *q)
    y = tfl.Value("y", tuple(n + a + b for n, (a, b) in zip(shape, around, strict=True)), "int8", *q)
    inputs = [x, tfl.constant("p", around)]
    name = draw(st.sampled_from(["PAD", "PADV2"]))
    if name == "PADV2":
        inputs.append(
            tfl.Value("v", (1,), "int8", *q, data=np.array([draw(st.integers(-128, 127))], np.int8))
        )
    return Case(tfl.Op(name, inputs, [y]), (int8(draw, shape),))


@st.composite
def softmaxes(draw: Any) -> Case:
    """Draw a softmax over 1 to 40 values, flat to sharp."""
    shape = (*draw(st.sampled_from([(1,), (3,), (1, 2), (1, 2, 3)])), draw(st.integers(1, 40)))
    scale = draw(scales)
    x = tfl.Value("x", shape, "int8", scale, draw(st.integers(-128, 127)))
    y = tfl.Value("y", shape, "int8", 1 / 256, -128)
    spread = draw(st.integers(0, 127))
    op = tfl.Op("SOFTMAX", [x], [y], {"beta": draw(st.sampled_from([1.0, 1.0, 0.5, 3.0]))}, 2)
    return Case(op, (int8(draw, shape, -spread - 1, spread),))
