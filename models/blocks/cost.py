"""What a net costs: parameters by name, and multiply-accumulates of one inference."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any


def weights(net: Any) -> dict[str, Any]:
    """Return every weight of `net` as layer/variable -> keras Variable, in the order of the layers."""
    return {f"{layer.name}/{weight.name}": weight for layer in net.layers for weight in layer.weights}


def parameters(net: Any) -> int:
    """Return the trainable parameters: the convention of papers (running statistics are not counted)."""
    return sum(prod(weight.shape) for layer in net.layers for weight in layer.trainable_weights)


def macs(net: Any) -> int:
    """Return the multiply-accumulates of one input in convolutions, dense layers and matrix products."""
    return sum(_macs(operation) for operation in net.operations)


def _macs(operation: Any) -> int:
    kind = type(operation).__name__
    if kind in ("Conv2D", "DepthwiseConv2D"):
        _, height, width, channels = operation.output.shape
        kernel = operation.kernel.shape
        taps = kernel[0] * kernel[1] * (kernel[2] if kind == "Conv2D" else 1)
        return int(height * width * channels * taps)
    if kind == "Dense":
        return int(prod(operation.output.shape[1:]) * operation.kernel.shape[0])
    if kind == "Matmul":
        return int(prod(operation.output.shape[1:]) * operation.input[0].shape[-1])
    return 0


def shape_only(build: Callable[[], Any]) -> Any:
    """Return the net of `build()` without memory for its weights: shapes and counts of any size, at once."""
    import keras

    with keras.StatelessScope():
        return build()
