"""Post-norm transformer decoder: causal self-attention, cross-attention, feed-forward (Vaswani et al. 2017).

The layers are made once and used in two forms with the same weights: all tokens at once, for training and
for beam search, and token by token with the keys and values of the tokens before kept, for a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, TypeAlias

import keras
import numpy as np
from keras import initializers, layers, ops
from numpy.typing import NDArray

from models.blocks.normalise import ACTIVATIONS, LayerNorm

Pair: TypeAlias = tuple[Any, Any]  # keys (batch, heads, rows, head width) and values of the same shape
HIDDEN = -1e9  # score of a token that lies ahead


@dataclass(frozen=True)
class Decoder:
    """A decoder: model width, heads, hidden units, layers, and the most tokens that it reads."""

    width: int
    heads: int
    ffn: int
    layers: int
    length: int
    tied: bool = False  # the classifier is the token table, with a bias of its own
    activation: Literal["relu", "gelu", "sigmoid_gelu"] = "gelu"
    dropout: float = 0.0
    epsilon: float = 1e-5  # of every LayerNorm


def sinusoids(length: int, width: int) -> NDArray[np.float32]:
    """Return fixed positions (length, width): sine in the even columns, cosine in the odd ones."""
    column = np.arange(width)
    angle = np.arange(length)[:, None] / 10_000 ** (2 * (column // 2) / width)
    return np.where(column % 2, np.cos(angle), np.sin(angle)).astype(np.float32)


class Tokens(layers.Layer):
    """A row of `width` values for each of `vocabulary` tokens.

    int32 (…), or one-hot float (…, vocabulary), to (…, width).

    `reverse` gives the scores (…, vocabulary) of (…, width) by the same table plus a bias, where `tied`.
    """

    def __init__(self, vocabulary: int, width: int, tied: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary, self.width, self.tied = vocabulary, width, tied

    def build(self, *_: Any) -> None:
        """Create the table, whose rows have a norm of about one."""
        start = initializers.RandomNormal(stddev=1 / sqrt(self.width))
        self.table = self.add_weight(shape=(self.vocabulary, self.width), initializer=start, name="table")
        if self.tied:
            self.bias = self.add_weight(shape=(self.vocabulary,), initializer="zeros", name="bias")

    def call(self, x: Any, reverse: bool = False) -> Any:
        """Return rows for tokens, or scores for vectors."""
        if reverse:
            return ops.matmul(x, ops.transpose(self.table)) + self.bias
        if "int" in keras.backend.standardize_dtype(x.dtype):
            return ops.take(self.table, x, axis=0)
        return ops.matmul(x, self.table)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        own = {"vocabulary": self.vocabulary, "width": self.width, "tied": self.tied}
        return {**super().get_config(), **own}


class Attention:
    """Multi-head attention of one tensor to the rows of another: softmax(QKᵀ/√d)V, then the output layer.

    1/√d is in the query, so that int8 scores keep their range.
    """

    def __init__(self, width: int, heads: int, name: str):
        self.width, self.heads = width, heads
        self.query, self.key, self.value, self.output = (
            layers.Dense(width, name=f"{name}_{part}") for part in ("query", "key", "value", "output")
        )

    def split(self, x: Any) -> Any:
        """Return (batch, heads, rows, head width) of (batch, rows, width)."""
        x = layers.Reshape((x.shape[1], self.heads, self.width // self.heads))(x)
        return ops.transpose(x, (0, 2, 1, 3))

    def pair(self, rows: Any) -> Pair:
        """Return the keys and values of (batch, rows, width)."""
        return self.split(self.key(rows)), self.split(self.value(rows))

    def __call__(self, x: Any, pair: Pair, mask: NDArray[np.float32] | None = None) -> Any:
        """Return (batch, rows, width) of the same; `mask` (rows, rows of the pair) is added to the scores."""
        if x.shape[1] == pair[0].shape[2] == 1:  # nothing to choose from
            return self.joined(pair[1])
        query = self.split(self.query(x)) * sqrt(self.heads / self.width)
        scores = ops.matmul(query, ops.transpose(pair[0], (0, 1, 3, 2)))
        if mask is not None:
            scores = scores + mask
        return self.joined(ops.matmul(ops.softmax(scores, axis=-1), pair[1]))

    def joined(self, mixed: Any) -> Any:
        """Return (batch, rows, width) of what the heads found (batch, heads, rows, head width)."""
        joined = layers.Reshape((mixed.shape[2], self.width))(ops.transpose(mixed, (0, 2, 1, 3)))
        return self.output(joined)


class Layer:
    """One decoder layer: LayerNorm behind each of the three sums."""

    def __init__(self, decoder: Decoder, name: str):
        self.own = Attention(decoder.width, decoder.heads, f"{name}_self")
        self.cross = Attention(decoder.width, decoder.heads, f"{name}_cross")
        self.up = layers.Dense(decoder.ffn, name=f"{name}_up")
        self.down = layers.Dense(decoder.width, name=f"{name}_down")
        self.norms = [LayerNorm(decoder.epsilon, name=f"{name}_norm{n}") for n in (1, 2, 3)]
        self.drops = [layers.Dropout(decoder.dropout, name=f"{name}_dropout{n}") for n in (1, 2, 3)]
        self.activation = ACTIVATIONS[decoder.activation]

    def __call__(self, x: Any, before: Pair, memory: Pair, mask: NDArray[np.float32] | None = None) -> Any:
        """Return (batch, rows, width) of the same, its own keys and values, and those of the sound."""
        x = self.norms[0](x + self.drops[0](self.own(x, before, mask)))
        x = self.norms[1](x + self.drops[1](self.cross(x, memory)))
        return self.norms[2](x + self.drops[2](self.down(self.activation(self.up(x)))))


class Speaker:
    """The layers of a decoder with a vocabulary of `size` tokens, ready to be applied."""

    def __init__(self, decoder: Decoder, size: int):
        self.decoder = decoder
        self.tokens = Tokens(size, decoder.width, decoder.tied, name="vocabulary")
        self.layers = [Layer(decoder, f"decoder{n}") for n in range(1, decoder.layers + 1)]
        self.drop = layers.Dropout(decoder.dropout, name="tokens_dropout")
        self.classifier = None if decoder.tied else layers.Dense(size, name="classifier")
        self.positions = sinusoids(decoder.length, decoder.width)

    def embedded(self, tokens: Any) -> Any:
        """Return the rows (batch, length, width) of tokens (batch, length), times √width."""
        return self.tokens(tokens) * sqrt(self.decoder.width)

    def scores(self, x: Any) -> Any:
        """Return the logits (…, vocabulary) of (…, width)."""
        return self.tokens(x, reverse=True) if self.classifier is None else self.classifier(x)

    def all(self, rows: Any, sound: Any) -> Any:
        """Return the logits (batch, length, vocabulary) behind every token, given the embedded `rows`.

        sound: (batch, frames, width), what the cross-attention looks at.
        """
        length = rows.shape[1]
        mask = np.triu(np.full((length, length), HIDDEN, np.float32), 1)
        x = self.drop(rows + self.positions[:length])
        for layer in self.layers:
            x = layer(x, layer.own.pair(x), layer.cross.pair(sound), mask)
        return self.scores(x)

    def heard(self, sound: Any) -> list[Pair]:
        """Return what `next` needs of the sound: keys and values for each layer."""
        return [layer.cross.pair(sound) for layer in self.layers]

    def next(
        self, row: Any, place: int, before: list[Pair | None], heard: list[Pair]
    ) -> tuple[Any, list[Pair]]:
        """Return the logits (batch, 1, vocabulary) behind one embedded token and the keys and values so far.

        row: (batch, 1, width), the token at `place`; before: what this returned for the token before it.
        """
        x, now = row + self.positions[place : place + 1], []
        for layer, old, memory in zip(self.layers, before, heard, strict=True):
            key, value = layer.own.pair(x)
            if old is not None:
                key, value = ops.concatenate([old[0], key], axis=2), ops.concatenate([old[1], value], axis=2)
            now.append((key, value))
            x = layer(x, (key, value), memory)
        return self.scores(x), now
