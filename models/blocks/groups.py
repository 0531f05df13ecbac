"""Groups: which units of a net structured pruning may remove, and which slices of which weights they own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Slice:
    """The part of a weight that belongs to a unit.

    `axis` is laid out as (repeats, units, width), repeats being whatever is left: 1 but behind a flattened
    image, where a channel comes once for each pixel. Unit u owns [:, u, :].
    """

    weight: str  # layer/variable, as `models.blocks.cost.weights` names it
    axis: int
    width: int = 1


@dataclass(frozen=True)
class Group:
    """Units that are interchangeable: output channels of a convolution, heads, hidden units.

    `field` is the path into the Config that holds their number, such as `blocks.2.widths.0`.
    `scores` are the weights whose slices decide the importance; `slices` all that shrink with them.
    """

    field: str
    units: int
    slices: tuple[Slice, ...]
    scores: tuple[Slice, ...]
    importance: Literal["scale", "taylor"]  # |BN scale| × norm of the weights; or |weight · gradient|
    minimum: int = 1  # fewer never stay
    multiple: int = 1  # the number that stays is a multiple of this, for the kernels' sake
