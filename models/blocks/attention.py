"""Attention encoder: learned positions, self-attention and feed-forward layers, as BERT and ViT have them."""

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

    `norm` is where LayerNorm stands: behind each sum (post: BERT), or before each sub-layer and once behind
    the last layer (pre: ViT, Dosovitskiy et al. 2020, 2010.11929). deep is post with DeepNorm's weights
    (Wang et al. 2022, 2203.00555): a sum is α·x + y, and values, outputs and the feed-forward start smaller.
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
    norm: Literal["post", "pre", "deep"] = "post"
    epsilon: float = 1e-6  # of every LayerNorm

    @property
    def alpha(self) -> float:
        """Return the weight of x in the sums of a post-norm layer: DeepNorm's (2·layers)^¼, or 1."""
        return (2 * len(self.layers)) ** 0.25 if self.norm == "deep" else 1.0

    @property
    def beta(self) -> float:
        """Return the gain of the first kernels that DeepNorm starts smaller: (8·layers)^-¼, or 1."""
        return (8 * len(self.layers)) ** -0.25 if self.norm == "deep" else 1.0


class Places:
    """Where a layer lets something be added to it; here nothing is (see `models.blocks.adapters`).

    All are called with the name of the layer, `layer1` …, while the net is built.
    """

    def before(self, x: Any, name: str) -> Any:
        """Return the input of the layer; `x` is that of the plain encoder, (batch, frames, width)."""
        return x

    def projected(self, part: str, x: Any, y: Any, name: str) -> Any:
        """Return the query, key or value of `x`; `y` is the plain one. Keys and values may be more frames."""
        return y

    def scored(self, x: Any, scores: Any, name: str) -> Any:
        """Return the scores before the softmax; `scores` (batch, heads, frames, keys) are the plain ones."""
        return scores

    def attended(self, x: Any, y: Any, name: str) -> Any:
        """Return what the attention adds to the sum; `y` is the plain output for the input `x`."""
        return y

    def fed(self, x: Any, y: Any, name: str) -> Any:
        """Return what the feed-forward network adds to the sum; `y` is the plain output for `x`."""
        return y


PLAIN = Places()


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


class FrameReshape(layers.Layer):
    """Gives each frame another shape: (batch, frames, …) to (batch, frames, *shape), however many frames."""

    def __init__(self, shape: tuple[int, ...], **kwargs: Any):
        super().__init__(**kwargs)
        self.shape = tuple(shape)

    def call(self, x: Any) -> Any:
        """Return `x` in the other shape."""
        return ops.reshape(x, (-1, x.shape[1], *self.shape))

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "shape": self.shape}


def self_attention(
    x: Any, layer: Layer, bias: bool, name: str, places: Places = PLAIN, gain: float = 1.0
) -> Any:
    """Return multi-head self-attention of (batch, frames, width): softmax(QKᵀ/√d)V, then the output layer.

    Vaswani et al. 2017, arXiv 1706.03762. 1/√d is in the query, so that int8 scores keep their range. The
    kernels of values and output start `gain` times as large as usual.
    """
    inner = layer.heads * layer.head_width

    def heads(part: str, axes: tuple[int, ...], start: float = 1.0) -> Any:
        y = layers.Dense(inner, use_bias=bias, kernel_initializer=_glorot(start), name=f"{name}_{part}")(x)
        y = places.projected(part, x, y, name)
        shape = (layer.heads, layer.head_width)
        return ops.transpose(FrameReshape(shape, name=f"{name}_{part}_heads")(y), axes)

    query = heads("query", (0, 2, 1, 3)) * (1 / sqrt(layer.head_width))
    scores = places.scored(x, ops.matmul(query, heads("key", (0, 2, 3, 1))), name)
    mixed = ops.matmul(ops.softmax(scores, axis=-1), heads("value", (0, 2, 1, 3), gain))
    joined = FrameReshape((inner,), name=f"{name}_join")(ops.transpose(mixed, (0, 2, 1, 3)))
    return layers.Dense(x.shape[-1], kernel_initializer=_glorot(gain), name=f"{name}_output")(joined)


def feed_forward(x: Any, layer: Layer, activation: str, name: str, gain: float = 1.0) -> Any:
    """Return the position-wise network of `layer.ffn` hidden units; `gain` is of the first kernels."""
    hidden = layers.Dense(layer.ffn, kernel_initializer=_glorot(gain), name=f"{name}_up")(x)
    hidden = ACTIVATIONS[activation](hidden)
    return layers.Dense(x.shape[-1], kernel_initializer=_glorot(gain), name=f"{name}_down")(hidden)


def _glorot(gain: float) -> Any:
    from keras import initializers

    return initializers.VarianceScaling(gain**2, "fan_avg", "uniform")


def encode(x: Any, encoder: Encoder) -> Any:
    """Return (batch, frames, width) of (batch, frames, bands): embedding as in BERT, then the layers.

    Devlin et al. 2018, arXiv 1810.04805.
    """
    x = layers.Dense(encoder.width, name="embed")(x)
    if encoder.context:
        x = x + layers.DepthwiseConv1D(encoder.context, padding="same", name="embed_context")(x)
    if encoder.positions:
        x = Positions(encoder.positions, encoder.segments, name="embed_position")(x)
    if encoder.norm != "pre":
        x = LayerNorm(encoder.epsilon, name="embed_norm")(x)
    x = layers.Dropout(encoder.dropout, name="embed_dropout")(x)
    return transformer(x, encoder)


def transformer(x: Any, encoder: Encoder, places: Places = PLAIN, prefix: str = "") -> Any:
    """Return (batch, frames, width) behind `layer1` … and, where pre-norm, a last LayerNorm `norm`.

    All names begin with `prefix`, where a net has a second transformer.
    """
    build = {"post": _post_norm, "deep": _post_norm, "pre": _pre_norm}[encoder.norm]
    for number, layer in enumerate(encoder.layers, 1):
        name = f"{prefix}layer{number}"
        x = build(places.before(x, name), layer, encoder, name, places)
    return LayerNorm(encoder.epsilon, name=f"{prefix}norm")(x) if encoder.norm == "pre" else x


def _post_norm(x: Any, layer: Layer, encoder: Encoder, name: str, places: Places) -> Any:
    y = self_attention(x, layer, encoder.attention_bias, name, places, encoder.beta)
    y = layers.Dropout(encoder.dropout, name=f"{name}_dropout1")(places.attended(x, y, name))
    x = LayerNorm(encoder.epsilon, name=f"{name}_norm1")(_sum(x, y, encoder.alpha))
    y = places.fed(x, feed_forward(x, layer, encoder.activation, name, encoder.beta), name)
    y = layers.Dropout(encoder.dropout, name=f"{name}_dropout2")(y)
    return LayerNorm(encoder.epsilon, name=f"{name}_norm2")(_sum(x, y, encoder.alpha))


def _sum(x: Any, y: Any, alpha: float) -> Any:
    return x + y if alpha == 1.0 else alpha * x + y


def _pre_norm(x: Any, layer: Layer, encoder: Encoder, name: str, places: Places) -> Any:
    y = LayerNorm(encoder.epsilon, name=f"{name}_norm1")(x)
    y = places.attended(y, self_attention(y, layer, encoder.attention_bias, name, places), name)
    x = x + layers.Dropout(encoder.dropout, name=f"{name}_dropout1")(y)
    y = LayerNorm(encoder.epsilon, name=f"{name}_norm2")(x)
    y = places.fed(y, feed_forward(y, layer, encoder.activation, name), name)
    return x + layers.Dropout(encoder.dropout, name=f"{name}_dropout2")(y)


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
