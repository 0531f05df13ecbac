"""Plain order: rows of whole words, for the portable kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler.graph import Array
from firmware.compiler.layouts.layout import Depthwise, Layout, Product


def product(layer: Product) -> Layout:
    """Return rows padded with zeros to whole words; scratch holds the columns that are gathered."""
    rows = whole_words(layer.rows)
    scratch = rows.shape[1] * min(layer.columns, 2) if layer.gathered else 0
    return Layout(rows, layer.channels.table(), scratch, packed=False)


def depthwise(layer: Depthwise) -> Layout:
    """Return the taps as they are; scratch holds the inputs under a filter at a border."""
    return Layout(layer.taps, layer.channels.table(), layer.taps.shape[0] * layer.inputs, packed=False)


def whole_words(rows: Array) -> npt.NDArray[np.int8]:
    """Return int8 weights (outputs, depth) with depth padded by zeros to a multiple of 4."""
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).astype(np.int8)
