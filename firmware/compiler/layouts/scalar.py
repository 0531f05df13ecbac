"""Order for cores without SMLAD (kernels/scalar): two rows share a word, so that one product serves both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler.convolution import Channels
from firmware.compiler.layouts.layout import Depthwise, Layout, Product
from firmware.compiler.layouts.plain import whole_words

BLOCK = 4  # rows that are computed together: two words a tap
CHUNKS = (8, 4, 2)  # products that a half-word sums before it is emptied, as many as fit
CHUNK_WEIGHT = 255  # sum of |weights| of a chunk: times 128 it stays below 2^15
HALF = 0x8000  # what a chunk starts from, so that its upper half-word is rounded
TILE = 5  # columns of a depthwise convolution that are computed together, at most


def product(layer: Product) -> Layout | None:
    """Return blocks of four rows; scratch holds a column that is gathered or padded."""
    count, depth = layer.rows.shape
    if not layer.roomy or layer.groups > 1 or not layer.channels.narrow or 2 * (-count % BLOCK) > count:
        return None
    rows = np.pad(whole_words(layer.rows), ((0, -count % BLOCK), (0, 0))).astype(np.int64)
    chunks = _chunks(rows)
    if chunks.min() == 0:
        return None
    pieces = layer.gathered or depth % 4 > 0
    return Layout(
        _words(rows),
        _table(layer.channels, chunks, rows.shape[1]),
        rows.shape[1] * pieces,
        packed=int(np.bitwise_or.reduce(chunks)),
    )


def depthwise(layer: Depthwise) -> Layout | None:
    """Return the taps of each channel together; scratch holds the inputs of a tile at a border."""
    if not layer.channels.narrow:
        return None
    window, channels = layer.window, layer.channels
    right = -channels.shift.astype(np.int64)
    rounding = (2 * channels.out_zero + 1) << (right - 1)
    table = np.stack([channels.bias, channels.multiplier, rounding, right], axis=1).astype(np.int32)
    tile = -(-window.out[1] // -(-window.out[1] // TILE))  # tiles of one width
    span = (tile - 1) * window.stride[1] + (window.size[1] - 1) * window.dilation[1] + 1
    padded = any((*window.before, *window.after))
    scratch = window.size[0] * span * layer.inputs if padded else 0
    return Layout(np.ascontiguousarray(layer.taps.T), table, scratch, packed=tile)


def _chunks(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each block the longest chunk that all its rows suit; 0 for none."""
    found = np.zeros(rows.shape[0] // BLOCK, np.int64)
    for chunk in reversed(CHUNKS):
        if rows.shape[1] % chunk == 0:
            sums = np.abs(rows).reshape(-1, BLOCK, rows.shape[1] // chunk, chunk).sum(axis=3)
            found[(sums <= CHUNK_WEIGHT).all(axis=(1, 2))] = chunk
    return found


def _words(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Return (blocks, depth, 2) words: row 0 + 65536 * row 1, row 2 + 65536 * row 3."""
    pairs = rows[::2] + 65536 * rows[1::2]
    words = pairs.reshape(-1, 2, rows.shape[1]).transpose(0, 2, 1) & 0xFFFFFFFF
    return np.ascontiguousarray(words).astype(np.uint32)


def _table(channels: Channels, chunks: npt.NDArray[np.int64], depth: int) -> npt.NDArray[np.int32]:
    """Return a record for each block: chunk; start of both and of odd for each pair; scaling of each row."""
    count = channels.bias.size
    bias, multiplier, right = (
        np.pad(values, (0, -count % BLOCK)).astype(np.int64)
        for values in (channels.bias, channels.multiplier, -channels.shift)
    )
    odd = bias[1::2]
    both = bias[::2] + 65536 * odd - HALF * np.repeat(depth // chunks, 2)
    rounding = (2 * channels.out_zero + 1) << np.maximum(right - 1, 0)
    starts = np.stack([both, odd], axis=1).reshape(-1, BLOCK)
    scaling = np.stack([multiplier, rounding, right], axis=1).reshape(-1, 3 * BLOCK)
    table = np.concatenate([chunks[:, None], starts, scaling], axis=1)
    return (table & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
