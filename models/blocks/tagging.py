"""Training for tags: binary cross-entropy with SpecAugment and mixup inside the net, as PANNs are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops


@dataclass(frozen=True)
class Stripes:
    """SpecAugment (Park et al. 2019, 1904.08779): `count` stripes of fewer than `width` rows are silenced."""

    width: int
    count: int


NO_STRIPES = Stripes(0, 0)


def hidden(x: Any, axis: int, stripes: Stripes, seed: Any) -> Any:
    """Return (batch, frames, bands) with stripes along `axis` set to 0, others in each example."""
    total = x.shape[axis]
    drawn = keras.random.uniform((ops.shape(x)[0], stripes.count, 2), seed=seed)
    length = ops.floor(drawn[..., :1] * min(stripes.width, total))
    begin = ops.floor(drawn[..., 1:] * (total - length))
    place = ops.arange(total, dtype=x.dtype)
    covered = ops.any(ops.logical_and(place >= begin, place < begin + length), axis=1)
    return ops.where(ops.expand_dims(covered, 3 - axis), 0.0, x)


def mixed(x: Any, share: Any) -> Any:
    """Return every example mixed with the one as far from the other end of the batch: its `share` and 1 − it.

    Mixup (Zhang et al. 2018, 1710.09412). The official code mixes twice as many examples to half as many.
    """
    share = ops.reshape(share, (-1, *(1,) * (len(x.shape) - 1)))
    return x * share + ops.flip(x, axis=0) * (1 - share)


class Tagging(keras.Model):
    """A net of the family in its training: masks and mixup at `places`, then binary cross-entropy.

    Fitted on features and multi-hot targets (batch, classes) in 0…1. Gives logits, and each example's share.

    Args:
        net: the net, whose weights are trained.
        places: the layers behind which examples are mixed; log-mel features there are masked too.
        time, bands: the masks of those features.
        alpha: shares are drawn from Beta(alpha, alpha).
    """

    def __init__(
        self,
        net: Any,
        places: Sequence[str],
        time: Stripes = NO_STRIPES,
        bands: Stripes = NO_STRIPES,
        alpha: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.targets = net.output_shape[1:]
        between = [net.get_layer(place).output for place in places]
        self.net, self.time, self.bands, self.alpha = net, time, bands, alpha
        self.lower = keras.Model(net.input, between)
        self.upper = keras.Model(between, net.output)
        self.masked = [place == "bn0" for place in places]
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        """Return logits (batch, classes) and shares (batch,)."""
        if not training:
            return self.net(x, training=False), ops.ones_like(x[:, 0, 0])
        share = keras.random.beta((ops.shape(x)[0],), self.alpha, self.alpha, seed=self.seed)
        lower = self.lower(x, training=True)
        parts = [
            mixed(self._masked(part) if mask else part, share)
            for part, mask in zip(keras.tree.flatten(lower), self.masked, strict=True)
        ]
        return self.upper(parts, training=True), share

    def _masked(self, x: Any) -> Any:
        return hidden(hidden(x, 1, self.time, self.seed), 2, self.bands, self.seed)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the mean binary cross-entropy of the mixed targets."""
        logits, share = y_pred
        return ops.mean(ops.binary_crossentropy(mixed(ops.cast(y, logits.dtype), share), logits, True))
