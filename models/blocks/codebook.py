"""Codebooks: the nearest code of a vector, codes that are moving averages of vectors, random labels."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

ROUNDS = 10  # of k-means at the start


def unit(x: Any) -> Any:
    """Return vectors (…, width) divided by their length."""
    return x / ops.maximum(ops.sqrt(ops.sum(x * x, axis=-1, keepdims=True)), 1e-12)


class Codebook(layers.Layer):
    """Vectors (…, width) to their nearest codes (…, width) and the indices of those (…,), int32.

    Vectors are taken at length 1. The gradient passes through as if nothing had happened (straight-through);
    `commitment` times the mean squared distance is added as a loss. In training the codes start as k-means of
    the first batch, and then each follows the mean of the vectors nearest to it (van den Oord et al. 2017,
    arXiv 1711.00937; L2-normalised as in Yu et al. 2021, 2110.04627). count·width values that no gradient
    reaches. For residual codes, call one after another on what is left over, each with vectors of its own.
    """

    def __init__(self, count: int, decay: float = 0.99, commitment: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.count, self.decay, self.commitment = count, decay, commitment
        self.seeds = keras.random.SeedGenerator()

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create the codes, of random directions until training starts."""
        start = keras.initializers.RandomNormal(stddev=shape[-1] ** -0.5)
        self.codes = self.add_weight(
            shape=(self.count, shape[-1]), initializer=start, trainable=False, name="codes"
        )
        self.started = self.add_weight(shape=(), initializer="zeros", trainable=False, name="started")

    def call(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Return the codes in place of `x`, and their indices; in training the codes move afterwards."""
        x = unit(x)
        flat = ops.reshape(x, (-1, x.shape[-1]))
        if training:
            fresh = ops.cond(self.started > 0, lambda: self.codes + 0.0, lambda: self._clusters(flat))
            self.codes.assign(ops.stop_gradient(fresh))
            self.started.assign(1.0)
        indices = nearest(x, self.codes)
        found = ops.stop_gradient(ops.take(self.codes, indices, axis=0))
        self.add_loss(self.commitment * ops.mean(ops.square(found - x)))
        if training:
            kept = self.decay * self.codes + (1 - self.decay) * self._means(flat, self.codes)
            self.codes.assign(ops.stop_gradient(unit(kept)))
        return x + ops.stop_gradient(found - x), indices

    def compute_output_spec(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Return the symbolic results."""
        return keras.KerasTensor(x.shape, x.dtype), keras.KerasTensor(x.shape[:-1], "int32")

    def _means(self, flat: Any, codes: Any) -> Any:
        """Return the direction of the mean of the vectors nearest to each code; of none, the code itself."""
        nearby = ops.one_hot(nearest(flat, codes), self.count, dtype=flat.dtype)  # (vectors, count)
        means = unit(ops.matmul(ops.transpose(nearby), flat))
        return ops.where(ops.sum(nearby, axis=0)[:, None] > 0, means, codes)

    def _clusters(self, flat: Any) -> Any:
        total = ops.shape(flat)[0]
        order = ops.argsort(keras.random.uniform((total,), seed=self.seeds))
        codes = ops.take(flat, ops.take(order, ops.arange(self.count) % total), axis=0)
        for _ in range(ROUNDS):
            codes = self._means(flat, codes)
        return codes

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        own = {"count": self.count, "decay": self.decay, "commitment": self.commitment}
        return {**super().get_config(), **own}


def nearest(x: Any, codes: Any) -> Any:
    """Return the index (…,), int32, of the code (count, width) that each vector (…, width) is nearest to."""
    apart = ops.sum(codes * codes, axis=-1) - 2 * ops.matmul(x, ops.transpose(codes))
    return ops.cast(ops.argmin(apart, axis=-1), "int32")


class RandomProjection(layers.Layer):
    """Labels that nobody learned: (…, width) to the nearest of `count` random codes (…,), int32.

    A random projection to `values` and random directions, neither ever trained (BEST-RQ, Chiu et al. 2022,
    arXiv 2202.01855).
    """

    def __init__(self, count: int, values: int = 16, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self.count, self.values = count, values

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Draw the projection and the codes."""
        self.projection = self.add_weight(
            shape=(shape[-1], self.values), initializer="glorot_normal", trainable=False, name="projection"
        )
        start = keras.initializers.RandomNormal()
        self.codes = self.add_weight(
            shape=(self.count, self.values), initializer=start, trainable=False, name="codes"
        )

    def call(self, x: Any) -> Any:
        """Return the labels."""
        return nearest(unit(ops.matmul(x, self.projection)), unit(self.codes))

    def compute_output_spec(self, x: Any) -> Any:
        """Return the symbolic result."""
        return keras.KerasTensor(x.shape[:-1], "int32")

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "count": self.count, "values": self.values}
