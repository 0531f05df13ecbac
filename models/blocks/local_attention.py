"""Local attention: each frame attends to itself and a few frames before it, so that a stream can run it."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt
from typing import Any

from keras import layers, ops

from boards.errors import UserError
from models.blocks.attention import Encoder, Layer, encoder_groups, feed_forward
from models.blocks.groups import Group, Slice
from models.blocks.normalise import LayerNorm


class Offsets(layers.Layer):
    """Adds a learned number for each head and distance to scores (batch, frames, heads, reach)."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the numbers, 0 at first."""
        self.bias = self.add_weight(shape=tuple(shape[-2:]), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        """Return the scores with the numbers added."""
        return x + self.bias


def local_attention(x: Any, layer: Layer, reach: int, bias: bool, name: str) -> Any:
    """Return attention over `reach` frames: (batch, frames, width) to (batch, frames - reach + 1, width).

    A frame attends to itself and those before it; the first frames, which have too few, give no output.
    softmax(QKᵀ/√d + b)V as in 1706.03762, with a learned b for each head and distance (Shaw et al. 2018,
    1803.02155, simplified); the window as in 2004.05150 (Beltagy et al. 2020).
    """
    frames, width = x.shape[-2], x.shape[-1]
    left = frames - reach + 1
    shape = (frames, layer.heads, layer.head_width)

    def heads(part: str) -> Any:
        y = layers.Dense(layer.heads * layer.head_width, use_bias=bias, name=f"{name}_{part}")(x)
        return layers.Reshape(shape, name=f"{name}_{part}_heads")(y)

    query = heads("query")[:, reach - 1 :] * (1 / sqrt(layer.head_width))
    key, value = heads("key"), heads("value")
    scores = [ops.sum(query * key[:, at : at + left], axis=-1) for at in range(reach)]
    scores = Offsets(name=f"{name}_offsets")(ops.stack(scores, axis=-1))
    weights = ops.softmax(scores, axis=-1)
    mixed = sum(weights[..., at : at + 1] * value[:, at : at + left] for at in range(reach))
    joined = layers.Reshape((left, layer.heads * layer.head_width), name=f"{name}_join")(mixed)
    return layers.Dense(width, name=f"{name}_output")(joined)


def local_encode(x: Any, encoder: Encoder, reach: int) -> list[Any]:
    """Return the states of (batch, frames, width): the input, and what each pre-norm layer gives back.

    Each layer gives reach - 1 frames less than the one before it. Nothing is padded, so a stream that keeps
    the last reach - 1 frames of each layer equals the window for ever.

    Raises:
        UserError: no frame would be left.
    """
    needed = len(encoder.layers) * (reach - 1) + 1
    if x.shape[-2] < needed:
        raise UserError(
            f"{x.shape[-2]} frames of sound, but {len(encoder.layers)} layers that reach {reach} frames need "
            f"{needed}: give it longer inputs"
        )
    states = [x]
    for number, layer in enumerate(encoder.layers, 1):
        name = f"layer{number}"
        y = LayerNorm(encoder.epsilon, name=f"{name}_norm1")(x)
        y = local_attention(y, layer, reach, encoder.attention_bias, name)
        x = x[:, reach - 1 :] + layers.Dropout(encoder.dropout, name=f"{name}_dropout1")(y)
        y = LayerNorm(encoder.epsilon, name=f"{name}_norm2")(x)
        y = feed_forward(y, layer, encoder.activation, name)
        x = x + layers.Dropout(encoder.dropout, name=f"{name}_dropout2")(y)
        states.append(x)
    return [*states[:-1], LayerNorm(encoder.epsilon, name="norm")(x)]


def local_groups(encoder: Encoder, path: str) -> tuple[Group, ...]:
    """Return the heads and the hidden units of every layer as groups."""
    found = []
    for group in encoder_groups(encoder, path):
        if group.field.endswith(".heads"):
            number = int(group.field.split(".")[-2]) + 1
            own = (*group.slices, Slice(f"layer{number}_offsets/bias", 0))
            group = replace(group, slices=own)
        found.append(group)
    return tuple(found)


def pooled(x: Any) -> Any:
    """Return the mean over time of (batch, frames, width), as a pool, which a stream runs to the end."""
    x = layers.AveragePooling1D(x.shape[1], strides=1, name="pool")(x)
    return layers.Reshape((x.shape[-1],), name="pool_row")(x)
