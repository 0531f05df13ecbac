"""Stand-ins for three MLPerf Tiny models: the published layer shapes with drawn int8 weights.

`python -m benchmarks.tiny_models OUTDIR` writes vww_96.tflite, resnet8.tflite and streaming_ww.tflite. Costs
do not depend on the values, so these stand for the trained files in counts of instructions and bytes. Weights
are normal, scaled to 127 a channel; scales and zero-points follow from the ranges of a run on drawn inputs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests import tflite_writer as writer
from tests.tflite_writer import Op, Value

Float = npt.NDArray[np.float32]
SEED = 7
SPREAD = 0.5  # of the logarithm of a layer's channel scales


class Network:
    """A model under construction: each layer is computed in float as it is added, to find its range."""

    def __init__(self, shape: tuple[int, ...], scale: float, zero_point: int) -> None:
        """Start with an int8 input of this shape; the input is drawn over its whole range."""
        self._rng = np.random.default_rng(SEED)
        self.input = self.last = Value("input", (1, *shape), scale=scale, zero_point=zero_point)
        levels = self._rng.integers(-128, 128, self.input.shape) - zero_point
        self.floats: dict[str, Float] = {"input": (levels * scale).astype(np.float32)}
        self.nodes: list[Op] = []

    def bytes(self) -> bytes:
        """Return the .tflite file."""
        return writer.model([self.input], self.nodes, [], [self.last])

    def conv(self, filters: int, size: tuple[int, int], stride: int = 1, relu: bool = True) -> Value:
        """Add a SAME convolution of the last value."""
        x = self.floats[self.last.name]
        weights, real = self._weights((filters, *size, x.shape[3]), 0)
        bias = self._bias(real, filters)
        y = np.einsum("nhwijc,oijc->nhwo", _patches(x, size, stride, "SAME"), real, optimize=True)
        return self._weighted("CONV_2D", weights, bias, y, _window(stride, "SAME", relu))

    def depthwise(
        self, size: tuple[int, int], stride: int = 1, padding: str = "SAME", relu: bool = True
    ) -> Value:
        """Add a depthwise convolution of the last value."""
        x = self.floats[self.last.name]
        weights, real = self._weights((1, *size, x.shape[3]), 3)
        bias = self._bias(real[0].reshape(-1, x.shape[3]).T, x.shape[3])
        y = np.einsum("nhwijc,ijc->nhwc", _patches(x, size, stride, padding), real[0], optimize=True)
        options = {**_window(stride, padding, relu), "depth_multiplier": 1}
        return self._weighted("DEPTHWISE_CONV_2D", weights, bias, y, options)

    def dense(self, outputs: int) -> Value:
        """Add a fully connected layer of the last value, flattened."""
        x = self.floats[self.last.name]
        if x.ndim > 2:
            self._append("RESHAPE", [self.last, writer.constant("shape", [1, -1])], x.reshape(1, -1))
            x = x.reshape(1, -1)
        weights, real = self._weights((outputs, x.shape[1]), 0)
        options = {"fused_activation_function": "NONE"}
        return self._weighted("FULLY_CONNECTED", weights, self._bias(real, outputs), x @ real.T, options)

    def add(self, other: Value) -> Value:
        """Add the residual sum of the last value and another, with ReLU."""
        y = np.maximum(self.floats[self.last.name] + self.floats[other.name], 0)
        return self._append("ADD", [other, self.last], y, {"fused_activation_function": "RELU"})

    def average(self) -> Value:
        """Add an average pool over all rows and columns."""
        rows, columns = self.last.shape[1:3]
        options = {**_window(1, "VALID", False), "filter_height": rows, "filter_width": columns}
        options |= {"stride_h": rows, "stride_w": columns}
        del options["dilation_h_factor"], options["dilation_w_factor"]
        mean = self.floats[self.last.name].mean(axis=(1, 2), keepdims=True)
        return self._append("AVERAGE_POOL_2D", [self.last], mean, options, like=self.last)

    def softmax(self) -> Value:
        """Add the softmax of the last value."""
        x = np.exp(self.floats[self.last.name])
        made = Value("softmax", self.last.shape, scale=1 / 256, zero_point=-128)
        return self._append("SOFTMAX", [self.last], x / x.sum(), {"beta": 1.0}, like=made)

    def _weights(self, shape: tuple[int, ...], axis: int) -> tuple[Value, Float]:
        """Return drawn int8 weights of which each channel reaches 127, and the floats they stand for."""
        drawn = self._rng.normal(size=shape)
        others = tuple(i for i in range(len(shape)) if i != axis)
        levels = np.round(drawn / np.abs(drawn).max(axis=others, keepdims=True) * 127).astype(np.int8)
        fan_in = levels.size // shape[axis]
        scale = np.exp(self._rng.normal(0, SPREAD, shape[axis])) / (60 * np.sqrt(fan_in))
        along = [-1 if i == axis else 1 for i in range(len(shape))]
        value = writer.constant(f"weights_{len(self.nodes)}", levels, "int8", scale, 0, axis)
        value = Value(value.name, value.shape, "int8", scale, np.zeros(scale.size, int), axis, levels)
        return value, (levels * scale.reshape(along)).astype(np.float32)

    def _bias(self, real: Float, count: int) -> Float:
        largest = np.abs(real).reshape(count, -1).max(axis=1)
        bias: Float = (self._rng.normal(0, 0.3, count) * largest).astype(np.float32)
        return bias

    def _weighted(self, op: str, weights: Value, bias: Float, y: Float, options: dict[str, Any]) -> Value:
        """Append a layer with weights; the bias is added to y, and ReLU applied as the options say."""
        scale = np.asarray(weights.scale) * self.last.scale
        stored = Value(f"bias_{len(self.nodes)}", bias.shape, "int32", scale, np.zeros(bias.size, int))
        stored = Value(**{**vars(stored), "data": np.round(bias / scale).astype(np.int32)})
        y = y + bias
        if options["fused_activation_function"] == "RELU":
            y = np.maximum(y, 0)
        return self._append(op, [self.last, weights, stored], y, options)

    def _append(
        self,
        op: str,
        inputs: list[Value],
        y: Float,
        options: dict[str, Any] | None = None,
        like: Value | None = None,
    ) -> Value:
        """Append a node whose output is quantised over its range, or as `like`."""
        low, high = min(float(y.min()), 0.0), max(float(y.max()), 0.0)
        scale = (high - low) / 255
        zero_point = int(np.clip(round(-128 - low / scale), -128, 127))
        if op == "RESHAPE":
            like = self.last
        if like is not None:
            scale, zero_point = like.scale, like.zero_point
        made = Value(f"{op.lower()}_{len(self.nodes)}", y.shape, scale=scale, zero_point=zero_point)
        self.nodes.append(Op(op, inputs, [made], options or {}))
        self.floats[made.name], self.last = y.astype(np.float32), made
        return made


def _window(stride: int, padding: str, relu: bool) -> dict[str, Any]:
    return {
        "padding": padding,
        "stride_h": stride,
        "stride_w": stride,
        "dilation_h_factor": 1,
        "dilation_w_factor": 1,
        "fused_activation_function": "RELU" if relu else "NONE",
    }


def _patches(x: Float, size: tuple[int, int], stride: int, padding: str) -> Float:
    """Return (1, out rows, out columns, filter rows, filter columns, channels) of x."""
    pads = [(0, 0)] * 4
    for axis, reach in enumerate(size, start=1):
        if padding == "SAME":
            total = max((-(-x.shape[axis] // stride) - 1) * stride + reach - x.shape[axis], 0)
            pads[axis] = total // 2, total - total // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), size, axis=(1, 2))
    return windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def vww_96() -> bytes:
    """Return MobileNetV1 of width 0.25 for 96 x 96 x 3, two classes."""
    net = Network((96, 96, 3), 1 / 255, -128)
    net.conv(8, (3, 3), 2)
    for filters, stride in (
        (16, 1),
        (32, 2),
        (32, 1),
        (64, 2),
        (64, 1),
        (128, 2),
        *[(128, 1)] * 5,
        (256, 2),
        (256, 1),
    ):
        net.depthwise((3, 3), stride)
        net.conv(filters, (1, 1))
    net.average()
    net.dense(2)
    net.softmax()
    return net.bytes()


def resnet8() -> bytes:
    """Return the ResNet of three residual stacks for 32 x 32 x 3, ten classes."""
    net = Network((32, 32, 3), 1.0, -128)
    shortcut = net.conv(16, (3, 3))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        start = net.last
        net.conv(filters, (3, 3), stride)
        straight = net.conv(filters, (3, 3), relu=False)
        shortcut = start
        if stride > 1:
            net.last = start
            shortcut = net.conv(filters, (1, 1), stride, relu=False)
            net.last = straight
        net.add(shortcut)
    net.average()
    net.dense(10)
    net.softmax()
    return net.bytes()


def streaming_ww() -> bytes:
    """Return the wake-word detector on 30 frames of 40 bands: four separable convolutions over time."""
    net = Network((30, 1, 40), 0.08, -20)
    for taps, filters in ((3, 128), (5, 128), (10, 128), (15, 32)):
        net.depthwise((taps, 1), padding="VALID", relu=False)
        net.conv(filters, (1, 1))
    net.dense(3)
    return net.bytes()


MODELS: dict[str, Callable[[], bytes]] = {"vww_96": vww_96, "resnet8": resnet8, "streaming_ww": streaming_ww}


def main() -> None:
    """Write the models to the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        (folder / f"{name}.tflite").write_bytes(make())


if __name__ == "__main__":
    main()
