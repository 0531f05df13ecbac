"""Order for cores with SMLAD (kernels/dsp): pairs of rows in half-words, quads of depthwise channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler.graph import Array
from firmware.compiler.layouts.layout import Depthwise, Layout, Product
from firmware.compiler.layouts.plain import whole_words

QUAD = 4  # channels of a depthwise convolution that are computed together


def product(layer: Product) -> Layout | None:
    """Return pairs of rows; scratch holds two widened columns, and one that is gathered or padded."""
    if layer.groups > 1 or not layer.channels.narrow or layer.rows.min() == -128:
        return None
    rows = whole_words(layer.rows)
    pieces = layer.gathered or layer.rows.shape[1] % 4 > 0
    scratch = rows.shape[1] * (2 * min(layer.columns, 2) + pieces)
    return Layout(_pairs(rows), layer.channels.table(), scratch, packed=True)


def depthwise(layer: Depthwise) -> Layout | None:
    """Return quads of channels; scratch holds the inputs under a filter at a border."""
    taps, narrow = layer.taps, layer.channels.narrow and layer.taps.min() > -128
    if not narrow or layer.inputs != taps.shape[1] or layer.inputs < QUAD:
        return None
    return Layout(_quads(taps), layer.channels.table(), taps.shape[0] * layer.inputs, packed=True)


def _pairs(packed: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
    """Return the words of dsp/matmul.h for packed rows (out, depth): (pairs of rows, depth / 2).

    A half-word is 256 * (second row) + first row; half-words follow the inputs 0, 2, 1, 3 of each four.
    """
    rows = np.pad(packed, ((0, packed.shape[0] % 2), (0, 0))).astype(np.int32)
    ordered = rows.reshape(rows.shape[0], -1, 4)[:, :, [0, 2, 1, 3]].reshape(rows.shape[0], -1)
    halves = (256 * ordered[1::2] + ordered[::2]).astype(np.int16)
    words: npt.NDArray[np.uint32] = np.ascontiguousarray(halves).view("<u4")
    return words


def _quads(taps: Array) -> npt.NDArray[np.uint32]:
    """Return words (quads of channels, taps, 2) of channels (0, 2) and (1, 3); the last quad overlaps."""
    count = taps.shape[1]
    first = np.minimum(np.arange(0, count, QUAD), count - QUAD)
    order = first[:, None] + np.array([0, 2, 1, 3])
    halves = taps.astype(np.int16)[:, order].transpose(1, 0, 2)
    words: npt.NDArray[np.uint32] = np.ascontiguousarray(halves).view("<u4")
    return words
