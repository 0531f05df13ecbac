"""How far behind its input an output must start so that the kernel of a layer may write it over the input.

The kernels of int8 layers go through their positions in order, and compute at most COLUMNS of them, or ROWS
rows of a depthwise convolution, before all that these read may be overwritten; the last ones perhaps twice.
"""

from __future__ import annotations

import numpy as np

from firmware.compiler.convolution import Window
from firmware.compiler.graph import Array, Unit

COLUMNS = 4
ROWS = 2
WHOLE_FIRST: tuple[Unit, ...] = ("simd",)  # kernels with a copy of the input, where nothing is gained


def products(unit: Unit, rows: int, depth: int, outputs: int) -> dict[str, int]:
    """Return Call.over of rows of inputs times a matrix."""
    return _over(unit, np.arange(rows) * depth, COLUMNS, outputs)


def positions(
    unit: Unit, x: tuple[int, ...], window: Window, outputs: int, *, depthwise: bool = False
) -> dict[str, int]:
    """Return Call.over of a convolution of x (1, rows, columns, channels) with so many output channels."""
    _, rows, columns, channels = x
    if x[0] != 1:
        return {}
    top = np.arange(window.out[0]) * window.stride[0] - window.before[0]
    if depthwise:
        needed = np.clip(top, 0, rows) * columns * channels
        return _over(unit, needed, ROWS, window.out[1] * outputs)
    left = np.clip(np.arange(window.out[1]) * window.stride[1] - window.before[1], 0, columns)
    places = np.clip(top[:, None] * columns + left, 0, rows * columns)
    first = np.where(top[:, None] < 0, 0, places) * channels
    return _over(unit, first.reshape(-1), COLUMNS, outputs)


def _over(unit: Unit, needed: Array, together: int, out_bytes: int) -> dict[str, int]:
    """Return Call.over when step p reads from byte needed[p] on, and so do all later ones."""
    if unit in WHOLE_FIRST:
        return {}
    steps = np.arange(len(needed))
    written = np.minimum(steps + together, len(needed)) * out_bytes
    return {"out0": int((written - needed[np.minimum(steps, max(len(needed) - together, 0))]).max())}
