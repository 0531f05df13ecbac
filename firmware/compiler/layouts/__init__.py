"""Orders of weights: how the packed kernels of each unit read a layer's constants."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from firmware.compiler.graph import Unit
from firmware.compiler.layouts import dsp, plain
from firmware.compiler.layouts.layout import Depthwise, Layout, Product

PRODUCTS: Mapping[Unit, Callable[[Product], Layout | None]] = {"dsp": dsp.product}
DEPTHWISE: Mapping[Unit, Callable[[Depthwise], Layout | None]] = {"dsp": dsp.depthwise}


def product(unit: Unit, layer: Product) -> Layout:
    """Return the constants of a matrix product for a unit; plain where it has no kernel of its own."""
    own = PRODUCTS.get(unit)
    return (own(layer) if own else None) or plain.product(layer)


def depthwise(unit: Unit, layer: Depthwise) -> Layout:
    """Return the constants of a depthwise convolution for a unit, likewise."""
    own = DEPTHWISE.get(unit)
    return (own(layer) if own else None) or plain.depthwise(layer)
