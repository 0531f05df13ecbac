"""wav2vec 2.0's and HuBERT's body: a convolutional stem on the waveform, convolved positions, a transformer.

Baevski et al. 2020, arXiv 2006.11477; Hsu et al. 2021, arXiv 2106.07447. Key layout of the official weights:
that of transformers' HubertModel and Wav2Vec2Model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import layers, ops

from models import official
from models.blocks.attention import Encoder, Places, encoder_groups, transformer
from models.blocks.groups import Group, Slice
from models.blocks.normalise import LayerNorm
from models.official import Rule


@dataclass(frozen=True)
class Conv:
    """One convolution over time: channels, taps, stride."""

    width: int
    taps: int
    stride: int


@dataclass(frozen=True)
class Stem:
    """Convolutions without padding, each with a GELU behind it.

    `norm` first: each channel of the first one normalised over the clip (a GroupNorm with a group a
    channel), no biases. each: LayerNorm over the channels behind every one, and biases.
    """

    convs: tuple[Conv, ...]
    norm: Literal["first", "each"]


CONVS = (Conv(512, 10, 5), *(Conv(512, 3, 2),) * 4, *(Conv(512, 2, 2),) * 2)  # 320 samples a frame


@dataclass(frozen=True)
class Waves:
    """Stem, positions (a grouped convolution over `taps` frames), and the transformer."""

    stem: Stem
    taps: int
    groups: int
    encoder: Encoder


class ClipNorm(layers.Layer):
    """Each channel of (batch, time, channels) at zero mean and unit variance over time, then γ and β."""

    def __init__(self, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create γ = 1 and β = 0, one a channel."""
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros", name="beta")

    def call(self, x: Any) -> Any:
        """Return the normalised `x`."""
        d = x - ops.mean(x, axis=1, keepdims=True)
        return d * ops.rsqrt(ops.mean(d * d, axis=1, keepdims=True) + self.epsilon) * self.gamma + self.beta

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "epsilon": self.epsilon}


