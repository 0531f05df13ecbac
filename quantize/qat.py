"""Quantisation-aware fine-tuning: the float net learns to live with int8 noise (Jacob et al., 1712.05877).

`fake_quantised` rebuilds a functional net around its own layers and weights: every kernel is rounded per
output channel (symmetric), every activation that int8 stores is rounded per tensor, and the gradient passes
through as if nothing had happened (straight-through, Bengio et al., 1308.3432). Ranges grow at once and
shrink slowly. BatchNorm keeps its statistics, so folding it later changes nothing: its scale is one factor
a channel, which per-channel rounding absorbs. What is fused in int8 (Conv → BatchNorm → ReLU) is rounded
once, at its end. Layers that hold several operations (LayerNorm) are rounded at their output only.

The tuned weights are the net's own; afterwards the ordinary path (export, int8) is run on it.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

SHRINK = 0.01  # of the way that a range goes back to the batch's per step
LEVELS = 255  # steps of int8
MOVING = (
    "Reshape",
    "FrameReshape",
    "Permute",
    "Flatten",
    "Dropout",
    "Identity",
    "Transpose",
    "MaxPooling2D",
    "Split",
    "Max",
    "InputLayer",
)
LINEAR = ("Conv2D", "DepthwiseConv2D", "Dense", "EinsumDense", "BatchNormalization")
FOLDED = ("BatchNormalization", "ReLU")  # joined in int8 with the linear op before them


class FakeQuantise(layers.Layer):
    """Rounds a tensor to the 256 levels of int8 over its range, any shape; the gradient passes unchanged."""

    def build(self, shape: Any) -> None:
        """Create the range, of no training value of its own."""
        self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
        self.high = self.add_weight(shape=(), initializer="zeros", trainable=False, name="high")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return `x` rounded; in training the range follows the batch first."""
        if training:
            self.low.assign(_follow(self.low, ops.minimum(ops.min(x), 0.0), ops.minimum))
            self.high.assign(_follow(self.high, ops.maximum(ops.max(x), 0.0), ops.maximum))
        return _straight_through(x, _rounded(x, self.low, self.high))

    def compute_output_spec(self, x: Any, training: bool | None = None) -> Any:
        """Return the spec of `x`, dense (Keras takes a product with a constant for a sparse tensor)."""
        return keras.KerasTensor(x.shape, x.dtype)


class Frozen(layers.Layer):
    """A BatchNorm that uses its statistics and never changes them, in training too; any shape."""

    def __init__(self, norm: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.norm = norm

    def call(self, x: Any) -> Any:
        """Return the normalised `x`."""
        return self.norm(x, training=False)


def _follow(old: Any, new: Any, wider: Any) -> Any:
    return ops.stop_gradient(wider(new, old + SHRINK * (new - old)))


def _rounded(x: Any, low: Any, high: Any) -> Any:
    scale = ops.maximum(high - low, 1e-8) / LEVELS
    zero_point = ops.round(-low / scale)  # 0.0 stays exact
    return (ops.clip(ops.round(x / scale) + zero_point, 0, LEVELS) - zero_point) * scale


def _straight_through(x: Any, rounded: Any) -> Any:
    return x + ops.stop_gradient(rounded - x)


def rounded_kernel(kernel: Any, axes: tuple[int, ...]) -> Any:
    """Return a weight rounded to ±127 steps, the largest of each channel (all but `axes`) being 127."""
    scale = ops.maximum(ops.max(ops.abs(kernel), axis=axes, keepdims=True), 1e-8) / 127
    return _straight_through(kernel, ops.round(kernel / scale) * scale)


class QuantisedNet(keras.Model):
    """A net whose kernels are rounded whenever it is called; input and output as the net's."""

    def __init__(self, inner: keras.Model, axes: dict[str, tuple[int, ...]], **kwargs: Any):
        super().__init__(**kwargs)
        self.inner, self._axes = inner, axes
        self.entry = FakeQuantise(name="entry")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the logits; in training the ranges (and dropout's seeds) move on."""
        weights = [
            rounded_kernel(v.value, self._axes[v.path]) if v.path in self._axes else v.value
            for v in self.inner.trainable_variables
        ]
        state = self.inner.non_trainable_variables
        rounded = self.entry(x, training=bool(training))
        logits, moved = self.inner.stateless_call(
            weights, [v.value for v in state], rounded, training=bool(training)
        )
        if training:
            for variable, value in zip(state, moved, strict=True):
                variable.assign(value)
        return logits


def fake_quantised(net: keras.Model) -> QuantisedNet:
    """Return `net` with int8 rounding; the layers are shared, so training it tunes `net` itself."""
    readers = _readers(net)

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        norm = isinstance(operation, layers.BatchNormalization)
        y = Frozen(operation)(args[0]) if norm else operation(*args, **kwargs)
        return FakeQuantise()(y) if _stored(operation, readers.get(id(operation), ())) else y

    inner = keras.models.clone_model(net, clone_function=lambda operation: operation, call_function=call)
    return QuantisedNet(inner, _channel_axes(net))


def _readers(net: keras.Model) -> dict[int, tuple[Any, ...]]:
    """Return the operations that read each operation's output."""
    found: dict[int, tuple[Any, ...]] = {}
    for operation in net.operations:
        for node in operation._inbound_nodes:
            for parent in node.parent_nodes:
                found[id(parent.operation)] = (*found.get(id(parent.operation), ()), operation)
    return found


def _stored(operation: Any, readers: tuple[Any, ...]) -> bool:
    """Tell whether int8 stores the operation's output, rather than fusing or merely moving it."""
    kind, behind = type(operation).__name__, [type(reader).__name__ for reader in readers]
    if kind in MOVING:
        return False
    return not (kind in LINEAR and len(behind) == 1 and behind[0] in FOLDED)


def _channel_axes(net: keras.Model) -> dict[str, tuple[int, ...]]:
    """Return, by the path of each kernel, the axes that share a scale."""
    axes: dict[str, tuple[int, ...]] = {}
    for layer in net._flatten_layers():
        kind = type(layer).__name__
        if kind == "DepthwiseConv2D":
            axes[layer.kernel.path] = (0, 1)
        elif kind in LINEAR and hasattr(layer, "kernel"):
            axes[layer.kernel.path] = tuple(range(len(layer.kernel.shape) - 1))
    return axes
