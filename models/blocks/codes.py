"""Soft assignment of vectors to trained centroids: what a histogram of codes is the mean of."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


class Centroids(layers.Layer):
    """Vectors (batch, time, frequency, width) to (2·x·c − |c|²) / √width for each of `count` centroids c.

    That is |x|² minus the squared distance, over √width: the nearest centroid has the largest value, and the
    softmax of the values is that of minus the squared distances. A 1×1 convolution with bias in all, which
    int8 sums up in int32. count·width parameters.
    """

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count = count

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create the centroids, as spread as vectors of unit variance are."""
        self.codes = self.add_weight(
            shape=(self.count, shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
            name="codes",
        )

    def call(self, x: Any) -> Any:
        """Return the values (batch, time, frequency, count)."""
        width = x.shape[-1]
        scaled = self.codes * width**-0.25
        kernel = ops.reshape(ops.transpose(2 * width**-0.25 * scaled), (1, 1, width, self.count))
        return ops.conv(x, kernel) - ops.sum(scaled * scaled, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "count": self.count}
