"""Normalisation: per-band statistics of the input, and LayerNorm of operations that int8 can carry."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from models.frontend import FrontEnd
from models.fronts import Front


def bands(x: Any, affine: bool) -> Any:
    """Return (batch, frames, bands) with zero mean and unit variance in each band over the training data.

    With `affine` a learned scale and shift follow (bn0 of PANNs: two trainable values a band); without,
    the layer has statistics only, which are not parameters. `models.train.adapt` sets them.
    """
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, center=affine, scale=affine, name="bn0")(x)


def incoming(front: Front) -> tuple[Any, Any]:
    """Return the input `features` of a net, and what its first layer takes: of log-mel, each band normalised.

    What an official front end gives is normalised already.
    """
    features = keras.Input((front.frames, front.features), name="features")
    return features, bands(features, affine=False) if isinstance(front, FrontEnd) else features


class LayerNorm(layers.Layer):
    """LayerNorm over the last axis, written as d·rsqrt(mean(d·d)+ε)·γ+β: every operation exists in int8.

    Ba, Kiros and Hinton 2016, arXiv 1607.06450. Shape in = shape out; 2·width parameters.
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create γ = 1 and β = 0."""
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(shape[-1],), initializer="zeros", name="beta")

    def call(self, x: Any) -> Any:
        """Return the normalised `x`."""
        d = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(d * d, axis=-1, keepdims=True)
        return d * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "epsilon": self.epsilon}


def sigmoid_gelu(x: Any) -> Any:
    """Return x·σ(1.702x): GELU to 0.02, in operations that int8 has (Hendrycks and Gimpel, 1606.08415)."""
    return x * ops.sigmoid(1.702 * x)


ACTIVATIONS = {"relu": keras.activations.relu, "gelu": keras.activations.gelu, "sigmoid_gelu": sigmoid_gelu}
