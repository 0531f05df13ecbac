"""What a layout is made from, and what it gives: constants and scratch memory of one weighted layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from firmware.compiler.convolution import Channels, Window
from firmware.compiler.graph import Array
from firmware.compiler.ops import Call


@dataclass(frozen=True)
class Product:
    """Rows of weights times columns of inputs: CONV_2D, FULLY_CONNECTED."""

    rows: Array  # int8 (outputs, depth)
    channels: Channels
    columns: int  # computed by the node, over all batches and positions
    gathered: bool  # a column is put together from pieces of the input; else it lies there in one piece
    groups: int = 1
    nibbles: bool = False  # the model keeps the weights in 4 bits
    window: Window | None = None  # of a convolution
    roomy: bool = True  # flash holds all weights twice


@dataclass(frozen=True)
class Depthwise:
    """Filters of their own for each channel: DEPTHWISE_CONV_2D."""

    taps: Array  # int8 (filter rows * filter columns, output channels)
    channels: Channels
    inputs: int  # channels of the input
    window: Window
    nibbles: bool = False


@dataclass(frozen=True)
class Layout:
    """Constants of one layer as its kernel reads them."""

    weights: Array
    channels: Array  # int32
    scratch: int  # bytes of arena
    packed: int  # for the unit's own kernel, and what it must know; 0: plain order, for the portable one
    family: str = ""  # folder of the kernels when they are not those of int8 inputs and weights

    def call(self, kernel: str, shape: str, channels: Channels, over: Mapping[str, int]) -> Call:
        """Return the call of a layer's kernel on its literal `shape`; `over` as in Call."""
        arguments = ("{in0}", "{weights}", "{channels}", "{out0}", "{scratch}")
        return Call(
            f"{self.family}/{kernel}" if self.family else kernel,
            (shape, channels.literal(self.packed), *arguments),
            {"weights": self.weights, "channels": self.channels},
            scratch=self.scratch,
            function=f"ear_{kernel}_{self.family}" if self.family else "",
            over={} if self.family else over,
        )
