"""ConvNeXt: depthwise convolution, LayerNorm and a pointwise bottleneck, in stages (arXiv 2201.03545)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import layers, ops

from boards.errors import UserError
from models.blocks.groups import Group, Slice
from models.blocks.normalise import ACTIVATIONS, LayerNorm

EPSILON = 1e-6  # of every LayerNorm


@dataclass(frozen=True)
class Stage:
    """One resolution: a strided convolution to `width` channels, then a block for each of `hidden`."""

    width: int
    hidden: tuple[int, ...]  # units of each block's pointwise bottleneck
    reduce: tuple[int, int] = (2, 2)  # kernel and stride in time and frequency
    padding: int = 0  # silent frames at either end before the strided convolution


@dataclass(frozen=True)
class ConvNeXt:
    """A ConvNeXt body. LayerNorm stands behind the first strided convolution and before the others."""

    stages: tuple[Stage, ...]
    kernel: int = 7  # of the depthwise convolutions, in time and frequency
    activation: Literal["relu", "gelu", "sigmoid_gelu"] = "gelu"
    layer_scale: float = 1e-6  # what the scale of each block's channels starts with
    drop_path: float = 0.0  # share of examples that skip the last block; it grows linearly from 0


class Scale(layers.Layer):
    """Multiplies each channel by a learned factor: (…, channels) in and out; channels parameters."""

    def __init__(self, initial: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the factors."""
        start = keras.initializers.Constant(self.initial)
        self.gamma = self.add_weight(shape=(shape[-1],), initializer=start, name="gamma")

    def call(self, x: Any) -> Any:
        """Return the scaled `x`."""
        return x * self.gamma

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "initial": self.initial}


def convnext(x: Any, body: ConvNeXt) -> Any:
    """Return (batch, time, frequency, width of the last stage) of (batch, time, frequency, channels).

    Raises:
        UserError: too few frames or bands are left for a strided convolution.
    """
    done, total = 0, sum(len(stage.hidden) for stage in body.stages)
    for number, stage in enumerate(body.stages, 1):
        x = _reduced(x, stage, f"stage{number}_reduce", first=number == 1)
        for block, hidden in enumerate(stage.hidden, 1):
            rate = body.drop_path * done / max(1, total - 1)
            x = _block(x, body, hidden, rate, f"stage{number}_block{block}")
            done += 1
    return x


def _reduced(x: Any, stage: Stage, name: str, first: bool) -> Any:
    height, width = x.shape[1] + 2 * stage.padding, x.shape[2]
    if height < stage.reduce[0] or width < stage.reduce[1]:
        raise UserError(
            f"{name}: {height} × {width} places are left for strides of {stage.reduce[0]} × "
            f"{stage.reduce[1]}: give a longer input, more bands, or fewer stages"
        )
    if stage.padding:
        x = layers.ZeroPadding2D((stage.padding, 0), name=f"{name}_pad")(x)
    conv = layers.Conv2D(stage.width, stage.reduce, stage.reduce, kernel_initializer=_normal(), name=name)
    norm = LayerNorm(EPSILON, name=f"{name}_norm")
    return norm(conv(x)) if first else conv(norm(x))


def _block(x: Any, body: ConvNeXt, hidden: int, rate: float, name: str) -> Any:
    width = x.shape[-1]
    y = layers.DepthwiseConv2D(
        body.kernel, padding="same", depthwise_initializer=_normal(), name=f"{name}_dwconv"
    )(x)
    y = LayerNorm(EPSILON, name=f"{name}_norm")(y)
    y = layers.Dense(hidden, kernel_initializer=_normal(), name=f"{name}_pwconv1")(y)
    y = layers.Dense(width, kernel_initializer=_normal(), name=f"{name}_pwconv2")(
        ACTIVATIONS[body.activation](y)
    )
    y = Scale(body.layer_scale, name=f"{name}_scale")(y)
    return x + layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}_path")(y)


def _normal() -> Any:
    return keras.initializers.TruncatedNormal(stddev=0.02)


def mean_max(frames: Any) -> Any:
    """Return maximum plus mean over time of (batch, time, width)."""
    return ops.max(frames, axis=1) + ops.mean(frames, axis=1)


def convnext_groups(body: ConvNeXt, readers: tuple[Slice, ...], path: str) -> tuple[Group, ...]:
    """Return the channels of every stage and the hidden units of every block.

    `readers` are the weights behind the last stage that have a value for each of its channels.
    """
    groups: list[Group] = []
    for s, stage in enumerate(body.stages):
        last = s + 1 == len(body.stages)
        behind = (
            readers
            if last
            else (*_norm(f"stage{s + 2}_reduce_norm"), Slice(f"stage{s + 2}_reduce/kernel", 2))
        )
        groups.append(_channels(s, stage, behind, f"{path}.stages.{s}.width"))
        for b, hidden in enumerate(stage.hidden):
            name = f"stage{s + 1}_block{b + 1}"
            down = Slice(f"{name}_pwconv2/kernel", 0)
            own = (Slice(f"{name}_pwconv1/kernel", 1), Slice(f"{name}_pwconv1/bias", 0), down)
            field = f"{path}.stages.{s}.hidden.{b}"
            groups.append(Group(field, hidden, own, (down,), "taylor", min(8, hidden), multiple=4))
    return tuple(groups)


def _channels(index: int, stage: Stage, behind: tuple[Slice, ...], field: str) -> Group:
    conv = f"stage{index + 1}_reduce"
    own = [Slice(f"{conv}/kernel", 3), Slice(f"{conv}/bias", 0)]
    writers = [own[0]]
    if index == 0:
        own += _norm(f"{conv}_norm")
    for block in range(1, len(stage.hidden) + 1):
        name = f"stage{index + 1}_block{block}"
        out = Slice(f"{name}_pwconv2/kernel", 1)
        writers.append(out)
        own += [Slice(f"{name}_dwconv/kernel", 2), Slice(f"{name}_dwconv/bias", 0), *_norm(f"{name}_norm")]
        own += [Slice(f"{name}_pwconv1/kernel", 0), out, Slice(f"{name}_pwconv2/bias", 0)]
        own.append(Slice(f"{name}_scale/gamma", 0))
    least = min(8, stage.width)
    return Group(field, stage.width, (*own, *behind), tuple(writers), "taylor", least, multiple=4)


def _norm(layer: str) -> tuple[Slice, Slice]:
    return Slice(f"{layer}/gamma", 0), Slice(f"{layer}/beta", 0)
