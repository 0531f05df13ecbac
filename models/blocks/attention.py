"""Attention encoder: learned positions, self-attention and feed-forward layers, as BERT has them."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from keras import layers, ops

from boards.errors import UserError
from models.blocks.groups import Group, Slice
from models.blocks.normalise import ACTIVATIONS, LayerNorm


@dataclass(frozen=True)
class Layer:
    """One encoder layer: `heads` of `head_width` each, and `ffn` hidden units."""

    heads: int
    head_width: int
    ffn: int


@dataclass(frozen=True)
class Encoder:
    """An encoder: model width, learned positions (0: none), layers, and how they compute.

    BERT has positions and segments. A depthwise convolution tells frames from their neighbours in fewer
    parameters, and does not learn where in a clip a sound happened to be (Chu et al. 2021, 2102.10882).
    """

    width: int
    positions: int
    layers: tuple[Layer, ...]
    segments: int = 0
    context: int = 0  # taps of a depthwise convolution over time, added to the embedding; 0: none
    activation: Literal["relu", "gelu", "sigmoid_gelu"] = "sigmoid_gelu"
    attention_bias: bool = True  # a bias of query, key and value
    dropout: float = 0.0


class Positions(layers.Layer):
    """Adds a learned row to each frame, and the first segment row to all where there are segments.

    (batch, frames, width) in and out; (positions + segments)·width parameters.
    """

    def __init__(self, positions: int, segments: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.positions, self.segments = positions, segments

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create the tables (BERT's normal initialiser, σ 0.02)."""
        self.frames, width = shape[-2], shape[-1]
        if self.frames > self.positions:
            cure = "lower max_frames or give the encoder more positions"
            raise UserError(f"{self.frames} frames, but the encoder has {self.positions} positions: {cure}")
        self.position = self.add_weight(shape=(self.positions, width), initializer=_bert(), name="position")
        if self.segments:
            self.segment = self.add_weight(shape=(self.segments, width), initializer=_bert(), name="segment")

    def call(self, x: Any) -> Any:
        """Return `x` with the rows added."""
        rows = self.position[: self.frames]
        return x + (rows + self.segment[:1] if self.segments else rows)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "positions": self.positions, "segments": self.segments}


def _bert() -> Any:
    from keras import initializers

    return initializers.RandomNormal(stddev=0.02)


def self_attention(x: Any, layer: Layer, bias: bool, name: str) -> Any:
    """Return multi-head self-attention of (batch, frames, width): softmax(QKᵀ/√d)V, then the output layer.

    Vaswani et al. 2017, arXiv 1706.03762. 1/√d is in the query, so that int8 scores keep their range.
    """
    frames, width = x.shape[-2], x.shape[-1]
    inner = layer.heads * layer.head_width

    def heads(part: str, axes: tuple[int, ...]) -> Any:
        y = layers.Dense(inner, use_bias=bias, name=f"{name}_{part}")(x)
        y = layers.Reshape((frames, layer.heads, layer.head_width), name=f"{name}_{part}_heads")(y)
        return ops.transpose(y, axes)

    query = heads("query", (0, 2, 1, 3)) * (1 / sqrt(layer.head_width))
    scores = ops.matmul(query, heads("key", (0, 2, 3, 1)))
    mixed = ops.matmul(ops.softmax(scores, axis=-1), heads("value", (0, 2, 1, 3)))
    joined = layers.Reshape((frames, inner), name=f"{name}_join")(ops.transpose(mixed, (0, 2, 1, 3)))
    return layers.Dense(width, name=f"{name}_output")(joined)


def feed_forward(x: Any, layer: Layer, activation: str, name: str) -> Any:
    """Return the position-wise network of `layer.ffn` hidden units."""
    hidden = layers.Dense(layer.ffn, name=f"{name}_up")(x)
    return layers.Dense(x.shape[-1], name=f"{name}_down")(ACTIVATIONS[activation](hidden))


def encode(x: Any, encoder: Encoder) -> Any:
    """Return (batch, frames, width) of (batch, frames, bands): embedding, then post-norm layers as in BERT.

    Devlin et al. 2018, arXiv 1810.04805.
    """
    x = layers.Dense(encoder.width, name="embed")(x)
    if encoder.context:
        x = x + layers.DepthwiseConv1D(encoder.context, padding="same", name="embed_context")(x)
    if encoder.positions:
        x = Positions(encoder.positions, encoder.segments, name="embed_position")(x)
    x = LayerNorm(name="embed_norm")(x)
    x = layers.Dropout(encoder.dropout, name="embed_dropout")(x)
    for number, layer in enumerate(encoder.layers, 1):
        name = f"layer{number}"
        y = self_attention(x, layer, encoder.attention_bias, name)
        x = LayerNorm(name=f"{name}_norm1")(x + layers.Dropout(encoder.dropout, name=f"{name}_dropout1")(y))
        y = feed_forward(x, layer, encoder.activation, name)
        x = LayerNorm(name=f"{name}_norm2")(x + layers.Dropout(encoder.dropout, name=f"{name}_dropout2")(y))
    return x


def encoder_groups(encoder: Encoder, path: str) -> tuple[Group, ...]:
    """Return the heads and the hidden units of every layer as groups."""
    groups: list[Group] = []
    for index, layer in enumerate(encoder.layers):
        name = f"layer{index + 1}"
        parts = [Slice(f"{name}_{part}/kernel", 1, layer.head_width) for part in ("query", "key", "value")]
        if encoder.attention_bias:
            parts += [Slice(f"{name}_{part}/bias", 0, layer.head_width) for part in ("query", "key", "value")]
        out = Slice(f"{name}_output/kernel", 0, layer.head_width)
        groups.append(Group(f"{path}.layers.{index}.heads", layer.heads, (*parts, out), (out,), "taylor"))
        up, bias, down = (
            Slice(f"{name}_up/kernel", 1),
            Slice(f"{name}_up/bias", 0),
            Slice(f"{name}_down/kernel", 0),
        )
        field = f"{path}.layers.{index}.ffn"
        groups.append(
            Group(field, layer.ffn, (up, bias, down), (down,), "taylor", min(4, layer.ffn), multiple=4)
        )
    return tuple(groups)
