"""Patches of a spectrogram as tokens: their projection, special tokens, and tables of positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from boards.errors import UserError

Grid = tuple[int, int]  # rows (frequency) and columns (time)


@dataclass(frozen=True)
class Patches:
    """How a spectrogram is cut: patches of (bands, frames), and the step from one to the next."""

    size: tuple[int, int]
    stride: tuple[int, int]

    def grid(self, frames: int, bands: int) -> Grid:
        """Return the rows and columns of patches in (frames, bands); what does not fill a patch is left out.

        Raises:
            UserError: it is shorter or lower than one patch.
        """
        high, long = self.size
        if bands < high or frames < long:
            raise UserError(
                f"{frames} frames of {bands} bands hold no patch of {long} frames and {high} bands: "
                f"take a longer clip"
            )
        return (bands - high) // self.stride[0] + 1, (frames - long) // self.stride[1] + 1


def tokens(features: Any, patches: Patches, width: int, name: str = "patch") -> Any:
    """Return (batch, rows·columns, width) of (batch, frames, bands): each patch projected, row after row.

    Dosovitskiy et al. 2020, arXiv 2010.11929; the order of a time-frequency image is AST's (2104.01778).
    """
    frames, bands = features.shape[1:]
    rows, columns = patches.grid(frames, bands)
    image = layers.Reshape((frames, bands, 1), name=f"{name}_image")(features)
    step = (patches.stride[1], patches.stride[0])
    x = layers.Conv2D(width, (patches.size[1], patches.size[0]), step, name=name)(image)
    return layers.Reshape((rows * columns, width), name=f"{name}_rows")(ops.transpose(x, (0, 2, 1, 3)))


def pieces(features: Any, patches: Patches) -> Any:
    """Return the values of each patch in the order of `tokens`: (batch, rows·columns, bands·frames of one).

    Patches must not overlap. The values of a patch are band after band, as PyTorch's Unfold has them.
    """
    frames, bands = features.shape[1:]
    (high, long), (rows, columns) = patches.size, patches.grid(frames, bands)
    if patches.stride != patches.size:
        raise UserError(f"patches of {patches.size} in steps of {patches.stride}: here they must not overlap")
    x = features[:, : columns * long, : rows * high]
    x = ops.reshape(x, (-1, columns, long, rows, high))
    return ops.reshape(ops.transpose(x, (0, 3, 1, 4, 2)), (-1, rows * columns, high * long))


class Special(layers.Layer):
    """Puts learned tokens before a sequence: (batch, n, width) to (batch, count + n, width); count·width."""

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.count = count

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create the tokens (normal, σ 0.02)."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.token = self.add_weight(shape=(self.count, shape[-1]), initializer=start, name="token")

    def call(self, x: Any) -> Any:
        """Return `x` behind the tokens."""
        first = ops.broadcast_to(self.token, (ops.shape(x)[0], *self.token.shape))
        return ops.concatenate([first, x], axis=1)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "count": self.count}


def resampled(table: NDArray[np.floating], special: int, was: Grid, now: Grid) -> NDArray[np.floating]:
    """Return a table of positions (special + rows·columns, width) for another grid of patches, as SSAST does.

    Fewer rows or columns: those from the middle. More: bilinear, pixel centres at halves. A table that is
    not of `was` stays as it is.
    """
    first, rest = table[:special], table[special:]
    if was == now or len(rest) != was[0] * was[1]:
        return table
    image = rest.reshape(*was, -1)
    image = np.einsum("rf,fth->rth", _resampling(was[0], now[0]), image)
    image = np.einsum("ct,rth->rch", _resampling(was[1], now[1]), image)
    return np.concatenate([first, image.reshape(now[0] * now[1], -1)]).astype(table.dtype)


def _resampling(was: int, now: int) -> NDArray[np.float64]:
    """Return the matrix (now, was) that cuts or interpolates an axis."""
    matrix = np.zeros((now, was))
    if now < was:
        matrix[np.arange(now), was // 2 - now // 2 + np.arange(now)] = 1
        return matrix
    place = np.clip((np.arange(now) + 0.5) * was / now - 0.5, 0, was - 1)
    low = np.minimum(place.astype(int), max(was - 2, 0))
    high = np.minimum(low + 1, was - 1)
    np.add.at(matrix, (np.arange(now), low), 1 - (place - low))
    np.add.at(matrix, (np.arange(now), high), place - low)
    return matrix


def split_table(parts: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Return the rows of several official token tables (1, n, width) one under the other, (Σn, width)."""
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])
