"""Order for vectors of a host or of wasm (kernels/simd): blocks of 32 channels, halves low and high.

Word 4 * i + j of the low half belongs to channel 8 * i + j of its block, of the high half to 8 * i + j + 4.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firmware.compiler import fixed_point
from firmware.compiler.convolution import Channels, Window
from firmware.compiler.graph import Array
from firmware.compiler.layouts.layout import Depthwise, Layout, Product

BLOCK = 32  # channels
FIELDS = 6  # of a channel, see kernels/simd/vector.h
WIDENED = 32  # bytes of a group's weights for one value of depth, on machines that widen them
SLACK = 192  # bytes of scratch around an image: to align it, and what a vector reads too far
ORDER = np.arange(BLOCK).reshape(4, 2, 4).transpose(1, 0, 2).reshape(-1)  # word of a block → channel
WIDEST = 1 << 30  # |sums| below this can be doubled
SHIFTS = range(-30, 0)
FLOAT_SHIFT = 13  # up to here a float that is a little off a tie is still nearer to it than to others


def product(layer: Product) -> Layout | None:
    """Return blocks of rows, four values of depth at a time; scratch holds the image that columns lie in."""
    if layer.groups > 1 or not _fits(layer.channels, np.abs(layer.rows.astype(np.int64)).sum(axis=1)):
        return None
    count, depth = layer.rows.shape
    length, image = _pieces(layer.window, depth) if layer.window else (depth, layer.columns * depth)
    pieces = layer.rows.reshape(count, -1, length)
    padded = np.pad(pieces, ((0, -count % BLOCK), (0, 0), (0, -length % 4)))
    words = padded.reshape(-1, BLOCK, padded[0].size // 4, 4)[:, ORDER].transpose(0, 2, 1, 3)
    less = 128 * layer.rows.sum(axis=1, dtype=np.int64)
    table = _table(layer.channels, fixed_point.wrap_int32(layer.channels.bias - less))  # for inputs plus 128
    scratch = 2 * image + 4 * WIDENED * words.shape[1] + SLACK
    return Layout(np.ascontiguousarray(words), table, scratch, packed=True)


def depthwise(layer: Depthwise) -> Layout | None:
    """Return blocks of channels, a pair of taps at a time; scratch holds the image."""
    taps = layer.taps.astype(np.int16)
    if layer.inputs != taps.shape[1] or not _fits(layer.channels, np.abs(taps).sum(axis=0, dtype=np.int64)):
        return None
    padded = np.pad(taps, ((0, len(taps) % 2), (0, -layer.inputs % BLOCK)))
    pairs = padded.reshape(-1, 2, padded.shape[1] // BLOCK, BLOCK)[..., ORDER].transpose(2, 0, 3, 1)
    scratch = 2 * _positions(layer.window) * layer.inputs + SLACK
    return Layout(
        np.ascontiguousarray(pairs), _table(layer.channels, layer.channels.bias), scratch, packed=True
    )


def _pieces(window: Window, depth: int) -> tuple[int, int]:
    """Return (values of a column that lie in one piece of the image, values of the image)."""
    channels = depth // (window.size[0] * window.size[1])
    joined = window.size[1] if window.dilation[1] == 1 else 1
    return joined * channels, _positions(window) * channels


def _positions(window: Window) -> int:
    """Return how many positions a window reads, border included: what the kernels copy to scratch."""
    spans = zip(window.out, window.stride, window.size, window.dilation, strict=True)
    rows, columns = ((out - 1) * stride + (size - 1) * dilation + 1 for out, stride, size, dilation in spans)
    return rows * columns


def _fits(channels: Channels, reach: Array) -> bool:
    """Tell whether vectors can requantise the sums; `reach`: of each channel, the sum of its |weights|."""
    bound = np.abs(channels.bias) + 128 * reach
    return bool((bound < WIDEST).all()) and set(channels.shift.tolist()) <= set(SHIFTS)


def _table(channels: Channels, bias: Array) -> npt.NDArray[np.int32]:
    right = -channels.shift.astype(np.int64)
    zero = channels.out_zero if channels.narrow else 0
    rounding = (1 << (right - 1)) + (zero << right)
    exact = channels.narrow and right.max() <= FLOAT_SHIFT
    power = np.ldexp(np.float32(exact), -right.astype(np.int32)) * np.float32(1 + 2**-23)
    fields = (bias, channels.multiplier, rounding, right, power.view(np.int32), channels.bias)
    rows = np.stack(fields).astype(np.int32)
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % BLOCK)))
    blocks = padded.reshape(FIELDS, -1, BLOCK)[:, :, ORDER].transpose(1, 0, 2)
    return np.ascontiguousarray(blocks)
