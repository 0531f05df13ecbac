"""Gated relative position bias: how far a key is adds to its score, as much as the query lets it.

WavLM (Chen et al. 2021, arXiv 2110.13900) and BEATs (2212.09058); buckets as in T5 (1910.10683). Official
code: microsoft/unilm, MIT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from models.blocks.attention import Places

GATES = 2, 4  # gates of a query, and the linear units that each is the sum of


@dataclass(frozen=True)
class Relative:
    """`buckets` of distances (0: no bias), of which those beyond `distance` tokens share the last."""

    buckets: int = 0
    distance: int = 0


class RelativeBias(layers.Layer):
    """The bias of every head for every pair of tokens: (batch, n, …) to (heads, n, n); buckets·heads.

    Only the number of tokens is read.
    """

    def __init__(self, buckets: int, distance: int, heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.buckets, self.distance, self.heads = buckets, distance, heads

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the table (BERT's normal initialiser, σ 0.02)."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.table = self.add_weight(shape=(self.buckets, self.heads), initializer=start, name="table")

    def call(self, x: Any) -> Any:
        """Return the biases."""
        place = np.arange(x.shape[1])
        rows = bucket(place[None, :] - place[:, None], self.buckets, self.distance)
        return ops.transpose(ops.take(self.table, rows, axis=0), (2, 0, 1))

    def compute_output_spec(self, x: Any) -> Any:
        """Return the symbolic result."""
        return keras.KerasTensor((self.heads, x.shape[1], x.shape[1]), x.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        own = {"buckets": self.buckets, "distance": self.distance, "heads": self.heads}
        return {**super().get_config(), **own}


def bucket(distances: NDArray[np.integer[Any]], buckets: int, distance: int) -> NDArray[np.int32]:
    """Return the bucket of each distance (key - query): half of them for keys behind, half for keys ahead.

    A quarter are exact, the others grow with the logarithm up to `distance`; in single precision, as the
    official code has it.
    """
    half, exact = buckets // 2, buckets // 4
    far = np.abs(distances).astype(np.float32)
    scale = np.float32(np.log(distance / exact))
    grown = np.log(np.maximum(far, 1) / np.float32(exact)) / scale * np.float32(half - exact)
    large = np.minimum(exact + grown.astype(np.int64), half - 1)
    found = np.where(far < exact, far.astype(np.int64), large) + half * (distances > 0)
    return found.astype(np.int32)


class GatedBias(layers.Layer):
    """A bias as the queries let it through: (batch, n, heads·width), (heads, n, n) to (batch, heads, n, n).

    With the sigmoids a and b of four linear units each, the gate is a·(b·scale - 1) + 2. 8·width + 8 + heads
    parameters, the linear units being the same for all heads.
    """

    def __init__(self, heads: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, query_shape: tuple[int | None, ...], bias_shape: tuple[int | None, ...]) -> None:
        """Create the linear units (normal, σ 0.02) and a scale of 1 for each head."""
        width, units = int(query_shape[-1] or 0) // self.heads, GATES[0] * GATES[1]
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.kernel = self.add_weight(shape=(width, units), initializer=start, name="kernel")
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")
        self.scale = self.add_weight(shape=(self.heads,), initializer="ones", name="scale")

    def call(self, query: Any, bias: Any) -> Any:
        """Return the bias times the gates."""
        tokens, width = query.shape[1], query.shape[2] // self.heads
        heads = ops.transpose(ops.reshape(query, (-1, tokens, self.heads, width)), (0, 2, 1, 3))
        kernel = ops.sum(ops.reshape(self.kernel, (width, *GATES)), axis=-1)
        gates = ops.sigmoid(ops.matmul(heads, kernel) + ops.sum(ops.reshape(self.bias, GATES), axis=-1))
        gate = gates[..., :1] * (gates[..., 1:] * self.scale[:, None, None] - 1.0) + 2.0
        return gate * bias

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "heads": self.heads}


class GatedRelative(Places):
    """Adds the gated bias to the scores of every layer; one table for all, gates for each."""

    def __init__(self, relative: Relative, name: str = "relative"):
        self.relative, self.name = relative, name
        self._queries: dict[str, Any] = {}
        self._bias: Any = None

    def projected(self, part: str, x: Any, y: Any, name: str) -> Any:
        """Keep the query, which the gates look at."""
        if part == "query":
            self._queries[name] = y
        return y

    def scored(self, x: Any, scores: Any, name: str) -> Any:
        """Return the scores with the bias."""
        heads = scores.shape[1]
        if self._bias is None:
            table = RelativeBias(self.relative.buckets, self.relative.distance, heads, name=self.name)
            self._bias = table(x)
        return scores + GatedBias(heads, name=f"{name}_gate")(self._queries.pop(name), self._bias)
