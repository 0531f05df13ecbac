"""Order for int8 inputs and weights of 4 bits (kernels/int4): two weights a byte, half of what int8 takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler.graph import Array, Unit
from firmware.compiler.layouts.layout import Depthwise, Layout, Product

WORD = 8  # weights in a word
WIDENED: frozenset[Unit] = frozenset({"dsp"})


def fits(weights: Array) -> bool:
    """Tell whether all weights are 4-bit integers."""
    return bool((weights >= -8).all() and (weights <= 7).all())


def product(unit: Unit, layer: Product) -> Layout:
    """Return rows of whole words; scratch holds the columns that are gathered, and two widened ones."""
    rows = np.pad(layer.rows, ((0, 0), (0, -layer.rows.shape[1] % WORD)))
    packed = unit in WIDENED and layer.channels.narrow
    scratch = rows.shape[1] * (2 * layer.gathered + 4 * packed)
    quads = rows.reshape(len(rows), -1, 2, WORD // 2)
    weights = _bytes(quads[:, :, 0], quads[:, :, 1]).reshape(len(rows), -1)
    return Layout(weights, layer.channels.table(), scratch, packed, "int4")


def depthwise(layer: Depthwise) -> Layout:
    """Return the channels of each tap in pairs; scratch holds the inputs under a filter at a border."""
    taps = np.pad(layer.taps, ((0, 0), (0, layer.taps.shape[1] % 2)))
    weights = _bytes(taps[:, ::2], taps[:, 1::2])
    scratch = taps.shape[0] * layer.inputs
    return Layout(weights, layer.channels.table(), scratch, packed=False, family="int4")


def _bytes(low: Array, high: Array) -> npt.NDArray[np.int8]:
    joined: npt.NDArray[np.int8] = ((low & 15) | (high << 4)).astype(np.int8)
    return joined
