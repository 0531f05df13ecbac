"""What a layout is made from, and what it gives: constants and scratch memory of one weighted layer."""

from __future__ import annotations

from dataclasses import dataclass

from firmware.compiler.convolution import Channels, Window
from firmware.compiler.graph import Array


@dataclass(frozen=True)
class Product:
    """Rows of weights times columns of inputs: CONV_2D, FULLY_CONNECTED."""

    rows: Array  # int8 (outputs, depth)
    channels: Channels
    columns: int  # computed by the node, over all batches and positions
    gathered: bool  # a column is put together from pieces of the input; else it lies there in one piece
    groups: int = 1


@dataclass(frozen=True)
class Depthwise:
    """Filters of their own for each channel: DEPTHWISE_CONV_2D."""

    taps: Array  # int8 (filter rows * filter columns, output channels)
    channels: Channels
    inputs: int  # channels of the input
    window: Window


@dataclass(frozen=True)
class Layout:
    """Constants of one layer as its kernel reads them."""

    weights: Array
    channels: Array  # int32
    scratch: int  # bytes of arena
    packed: bool  # for the unit's own kernel; False: plain order, for the portable one
