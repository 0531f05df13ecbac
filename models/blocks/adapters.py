"""Small additions to a frozen encoder: adapters, LoRA, prompts and prefixes, and which weights are trained.

Compared on the spectrogram transformer by Cappellazzo et al. 2023, arXiv 2312.03694, who propose the adapter
with a convolution of Conformer (Gulati et al. 2020, 2005.08100).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import keras
from keras import layers, ops

from boards.errors import UserError
from models.blocks import cost
from models.blocks.attention import PLAIN, Encoder, Places, encoder_groups
from models.blocks.groups import Group, Slice


@dataclass(frozen=True)
class Adapter:
    """A narrow network beside or behind the sub-layers (Houlsby et al. 2019, 1902.00751).

    Args:
        block: bottleneck: down, GELU, up; conformer: down, GLU, depthwise convolution over the tokens,
            BatchNorm, SiLU, up.
        places: feed_forward (Pfeiffer et al. 2020, 2005.00247), or both sub-layers (Houlsby).
        order: parallel: on the input of the sub-layer, added to its output; sequential: on its output,
            instead of it.
        reduction: the model's width divided by that of the adapter.
        taps: of the convolution, in tokens.
        residual: what the adapter takes is added to what it gives.
    """

    block: Literal["bottleneck", "conformer"] = "conformer"
    places: Literal["feed_forward", "both"] = "feed_forward"
    order: Literal["parallel", "sequential"] = "parallel"
    reduction: int = 96
    taps: int = 31
    residual: bool = False


@dataclass(frozen=True)
class Lora:
    """A low-rank addition to queries and values (Hu et al. 2021, 2106.09685).

    Its rank is width / rate, its factor alpha / rate: the official `rank` is a rate of reduction.
    """

    rate: int = 64
    alpha: float = 8.0


@dataclass(frozen=True)
class Prompts:
    """Learned tokens instead of the last special one (Jia et al. 2022, 2203.12119); `deep`: in each layer."""

    count: int
    deep: bool


@dataclass(frozen=True)
class Prefix:
    """Learned keys and values, half of `tokens` each, in every layer (Li and Liang 2021, 2101.00190)."""

    tokens: int


@dataclass(frozen=True)
class Plain:
    """Nothing is added: `trained` are the biases (BitFit, 2106.10199), the head alone, or all weights."""

    trained: Literal["biases", "head", "all"]


Method: TypeAlias = Adapter | Lora | Prompts | Prefix | Plain

HEAD = (r"norm/.*", r"head_norm/.*", r"logits/.*")  # trained by every method
FEED_FORWARD_NORM, ATTENTION_NORM = r"layer\d+_norm2/.*", r"layer\d+_norm1/.*"
ADDED = r"layer\d+_(\w+_adapter_\w+|\w+_lora_\w+|prompt|\w+_prefix)/.*"


class Adapters(Places):
    """Adapters at the sub-layers of an encoder."""

    def __init__(self, method: Adapter):
        self.method = method

    def attended(self, x: Any, y: Any, name: str) -> Any:
        """Return the attention's output with that of its adapter, where it has one."""
        return self.joined(x, y, f"{name}_attention") if self.method.places == "both" else y

    def fed(self, x: Any, y: Any, name: str) -> Any:
        """Return the feed-forward output with that of its adapter."""
        return self.joined(x, y, f"{name}_ffn")

    def joined(self, x: Any, y: Any, name: str) -> Any:
        """Return what sub-layer and adapter add to the sum together."""
        taken, kept = (x, y) if self.method.order == "parallel" else (y, None)
        found = BLOCKS[self.method.block](taken, self.method, f"{name}_adapter")
        found = found + taken if self.method.residual else found
        return found if kept is None else kept + found


def bottleneck(x: Any, method: Adapter, name: str) -> Any:
    """Return the plain adapter of (batch, tokens, width), zero at the start."""
    down = layers.Dense(round(x.shape[-1] / method.reduction), activation="gelu", name=f"{name}_down")
    return layers.Dense(x.shape[-1], kernel_initializer="zeros", name=f"{name}_up")(down(x))


def conformer(x: Any, method: Adapter, name: str) -> Any:
    """Return the convolutional adapter of (batch, tokens, width).

    The official code also computes a LayerNorm of `x` and does not use it (2·width idle parameters each).
    """
    inner = round(x.shape[-1] / method.reduction)
    y = layers.Dense(2 * inner, name=f"{name}_down")(x)
    y = y[..., :inner] * ops.sigmoid(y[..., inner:])
    y = layers.DepthwiseConv1D(method.taps, padding="same", name=f"{name}_conv")(y)
    y = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_bn")(y)
    return layers.Dense(x.shape[-1], name=f"{name}_up")(y * ops.sigmoid(y))


BLOCKS: Mapping[str, Callable[[Any, Adapter, str], Any]] = {"bottleneck": bottleneck, "conformer": conformer}


