"""Orders of weights: how the packed kernels of each unit read a layer's constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from firmware.compiler.graph import Unit
from firmware.compiler.layouts import dsp, int4, int16, mve, plain, scalar, simd
from firmware.compiler.layouts.layout import Depthwise, Layout, Product

PRODUCTS: Mapping[Unit, Callable[[Product], Layout | None]] = {
    "dsp": dsp.product,
    "mve": mve.product,
    "scalar": scalar.product,
    "simd": simd.product,
}
DEPTHWISE: Mapping[Unit, Callable[[Depthwise], Layout | None]] = {
    "dsp": dsp.depthwise,
    "mve": mve.depthwise,
    "scalar": scalar.depthwise,
    "simd": simd.depthwise,
}


def product(unit: Unit, layer: Product) -> Layout:
    """Return the constants of a matrix product for a unit; plain where it has no kernel of its own."""
    if layer.channels.dtype == "int16":
        return int16.product(unit, layer)
    if layer.nibbles and int4.fits(layer.rows):
        return int4.product(unit, layer)
    own = PRODUCTS.get(unit)
    return (own(layer) if own else None) or plain.product(layer)


def depthwise(unit: Unit, layer: Depthwise) -> Layout:
    """Return the constants of a depthwise convolution for a unit, likewise."""
    if layer.channels.dtype == "int16":
        return int16.depthwise(layer)
    if layer.nibbles and int4.fits(layer.taps):
        return int4.depthwise(layer)
    own = DEPTHWISE.get(unit)
    return (own(layer) if own else None) or plain.depthwise(layer)
