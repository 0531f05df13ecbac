"""TERA's three alterations of frames: stretches of time, a block of bands, and noise (arXiv 2007.06028)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import ops


@dataclass(frozen=True)
class Alteration:
    """How much is altered; the defaults are the official ones."""

    time: float = 0.15  # share of the frames in altered stretches, before overlaps
    stretch: int = 7  # frames
    replaced: float = 0.1  # of the clips have other frames there, as many have them untouched, the rest zeros
    bands: float = 0.2  # of all bands is the widest block that is zeroed
    noisy: float = 0.15  # of the batches get noise
    noise: float = 0.2  # standard deviation


class Alter(keras.layers.Layer):
    """(batch, frames, bands) to the altered frames and a mask of the cells to be reconstructed (float 0, 1).

    The stretches' starts are drawn without repetition; where stretches overlap the later one holds.
    """

    def __init__(self, how: Alteration, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.how = how
        self.draws = keras.random.SeedGenerator(seed)

    def call(self, x: Any) -> tuple[Any, Any]:
        """Return altered frames and mask, both of the shape of `x`."""
        count, frames, bands = ops.shape(x)[0], x.shape[1], x.shape[2]
        time, source, silent = self._time(count, frames)
        altered = ops.take_along_axis(x, source[..., None], axis=1) * (1 - silent)[..., None]
        block = self._block(count, bands)
        altered = altered * (1 - block)[:, None]
        noisy = ops.cast(self._uniform((1, 1, 1)) < self.how.noisy, x.dtype)
        altered = altered + noisy * keras.random.normal(ops.shape(x), stddev=self.how.noise, seed=self.draws)
        return altered, ops.maximum(time[..., None], block[:, None])

    def _uniform(self, shape: tuple[Any, ...]) -> Any:
        return keras.random.uniform(shape, seed=self.draws)

    def _time(self, count: Any, frames: int) -> tuple[Any, Any, Any]:
        """Return, each (batch, frames): is a frame altered, whose content has it, and is it zero."""
        stretch = min(self.how.stretch, frames - 1)
        places = frames - stretch
        several = max(1, min(places, round(frames * self.how.time / stretch)))
        starts = ops.top_k(self._uniform((count, places)), several)[1]
        others = ops.top_k(self._uniform((count, places)), several)[1]
        since = ops.arange(frames)[None, None] - starts[..., None]
        inside = ops.logical_and(since >= 0, since < stretch)
        latest = ops.argmax(ops.where(inside, ops.arange(1, several + 1)[None, :, None], 0), axis=1)
        altered = ops.any(inside, axis=1)
        start, other = (ops.take_along_axis(found, latest, axis=1) for found in (starts, others))
        dice = self._uniform((count, 1))
        replace = ops.logical_and(dice < self.how.replaced, altered)
        own = ops.broadcast_to(ops.arange(frames)[None], ops.shape(altered))
        source = ops.where(replace, other + own - start, own)
        silent = ops.logical_and(dice >= 2 * self.how.replaced, altered)
        return ops.cast(altered, "float32"), source, ops.cast(silent, "float32")

    def _block(self, count: Any, bands: int) -> Any:
        """Return (batch, bands): 1 in the block of bands that is zeroed, which may have no width."""
        widest = int(bands * self.how.bands)
        width = ops.floor(self._uniform((count, 1)) * (widest + 1))
        first = ops.floor(self._uniform((count, 1)) * (bands - width))
        place = ops.arange(bands, dtype="float32")[None]
        return ops.cast(ops.logical_and(place >= first, place < first + width), "float32")

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "how": asdict(self.how)}