class LowRank(Places):
    """LoRA on queries and values."""

    def __init__(self, method: Lora):
        self.method = method

    def projected(self, part: str, x: Any, y: Any, name: str) -> Any:
        """Return the projection with the low-rank one added; it begins at zero."""
        if part == "key":
            return y
        rank = round(x.shape[-1] / self.method.rate)
        down = layers.Dense(rank, use_bias=False, kernel_initializer="zeros", name=f"{name}_{part}_lora_down")
        up = layers.Dense(y.shape[-1], use_bias=False, name=f"{name}_{part}_lora_up")
        return y + up(down(x)) * (self.method.alpha / self.method.rate)


class Prompted(Places):
    """Prompts before the patches; the last of `special` tokens makes room for them."""

    def __init__(self, method: Prompts, special: int):
        self.method, self.special = method, special

    def before(self, x: Any, name: str) -> Any:
        """Return the tokens with the prompts of this layer."""
        if name != "layer1" and not self.method.deep:
            return x
        first = max(self.special - 1, 0)
        replaced = self.special - first if name == "layer1" else self.method.count
        return Learned(self.method.count, first, replaced, name=f"{name}_prompt")(x)


class Prefixed(Places):
    """Learned keys and values before those of the tokens."""

    def __init__(self, method: Prefix):
        if method.tokens % 2:
            raise UserError(f"a prefix of {method.tokens} tokens: keys and values share them, so it is even")
        self.method = method

    def projected(self, part: str, x: Any, y: Any, name: str) -> Any:
        """Return the keys or values with the learned ones before them."""
        return (
            y if part == "query" else Learned(self.method.tokens // 2, 0, 0, name=f"{name}_{part}_prefix")(y)
        )


class Learned(layers.Layer):
    """Puts `count` learned tokens behind the first `first` ones, instead of the `replaced` that follow."""

    def __init__(self, count: int, first: int, replaced: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count, self.first, self.replaced = count, first, replaced

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create the tokens (uniform, as in visual prompt tuning with patches of 16 × 16)."""
        limit = (6 / (3 * 16 * 16 + shape[-1])) ** 0.5
        start = keras.initializers.RandomUniform(-limit, limit)
        self.token = self.add_weight(shape=(self.count, shape[-1]), initializer=start, name="token")

    def call(self, x: Any) -> Any:
        """Return the longer or changed sequence."""
        own = ops.broadcast_to(self.token, (ops.shape(x)[0], *self.token.shape))
        return ops.concatenate([x[:, : self.first], own, x[:, self.first + self.replaced :]], axis=1)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        values = {"count": self.count, "first": self.first, "replaced": self.replaced}
        return {**super().get_config(), **values}


def places(method: Method, special: int) -> Places:
    """Return what `method` adds to an encoder of `special` tokens before the patches."""
    match method:
        case Adapter():
            return Adapters(method)
        case Lora():
            return LowRank(method)
        case Prompts():
            return Prompted(method, special)
        case Prefix():
            return Prefixed(method)
        case Plain():
            return PLAIN


def method_groups(encoder: Encoder, method: Method, path: str) -> tuple[Group, ...]:
    """Return the heads and hidden units of every layer as groups, with what `method` adds to the heads."""
    added: tuple[str, ...] = ()
    match method:
        case Lora():
            added = ("query_lora_up/kernel", "value_lora_up/kernel")
        case Prefix():
            added = ("key_prefix/token", "value_prefix/token")
    found = {group.field: group for group in encoder_groups(encoder, path)}
    for index, layer in enumerate(encoder.layers):
        heads = found[f"{path}.layers.{index}.heads"]
        own = tuple(Slice(f"layer{index + 1}_{weight}", 1, layer.head_width) for weight in added)
        found[heads.field] = replace(heads, slices=heads.slices + own)
    return tuple(found.values())


def trained(method: Method) -> tuple[str, ...]:
    """Return the patterns of the weights that `method` trains; the encoder's others are frozen."""
    match method:
        case Adapter():
            norms = (FEED_FORWARD_NORM, ATTENTION_NORM) if method.places == "both" else (FEED_FORWARD_NORM,)
            return (ADDED, *norms, *HEAD)
        case Plain(trained="all"):
            return (r".*",)
        case Plain(trained="biases"):  # of dense layers and norms: that of the patches is a convolution's
            return (r"layer\d+_\w+/(bias|beta)", r"norm/beta", r"head_norm/.*", r"logits/.*")
        case Plain(trained="head"):
            return HEAD
        case _:
            return (ADDED, *HEAD)


def freeze(net: Any, patterns: tuple[str, ...]) -> None:
    """Let only the weights of `net` be trained whose whole name (layer/variable) fits one of `patterns`."""
    for layer in net.layers:
        names = {f"{layer.name}/{weight.name}": weight for weight in layer.trainable_weights}
        kept = {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}
        if names and not kept:
            layer.trainable = False
        for name, weight in names.items():
            weight.trainable = name in kept


def task_pack(net: Any, method: Method) -> dict[str, Any]:
    """Return the weights of `net` that one task owns, trained ones and statistics; tasks share the rest."""
    patterns = trained(method)
    return {
        name: weight
        for name, weight in cost.weights(net).items()
        if any(re.fullmatch(pattern, name) for pattern in patterns)
    }
