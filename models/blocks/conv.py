"""Convolution blocks, each named by its kind: pairs, stems, separable, residual and inverted ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from keras import layers, ops

from boards.errors import UserError
from models.blocks.groups import Group, Slice

IMAGES = ("pair", "single", "stem", "separable")  # nothing is added to what such a block makes


@dataclass(frozen=True)
class Block:
    """One block over (batch, time, frequency, channels); sound itself has one frequency.

    Kinds: `pair` and `single`, convolutions of `widths`, reduced behind the last; `stem`, one convolution
    reduced before its norm; `separable`, a depthwise one that reduces and a pointwise one; `residual`,
    reduction, then convolutions added to their input (three widths: a bottleneck); `inverted`, a depthwise
    one that reduces between pointwise ones (one width: no expansion), added to its input where it fits;
    `pool`, reduction alone; `fold`, channels laid out as bands of the one width.
    """

    kind: Literal["pair", "single", "stem", "separable", "residual", "inverted", "pool", "fold"]
    widths: tuple[int, ...] = ()  # output channels of its convolutions; inverted: hidden ones first
    reduce: tuple[int, int] = (1, 1)  # in time and frequency
    kernel: tuple[int, int] = (3, 3)
    by: Literal["mean", "max", "centred_max", "stride"] = "mean"  # how it reduces
    time: Literal["same", "valid"] = "same"  # valid: no padding in time, so that it can stream
    dilation: int = 1  # in time, of the convolutions behind the first
    activation: Literal["relu", "relu6", "linear"] = "relu"
    dropout: float = 0.0  # behind the block; inside a residual one


def activated(x: Any, activation: str, name: str) -> Any:
    """Return ReLU of `x`, capped at 6 for relu6; `x` itself for linear."""
    if activation == "linear":
        return x
    return layers.ReLU(6.0 if activation == "relu6" else None, name=f"{name}_relu")(x)


def normalised(x: Any, name: str, activation: str = "relu") -> Any:
    """Return BatchNorm (PyTorch's epsilon and momentum) and activation of `x`."""
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(x)
    return activated(x, activation, name)


def padded(x: Any, block: Block, kernel: tuple[int, int], stride: tuple[int, int], name: str) -> Any:
    """Return `x` with the borders that a filter that strides, or does not pad in time, asks for.

    PyTorch's borders, half a kernel on either side: Keras's own lie elsewhere where the stride is not 1.

    Raises:
        UserError: fewer rows are left than a filter without padding needs.
    """
    if block.time == "valid" and x.shape[1] < kernel[0]:
        raise UserError(
            f"{name}: {x.shape[1]} rows of time are left for a filter of {kernel[0]}: give it longer inputs"
        )
    time = 0 if block.time == "valid" else kernel[0] // 2
    across = kernel[1] // 2
    if (stride == (1, 1) and block.time == "same") or not time + across:
        return x
    return layers.ZeroPadding2D(((time, time), (across, across)), name=f"{name}_pad")(x)


def convolution(x: Any, block: Block, width: int, kernel: tuple[int, int], name: str, number: int = 1) -> Any:
    """Return a convolution without bias; the first of a block strides, those behind it are dilated."""
    stride = block.reduce if block.by == "stride" and number == 1 else (1, 1)
    x = padded(x, block, kernel, stride, name) if kernel != (1, 1) else x
    padding = "same" if stride == (1, 1) and block.time == "same" else "valid"
    dilation = (block.dilation, 1) if number > 1 else (1, 1)
    options = {"use_bias": False, "kernel_initializer": "glorot_uniform", "name": name}
    return layers.Conv2D(width, kernel, stride, padding, dilation_rate=dilation, **options)(x)


def depthwise(x: Any, block: Block, name: str) -> Any:
    """Return a depthwise convolution that strides, without bias."""
    stride = block.reduce if block.by == "stride" else (1, 1)
    x = padded(x, block, block.kernel, stride, name)
    padding = "same" if stride == (1, 1) and block.time == "same" else "valid"
    return layers.DepthwiseConv2D(block.kernel, stride, padding, use_bias=False, name=name)(x)


def pooled(x: Any, reduce: tuple[int, int], by: str, name: str) -> Any:
    """Return `x` pooled by `reduce`; what reduces by stride is left as it is.

    centred_max lies half a window before the start, as PyTorch's padding does; behind a ReLU zeros will do.
    """
    if reduce == (1, 1) or by == "stride":
        return x
    if by == "mean":
        return layers.AveragePooling2D(reduce, name=f"{name}_pool")(x)
    if by == "centred_max":
        around = tuple((size // 2, size // 2) for size in reduce)
        x = layers.ZeroPadding2D(around, name=f"{name}_pool_pad")(x)
    return layers.MaxPooling2D(reduce, name=f"{name}_pool")(x)


def pooled_convolutions(x: Any, block: Block, name: str) -> Any:
    """Return convolutions of `block.widths`, then pooling (the block of PANNs)."""
    for number, width in enumerate(block.widths, 1):
        conv = f"{name}_conv{number}"
        x = normalised(convolution(x, block, width, block.kernel, conv, number), conv, block.activation)
    return pooled(x, block.reduce, block.by, name)


def stem(x: Any, block: Block, name: str) -> Any:
    """Return one convolution that reduces."""
    x = pooled(convolution(x, block, block.widths[0], block.kernel, f"{name}_conv1"), *_how(block), name)
    return normalised(x, f"{name}_conv1", block.activation)


def separable(x: Any, block: Block, name: str) -> Any:
    """Return a depthwise convolution that reduces and a pointwise one (MobileNet, 1704.04861)."""
    x = pooled(depthwise(x, block, f"{name}_depthwise"), *_how(block), name)
    x = normalised(x, f"{name}_depthwise", block.activation)
    x = layers.Conv2D(block.widths[0], (1, 1), use_bias=False, name=f"{name}_conv1")(x)
    return normalised(x, f"{name}_conv1", block.activation)


def residual(x: Any, block: Block, name: str) -> Any:
    """Return convolutions added to their input, as ResNet (1512.03385); the shortcut pools by the mean."""
    before = x
    x = pooled(x, *_how(block), name)
    last = len(block.widths)
    for number, width in enumerate(block.widths, 1):
        kernel = (1, 1) if last == 3 and number != 2 else block.kernel
        conv = f"{name}_conv{number}"
        if number == last:
            x = layers.Dropout(block.dropout, name=f"{name}_dropout")(x)
        y = convolution(x, block, width, kernel, conv, number)
        x = normalised(y, conv, "linear" if number == last else block.activation)
    if has_shortcut(block, before.shape[-1]):
        before = pooled(before, block.reduce, "mean", f"{name}_shortcut")
        before = layers.Conv2D(block.widths[-1], (1, 1), use_bias=False, name=f"{name}_shortcut")(before)
        before = normalised(before, f"{name}_shortcut", "linear")
    return activated(layers.Add(name=f"{name}_add")([x, before]), block.activation, f"{name}_add")


def inverted(x: Any, block: Block, name: str) -> Any:
    """Return the inverted residual of MobileNetV2 (1801.04381), with pooling where that strides."""
    before = x
    if len(block.widths) == 2:
        x = layers.Conv2D(block.widths[0], (1, 1), use_bias=False, name=f"{name}_conv1")(x)
        x = normalised(x, f"{name}_conv1", block.activation)
    x = pooled(depthwise(x, block, f"{name}_depthwise"), *_how(block), name)
    x = normalised(x, f"{name}_depthwise", block.activation)
    last = f"{name}_conv{len(block.widths)}"
    x = layers.Conv2D(block.widths[-1], (1, 1), use_bias=False, name=last)(x)
    x = normalised(x, last, "linear")
    return layers.Add(name=f"{name}_add")([x, before]) if adds(block, before.shape[-1]) else x


def pool(x: Any, block: Block, name: str) -> Any:
    """Return `x` reduced."""
    return pooled(x, *_how(block), name)


def fold(x: Any, block: Block, name: str) -> Any:
    """Return (batch, time, 1, bands·c) as an image (batch, time, bands, c); bands are the inner axis."""
    bands = block.widths[0]
    x = layers.Reshape((x.shape[1], x.shape[3] // bands, bands), name=f"{name}_bands")(x)
    return ops.transpose(x, (0, 1, 3, 2))


def _how(block: Block) -> tuple[tuple[int, int], str]:
    return block.reduce, block.by


KINDS: dict[str, Callable[[Any, Block, str], Any]] = {
    "pair": pooled_convolutions,
    "single": pooled_convolutions,
    "stem": stem,
    "separable": separable,
    "residual": residual,
    "inverted": inverted,
    "pool": pool,
    "fold": fold,
}


def stack(x: Any, blocks: tuple[Block, ...], first: int = 1, name: str = "block") -> Any:
    """Return all `blocks` in turn, their layers named by `name` and number from `first` on."""
    for number, block in enumerate(blocks, first):
        x = KINDS[block.kind](x, block, f"{name}{number}")
        if block.kind != "residual":
            x = layers.Dropout(block.dropout, name=f"{name}{number}_dropout")(x)
    return x


def has_shortcut(block: Block, width: int) -> bool:
    """Return whether a residual block projects its input of `width` channels before it adds it."""
    return block.reduce != (1, 1) or block.widths[-1] != width


def adds(block: Block, width: int) -> bool:
    """Return whether an inverted block adds its input of `width` channels."""
    return block.reduce == (1, 1) and block.widths[-1] == width


def statistics(layer: str) -> tuple[Slice, ...]:
    """Return the slices of a BatchNorm layer: one value a channel."""
    return tuple(Slice(f"{layer}/{v}", 0) for v in ("gamma", "beta", "moving_mean", "moving_variance"))


def stack_groups(
    blocks: tuple[Block, ...],
    readers: tuple[Slice, ...],
    path: str = "blocks",
    first: int = 0,
    name: str = "block",
) -> tuple[Group, ...]:
    """Return a group for the output channels of each convolution from block `first` on.

    `readers` are the weights behind the last block; () where its channels cannot go. Channels that are added
    to others, or laid out as bands, have no group.
    """
    groups: list[Group] = []
    seen = [(i, block) for i, block in enumerate(blocks) if block.kind != "pool"]
    for place, (index, block) in enumerate(seen):
        if index < first or block.kind == "fold":
            continue
        follows = seen[place + 1] if place + 1 < len(seen) else None
        behind = _entry(f"{name}{follows[0] + 1}", follows[1], block.widths[-1]) if follows else readers
        for number in range(1, len(block.widths) + 1):
            last = number == len(block.widths)
            if last and (block.kind not in IMAGES or not behind):
                continue
            layer, field = f"{name}{index + 1}", f"{path}.{index}.widths.{number - 1}"
            after = behind if last else _inner(block, layer, number + 1)
            groups.append(_channels(field, layer, block, number, after))
    return tuple(groups)


def _channels(field: str, name: str, block: Block, number: int, readers: tuple[Slice, ...]) -> Group:
    layer, width = f"{name}_conv{number}", block.widths[number - 1]
    scores = (Slice(f"{layer}/kernel", 3), Slice(f"{layer}_bn/gamma", 0))
    own = (Slice(f"{layer}/kernel", 3), *statistics(f"{layer}_bn"))
    return Group(field, width, own + readers, scores, "scale", min(8, width), multiple=4)


def _inner(block: Block, name: str, number: int) -> tuple[Slice, ...]:
    """Return what reads the channels before convolution `number` of a block, behind its first."""
    own = (Slice(f"{name}_conv{number}/kernel", 2),)
    return _through_depthwise(name) + own if block.kind == "inverted" else own


def _through_depthwise(name: str) -> tuple[Slice, ...]:
    return (Slice(f"{name}_depthwise/kernel", 2), *statistics(f"{name}_depthwise_bn"))


def _entry(name: str, block: Block, width: int) -> tuple[Slice, ...]:
    """Return what reads the `width` channels that enter a block; () where they are added or laid out."""
    own: tuple[Slice, ...] = (Slice(f"{name}_conv1/kernel", 2),)
    if block.kind == "fold":
        return ()
    if block.kind == "separable" or (block.kind == "inverted" and len(block.widths) == 1):
        own = _through_depthwise(name) + own
    if block.kind == "inverted" and adds(block, width):
        return ()
    if block.kind == "residual":
        return (*own, Slice(f"{name}_shortcut/kernel", 2)) if has_shortcut(block, width) else ()
    return own
