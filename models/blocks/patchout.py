"""Patches left out: PaSST's patchout with positions of time and frequency apart; masked and dropped tokens.

Koutini, Schlüter, Eghbal-zadeh and Widmer 2022, arXiv 2110.05069 (code: Apache-2.0).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from boards.errors import UserError
from models.blocks.patches import Grid, Special


@dataclass(frozen=True)
class Patchout:
    """How much of the grid is left out: whole columns (structured, time), whole rows (structured,
    frequency), and after that single patches (unstructured).
    """

    columns: int = 0
    rows: int = 0
    patches: int = 0

    def left(self, grid: Grid) -> int:
        """Return the patches that stay of `grid` (rows, columns).

        Raises:
            UserError: none would stay.
        """
        rows, columns = grid[0] - self.rows, grid[1] - self.columns
        left = rows * columns - self.patches
        if min(rows, columns, left) < 1:
            raise UserError(
                f"patchout of {self.columns} columns, {self.rows} rows and {self.patches} patches leaves "
                f"nothing of {grid[0]} rows and {grid[1]} columns: lower it, or take a longer clip"
            )
        return left

    def among(self, columns: int, learned: int) -> Patchout:
        """Return what is left out of a clip of `columns`, where this is meant for one of `learned`."""
        share = min(1.0, columns / learned)
        return Patchout(round(share * self.columns), self.rows, round(share * self.patches))


class DisentangledPositions(layers.Layer):
    """Adds to each patch a learned vector of its row and one of its column, row after row.

    (batch, rows·columns, width) in and out; (rows + learned)·width parameters. Where a clip has fewer columns
    than were learned it takes the first; in training any that follow each other, as the official code does.
    """

    def __init__(self, grid: Grid, learned: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.grid, self.learned = (int(grid[0]), int(grid[1])), learned
        if grid[1] > learned:
            cure = "take shorter clips, or learn more positions"
            raise UserError(f"{grid[1]} columns of patches, but {learned} positions of time: {cure}")
        self.seeds = keras.random.SeedGenerator()

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create both tables (normal, σ 0.02)."""
        start = keras.initializers.RandomNormal(stddev=0.02)
        rows, width = self.grid[0], shape[-1]
        self.frequency = self.add_weight(shape=(rows, width), initializer=start, name="frequency")
        self.time = self.add_weight(shape=(self.learned, width), initializer=start, name="time")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return `x` with both vectors added."""
        rows, columns = self.grid
        spare = self.learned - columns
        if training and spare:
            first = keras.random.randint((), 0, spare + 1, seed=self.seeds)
            time = ops.take(self.time, first + ops.arange(columns), axis=0)
        else:
            time = self.time[:columns]
        both = self.frequency[:, None] + time[None]
        return x + ops.reshape(both, (rows * columns, x.shape[-1]))

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "grid": self.grid, "learned": self.learned}


class PatchesOut(layers.Layer):
    """Leaves patches out: (batch, rows·columns, width) to (batch, those that stay, width).

    In training `drawn` of them, at random, the same for the whole batch; else `thinned`, evenly spaced: a
    dial for the cost of an inference.
    """

    def __init__(self, grid: Grid, drawn: Patchout, thinned: Patchout, **kwargs: Any):
        super().__init__(**kwargs)
        for out in (drawn, thinned):
            out.left(grid)
        self.grid, self.drawn, self.thinned = (int(grid[0]), int(grid[1])), drawn, thinned
        self.seeds = keras.random.SeedGenerator()

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the patches that stay, in their order."""
        out, kept = (self.drawn, self._drawn) if training else (self.thinned, _spread)
        if out == Patchout():
            return x
        (rows, columns), width = self.grid, x.shape[-1]
        if out.columns or out.rows:
            x = ops.reshape(x, (-1, rows, columns, width))
            x = ops.take(x, kept(columns, columns - out.columns), axis=2)
            x = ops.take(x, kept(rows, rows - out.rows), axis=1)
            x = ops.reshape(x, (-1, (rows - out.rows) * (columns - out.columns), width))
        left = out.left(self.grid)
        return x if left == x.shape[1] else ops.take(x, kept(x.shape[1], left), axis=1)

    def _drawn(self, count: int, left: int) -> Any:
        return ops.sort(keras.random.shuffle(ops.arange(count), seed=self.seeds)[:left])

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        both = {"drawn": asdict(self.drawn), "thinned": asdict(self.thinned)}
        return {**super().get_config(), "grid": self.grid, **both}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PatchesOut:
        """Return the layer that `get_config` describes."""
        drawn, thinned = (Patchout(**config.pop(key)) for key in ("drawn", "thinned"))
        return cls(drawn=drawn, thinned=thinned, **config)


def _spread(count: int, left: int) -> Any:
    """Return `left` of `count` indices, evenly spaced, both ends among them."""
    return np.round(np.linspace(0, count - 1, left)).astype(np.int32)


class Shown(layers.Layer):
    """Keeps some tokens of each example, others in each: (batch, n, width) to (batch, `kept`, width).

    Also returns the places (batch, n), int32, of those that are kept and behind them of those that are not,
    both in order (masked and dropped, He et al. 2021, arXiv 2111.06377).
    """

    def __init__(self, kept: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.kept = kept
        self.seeds = keras.random.SeedGenerator()

    def call(self, x: Any) -> tuple[Any, Any]:
        """Return the kept tokens and the places."""
        order = ops.argsort(keras.random.uniform(ops.shape(x)[:2], seed=self.seeds), axis=-1)
        kept, hidden = (ops.sort(part, axis=-1) for part in (order[:, : self.kept], order[:, self.kept :]))
        shown = ops.take_along_axis(x, kept[..., None], axis=1)
        return shown, ops.cast(ops.concatenate([kept, hidden], axis=1), "int32")

    def compute_output_spec(self, x: Any) -> tuple[Any, Any]:
        """Return the symbolic results."""
        batch, count, width = x.shape
        shown = keras.KerasTensor((batch, self.kept, width), x.dtype)
        return shown, keras.KerasTensor((batch, count), "int32")

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "kept": self.kept}


class BackInPlace(layers.Layer):
    """Puts kept tokens (batch, kept, width) back to their places (batch, n), zeros in the others."""

    def call(self, x: Any, places: Any) -> Any:
        """Return (batch, n, width)."""
        hidden = places.shape[1] - x.shape[1]
        padded = ops.pad(x, ((0, 0), (0, hidden), (0, 0)))
        return ops.take_along_axis(padded, ops.argsort(places, axis=-1)[..., None], axis=1)


class PlacedSpecial(Special):
    """Special tokens that have positions of their own, as patches have: 2·count·width parameters."""

    def build(self, shape: tuple[Any, ...]) -> None:
        """Create tokens and positions (normal, σ 0.02)."""
        super().build(shape)
        start = keras.initializers.RandomNormal(stddev=0.02)
        self.position = self.add_weight(shape=(self.count, shape[-1]), initializer=start, name="position")

    def call(self, x: Any) -> Any:
        """Return `x` behind the tokens."""
        placed = self.token + self.position
        first = ops.broadcast_to(placed, (ops.shape(x)[0], *self.token.shape))
        return ops.concatenate([first, x], axis=1)