class ConvolvedPositions(layers.Layer):
    """Adds gelu(grouped convolution over time) to (batch, frames, width): where a frame is, by what is near.

    The kernel is weight-normed, g·v/‖v‖ for each tap. taps + taps·width²/groups + width parameters.
    """

    def __init__(self, taps: int, groups: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.taps, self.groups = taps, groups

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create magnitude g (taps,), direction v (taps, width/groups, width) and bias."""
        width = shape[-1]
        own = (self.taps, width // self.groups, width)
        spread = (4 / (self.taps * width)) ** 0.5
        start = keras.initializers.RandomNormal(stddev=spread)
        size = keras.initializers.Constant(spread * (own[1] * own[2]) ** 0.5)
        self.magnitude = self.add_weight(shape=(self.taps,), initializer=size, name="magnitude")
        self.direction = self.add_weight(shape=own, initializer=start, name="direction")
        self.bias = self.add_weight(shape=(width,), initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        """Return `x` with the positions added; an even number of taps sees one frame more of the past."""
        length = ops.sqrt(ops.sum(ops.square(self.direction), axis=(1, 2), keepdims=True))
        kernels = ops.split(self.direction * self.magnitude[:, None, None] / length, self.groups, axis=2)
        padded = ops.pad(x, ((0, 0), (self.taps // 2, (self.taps - 1) // 2), (0, 0)))
        parts = ops.split(padded, self.groups, axis=2)
        found = [ops.conv(part, kernel) for part, kernel in zip(parts, kernels, strict=True)]
        return x + ops.gelu(ops.concatenate(found, axis=2) + self.bias, approximate=False)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "taps": self.taps, "groups": self.groups}


class _Kept(Places):
    """Keeps what goes into each layer."""

    def __init__(self) -> None:
        self.states: list[Any] = []

    def before(self, x: Any, name: str) -> Any:
        self.states.append(x)
        return x


def stem(x: Any, how: Stem) -> Any:
    """Return (batch, frames, channels) of a waveform (batch, samples, 1)."""
    for number, conv in enumerate(how.convs, 1):
        name = f"stem{number}"
        biased = how.norm == "each"
        x = layers.Conv1D(
            conv.width, conv.taps, conv.stride, use_bias=biased, kernel_initializer="he_normal", name=name
        )(x)
        if biased:
            x = LayerNorm(1e-5, name=f"{name}_norm")(x)
        elif number == 1:
            x = ClipNorm(name=f"{name}_norm")(x)
        x = ops.gelu(x, approximate=False)
    return x


def project(x: Any, encoder: Encoder) -> Any:
    """Return the stem's frames in the width of the transformer."""
    x = LayerNorm(encoder.epsilon, name="project_norm")(x)
    return layers.Dropout(encoder.dropout, name="project_dropout")(
        layers.Dense(encoder.width, name="project")(x)
    )


def hidden_states(x: Any, waves: Waves) -> list[Any]:
    """Return the states of projected frames (batch, frames, width): the transformer's input, and each layer's
    output; pre-norm, the last one is normalised.
    """
    encoder = waves.encoder
    x = ConvolvedPositions(waves.taps, waves.groups, name="positions")(x)
    if encoder.norm == "post":
        x = LayerNorm(encoder.epsilon, name="positions_norm")(x)
    x = layers.Dropout(encoder.dropout, name="positions_dropout")(x)
    return states(x, encoder)


def states(x: Any, encoder: Encoder) -> list[Any]:
    """Return what goes into each layer of the transformer, and what it gives back."""
    kept = _Kept()
    last = transformer(x, encoder, kept)
    return [*kept.states, last]


def frames(samples: int, how: Stem) -> int:
    """Return the frames that the stem makes of a waveform."""
    for conv in how.convs:
        samples = (samples - conv.taps) // conv.stride + 1
    return samples


def rules(waves: Waves, prefix: str = "") -> tuple[Rule, ...]:
    """Return where an official file has the weights of `stem`, `project` and `hidden_states`."""
    conv = f"{prefix}feature_extractor.conv_layers.{{1-}}"
    layer = f"{prefix}encoder.layers.{{1-}}"
    position = f"{prefix}encoder.pos_conv_embed.conv"
    norm = {"post": "positions_norm", "pre": "norm"}[waves.encoder.norm]
    return (
        Rule(r"stem(\d+)/kernel", f"{conv}.conv.weight", official.conv1d),
        Rule(r"stem(\d+)/bias", f"{conv}.conv.bias"),
        *official.norm(r"stem(\d+)_norm", f"{conv}.layer_norm"),
        *official.norm("project_norm", f"{prefix}feature_projection.layer_norm"),
        *official.dense("project", f"{prefix}feature_projection.projection"),
        Rule("positions/magnitude", f"{position}.weight_g", lambda g: g.reshape(-1)),
        Rule("positions/direction", f"{position}.weight_v", official.conv1d),
        Rule("positions/bias", f"{position}.bias"),
        *official.norm(norm, f"{prefix}encoder.layer_norm"),
        *official.norm(r"layer(\d+)_norm1", f"{layer}.layer_norm"),
        *official.norm(r"layer(\d+)_norm2", f"{layer}.final_layer_norm"),
        *official.dense(r"layer(\d+)_query", f"{layer}.attention.q_proj"),
        *official.dense(r"layer(\d+)_key", f"{layer}.attention.k_proj"),
        *official.dense(r"layer(\d+)_value", f"{layer}.attention.v_proj"),
        *official.dense(r"layer(\d+)_output", f"{layer}.attention.out_proj"),
        *official.dense(r"layer(\d+)_up", f"{layer}.feed_forward.intermediate_dense"),
        *official.dense(r"layer(\d+)_down", f"{layer}.feed_forward.output_dense"),
    )


# PyTorch writes weight norm in two ways: the newer keys and what they were before.
RENAMED = (
    (r"(.*)\.parametrizations\.weight\.original0", r"\1.weight_g"),
    (r"(.*)\.parametrizations\.weight\.original1", r"\1.weight_v"),
)


def groups(waves: Waves, path: str) -> tuple[Group, ...]:
    """Return what pruning may remove: channels of the stem, heads, hidden units."""
    return (*_stem_groups(waves.stem, f"{path}.stem"), *encoder_groups(waves.encoder, f"{path}.encoder"))


def _stem_groups(how: Stem, path: str) -> tuple[Group, ...]:
    found, last = [], len(how.convs)
    for number, conv in enumerate(how.convs, 1):
        name = f"stem{number}"
        kernel = Slice(f"{name}/kernel", 2)
        own = [kernel]
        if how.norm == "each":
            own.append(Slice(f"{name}/bias", 0))
        if how.norm == "each" or number == 1:
            own += [Slice(f"{name}_norm/{value}", 0) for value in ("gamma", "beta")]
        if number < last:
            own.append(Slice(f"stem{number + 1}/kernel", 1))
        else:
            own += [Slice(f"project_norm/{value}", 0) for value in ("gamma", "beta")]
            own.append(Slice("project/kernel", 0))
        field = f"{path}.convs.{number - 1}.width"
        found.append(
            Group(field, conv.width, tuple(own), (kernel,), "taylor", min(8, conv.width), multiple=4)
        )
    return tuple(found)
