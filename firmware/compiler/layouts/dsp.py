"""Order for cores with SMLAD (kernels/dsp): pairs of rows in half-words, quads of depthwise channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler.convolution import Channels, Window
from firmware.compiler.graph import Array
from firmware.compiler.layouts.layout import Depthwise, Layout, Product
from firmware.compiler.layouts.plain import whole_words

COLUMNS = 3  # that are multiplied together
QUAD = 4  # channels of a depthwise convolution that are computed together

Words = npt.NDArray[np.int32]


def product(layer: Product) -> Layout | None:
    """Return pairs of rows, group by group; scratch holds the widened columns, and one in bytes."""
    if not layer.channels.narrow:
        return None
    rows, count = whole_words(layer.rows), layer.rows.shape[0] // layer.groups
    grouped = rows.reshape(layer.groups, count, -1).astype(np.int32)
    wide = np.pad(grouped, ((0, 0), (0, count % 2), (0, 0))).reshape(-1, rows.shape[1])
    halves = 256 * wide[1::2] + wide[::2]
    if halves.min() < -(1 << 15):
        return None
    lanes = COLUMNS if layer.columns >= COLUMNS else 1
    pieces = layer.gathered and (layer.window is None or _piece(layer.rows, layer.window) % 4 > 0)
    scratch = rows.shape[1] * (2 * lanes + pieces)
    return Layout(_ordered(halves), _pairs(layer.channels, layer.groups), scratch, packed=True)


def _piece(rows: Array, window: Window) -> int:
    """Return the bytes of a pixel under the filter."""
    return int(rows.shape[1]) // (window.size[0] * window.size[1])


def depthwise(layer: Depthwise) -> Layout | None:
    """Return quads of channels; scratch holds the inputs under two neighbouring filters at a border."""
    count, window = layer.taps.shape[1], layer.window
    if not layer.channels.narrow or layer.inputs != count or count < QUAD:
        return None
    scratch = 0
    if any((*window.before, *window.after)):
        rows, columns = window.size
        axes = zip(window.stride, window.dilation, window.size, strict=True)
        apart = [(step // each) * (step // each < size) for step, each, size in axes]
        scratch = layer.inputs * max((rows + apart[0]) * columns, rows * (columns + apart[1]))
    return Layout(_quads(layer.taps), _quad_channels(layer.channels), scratch, packed=True)


def _ordered(halves: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
    """Return half-words (pairs of rows, depth) as words; of each four inputs 0, 2 come before 1, 3."""
    order = halves.astype(np.int16).reshape(halves.shape[0], -1, 4)[:, :, [0, 2, 1, 3]]
    words: npt.NDArray[np.uint32] = np.ascontiguousarray(order.reshape(halves.shape[0], -1)).view("<u4")
    return words


def _rounding(channels: Channels) -> npt.NDArray[np.int64]:
    """Return the constants of the second rounding, with the zero-point of the output."""
    rounding: npt.NDArray[np.int64] = (2 * channels.out_zero + 1) << (-channels.shift.astype(np.int64) - 1)
    return rounding


def _pairs(channels: Channels, groups: int) -> Words:
    """Return a struct ear_pair of dsp/matmul.h for each pair of rows."""
    each = np.stack([channels.bias, channels.multiplier, _rounding(channels), -channels.shift - 1], axis=-1)
    each = each.reshape(groups, -1, 4)
    each = np.pad(each, ((0, 0), (0, each.shape[1] % 2), (0, 0))).reshape(-1, 2, 4)
    a, b = each[:, 0], each[:, 1]
    both = a[:, :1] + 256 * b[:, :1]
    return np.concatenate([a[:, :1], both, a[:, 1:], b[:, 1:]], axis=1).astype(np.int32)


def _first(count: int) -> npt.NDArray[np.int64]:
    """Return the first channel of each quad; the last quad overlaps."""
    return np.minimum(np.arange(0, count, QUAD), count - QUAD)


def _quads(taps: Array) -> npt.NDArray[np.uint32]:
    """Return words (quads of channels, taps, 2) of doubled weights of channels (0, 2) and (1, 3)."""
    order = _first(taps.shape[1])[:, None] + np.array([0, 2, 1, 3])
    halves = 2 * taps.astype(np.int16)[:, order].transpose(1, 0, 2)
    words: npt.NDArray[np.uint32] = np.ascontiguousarray(halves).view("<u4")
    return words


def _quad_channels(channels: Channels) -> Words:
    """Return for each quad the doubled biases, then each channel's multiplier, rounding, shift less one."""
    order = _first(channels.bias.size)[:, None] + np.arange(QUAD)
    finish = np.stack([channels.multiplier, _rounding(channels), -channels.shift - 1], axis=-1)[order]
    return np.concatenate([2 * channels.bias[order], finish.reshape(len(order), -1)], axis=1).astype(np.int32)
