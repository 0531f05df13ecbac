"""Convolution blocks, each named by its kind: Cnn14's pair, a strided stem, a depthwise-separable block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from keras import layers

from models.blocks.groups import Group, Slice


@dataclass(frozen=True)
class Block:
    """One block: its kind, the output channels of its convolutions, the kernel, and the reduction in time
    and frequency (average pooling for `pair` and `single`, stride for `stem` and `separable`).
    """

    kind: Literal["pair", "single", "stem", "separable"]
    widths: tuple[int, ...]
    reduce: tuple[int, int] = (1, 1)
    kernel: tuple[int, int] = (3, 3)


def normalised(x: Any, name: str) -> Any:
    """Return BatchNorm (PyTorch's epsilon and momentum) and ReLU of `x`."""
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def convolution(
    x: Any, width: int, kernel: tuple[int, int], name: str, strides: tuple[int, int] = (1, 1)
) -> Any:
    """Return convolution without bias, BatchNorm and ReLU."""
    conv = layers.Conv2D(
        width, kernel, strides, padding="same", use_bias=False, kernel_initializer="glorot_uniform", name=name
    )
    return normalised(conv(x), name)


def pooled_convolutions(x: Any, block: Block, name: str) -> Any:
    """Return convolutions of `block.widths`, then average pooling by `block.reduce` (the block of PANNs)."""
    for number, width in enumerate(block.widths, 1):
        x = convolution(x, width, block.kernel, f"{name}_conv{number}")
    return x if block.reduce == (1, 1) else layers.AveragePooling2D(block.reduce, name=f"{name}_pool")(x)


def stem(x: Any, block: Block, name: str) -> Any:
    """Return one strided convolution."""
    return convolution(x, block.widths[0], block.kernel, f"{name}_conv1", block.reduce)


def separable(x: Any, block: Block, name: str) -> Any:
    """Return a strided depthwise and a pointwise convolution, each with BatchNorm and ReLU (MobileNet)."""
    depthwise = layers.DepthwiseConv2D(
        block.kernel, block.reduce, padding="same", use_bias=False, name=f"{name}_depthwise"
    )
    return convolution(
        normalised(depthwise(x), f"{name}_depthwise"), block.widths[0], (1, 1), f"{name}_conv1"
    )


KINDS = {"pair": pooled_convolutions, "single": pooled_convolutions, "stem": stem, "separable": separable}


def stack(x: Any, blocks: tuple[Block, ...], dropout: float) -> Any:
    """Return all `blocks` in turn, with dropout behind each."""
    for number, block in enumerate(blocks, 1):
        x = KINDS[block.kind](x, block, f"block{number}")
        x = layers.Dropout(dropout, name=f"block{number}_dropout")(x)
    return x


def statistics(layer: str) -> tuple[Slice, ...]:
    """Return the slices of a BatchNorm layer: one value a channel."""
    return tuple(Slice(f"{layer}/{v}", 0) for v in ("gamma", "beta", "moving_mean", "moving_variance"))


def stack_groups(
    blocks: tuple[Block, ...], readers: tuple[Slice, ...], path: str = "blocks"
) -> tuple[Group, ...]:
    """Return a group for each convolution's output channels; `readers` are the weights behind the last."""
    convs = [
        (f"{path}.{b}.widths.{n}", width, f"block{b + 1}_conv{n + 1}", b)
        for b, block in enumerate(blocks)
        for n, width in enumerate(block.widths)
    ]
    groups = []
    for index, (field, width, layer, _) in enumerate(convs):
        behind = _readers(convs[index + 1], blocks) if index + 1 < len(convs) else readers
        scores = (Slice(f"{layer}/kernel", 3), Slice(f"{layer}_bn/gamma", 0))
        own = (Slice(f"{layer}/kernel", 3), *statistics(f"{layer}_bn"))
        groups.append(Group(field, width, own + behind, scores, "scale", min(8, width), multiple=4))
    return tuple(groups)


def _readers(conv: tuple[str, int, str, int], blocks: tuple[Block, ...]) -> tuple[Slice, ...]:
    _, _, layer, block = conv
    own = (Slice(f"{layer}/kernel", 2),)
    if blocks[block].kind != "separable":
        return own
    depthwise = f"block{block + 1}_depthwise"
    return (Slice(f"{depthwise}/kernel", 2), *statistics(f"{depthwise}_bn"), *own)
