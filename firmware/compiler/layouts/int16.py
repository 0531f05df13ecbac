"""Order for int16 inputs and int8 weights (kernels/int16): rows, on cores with SMLAD pairs of rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler.graph import Array, Unit
from firmware.compiler.layouts.layout import Depthwise, Layout, Product
from firmware.compiler.layouts.plain import whole_words

BYTES = 2  # of an input
PAIRED: frozenset[Unit] = frozenset({"dsp"})


def product(unit: Unit, layer: Product) -> Layout:
    """Return rows of whole words; scratch holds the columns that are gathered, and the lanes of pairs."""
    rows = whole_words(layer.rows)
    column = BYTES * rows.shape[1] * min(layer.columns, 2)
    packed = unit in PAIRED
    scratch = column * (layer.gathered + packed)
    weights = _pairs(rows, layer.groups) if packed else rows
    return Layout(weights, layer.channels.long_table(), scratch, packed, "int16")


def depthwise(layer: Depthwise) -> Layout:
    """Return the taps as they are; scratch holds the inputs under a filter at a border."""
    scratch = BYTES * layer.taps.shape[0] * layer.inputs
    return Layout(layer.taps, layer.channels.long_table(), scratch, packed=False, family="int16")


def _pairs(rows: Array, groups: int) -> npt.NDArray[np.int8]:
    """Return words of two rows in turn, their bytes in the order 0, 2, 1, 3; each group ends with a pair."""
    grouped = rows.reshape(groups, -1, rows.shape[1])
    grouped = np.pad(grouped, ((0, 0), (0, grouped.shape[1] % 2), (0, 0)))
    words = grouped.reshape(-1, 2, rows.shape[1] // 4, 4)[..., [0, 2, 1, 3]]
    return np.ascontiguousarray(words.transpose(0, 2, 1, 3)).reshape(-1, 2 * rows.shape[1]).astype(np.int8)
