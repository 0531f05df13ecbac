"""Order for cores with MVE (kernels/mve): four rows in pieces of 16, blocks of 16 depthwise channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler.convolution import NARROW, Channels
from firmware.compiler.graph import Array
from firmware.compiler.layouts.layout import Depthwise, Layout, Product

PIECE = 16  # bytes of a register
QUAD = 4  # rows that are requantised together
BLOCK = 16  # channels of a depthwise convolution that are computed together
MAX_TAPS = 100  # after which the upper bytes no longer tell the upper halves
SLACK = 1 << 17  # of sums kept in two halves: what the upper bytes lose
LANES = np.array(
    [0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15]
)  # as mve/depthwise_conv_2d.h has them


def product(layer: Product) -> Layout | None:
    """Return quads of rows; scratch holds two columns where they are gathered."""
    if layer.groups > 1:
        return None
    count, depth = layer.rows.shape
    rows = np.pad(layer.rows, ((0, -count % QUAD), (0, -depth % PIECE))).astype(np.int8)
    quads = rows.reshape(-1, 2, 2, rows.shape[1] // PIECE, PIECE)  # (quads, row / 2, row % 2, pieces, bytes)
    pieces = quads.transpose(0, 2, 3, 1, 4)
    scratch = rows.shape[1] * min(layer.columns, 2) if layer.gathered else 0
    return Layout(np.ascontiguousarray(pieces), _quads(layer.channels), scratch, packed=True)


def depthwise(layer: Depthwise) -> Layout | None:
    """Return blocks of 16 channels, the last one overlapping, or of the channels of neighbouring positions.

    Scratch holds the inputs under the filters at a border.
    """
    count, window, taps = layer.taps.shape[1], layer.window, layer.taps.shape[0]
    neighbours = max(BLOCK // count, 1)
    together = count * neighbours >= BLOCK and (
        neighbours == 1
        or (
            count * neighbours == BLOCK
            and window.stride[1] == window.dilation[1] == 1
            and window.out[1] >= neighbours
        )
    )
    bound = np.abs(layer.channels.bias) + 128 * np.abs(layer.taps.astype(np.int64)).sum(axis=0)
    fits = layer.channels.narrow and bound.max() < NARROW - SLACK and taps <= MAX_TAPS
    if not fits or not together or layer.inputs != count:
        return None
    first = np.minimum(np.arange(0, count, BLOCK), max(count - BLOCK, 0))
    blocks = (
        (first[:, None] + np.arange(BLOCK)) % count if neighbours > 1 else first[:, None] + np.arange(BLOCK)
    )
    packed = np.ascontiguousarray(layer.taps.astype(np.int8)[:, blocks].transpose(1, 0, 2))
    rows, columns = window.size
    bordered = any((*window.before, *window.after))
    scratch = rows * (columns + neighbours - 1) * count if bordered else 0
    return Layout(packed, _blocks(layer.channels, blocks), scratch, packed=True)


def _blocks(channels: Channels, blocks: Array) -> npt.NDArray[np.int32]:
    """Return (blocks, 48): halves of the biases, multipliers and powers in the order of lanes."""
    bias = channels.bias.astype(np.int64)[blocks]
    halves = np.stack([part[:, first::2] for part in (bias, bias >> 8) for first in (0, 1)], axis=1)
    words = np.ascontiguousarray(halves.astype(np.int16)).view("<i4").reshape(len(blocks), -1)
    factors = np.stack(
        [part[blocks][:, LANES].reshape(-1, 4, 4) for part in (channels.multiplier, _powers(channels))]
    )
    table: npt.NDArray[np.int32] = np.concatenate(
        [words, factors.transpose(1, 2, 0, 3).reshape(len(blocks), -1)], axis=1
    ).astype(np.int32)
    return table


def _quads(channels: Channels) -> npt.NDArray[np.int32]:
    """Return (quads, 3, 4): biases, multipliers and powers, see mve/requantise.h."""
    table = np.stack([channels.bias, channels.multiplier, _powers(channels)])
    padded = np.pad(table, ((0, 0), (0, -table.shape[1] % QUAD)))
    return np.ascontiguousarray(padded.reshape(3, -1, QUAD).transpose(1, 0, 2)).astype(np.int32)


def _powers(channels: Channels) -> Array:
    """Return 2^(31 + shift) where requantisation is narrow, else the shifts."""
    return np.int64(1) << (31 + channels.shift.astype(np.int64)) if channels.narrow else channels.shift
