"""Passes: each takes a graph and returns one that computes the same, smaller; verified in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from firmware.compiler.graph import Graph, Unit
from firmware.compiler.order import order
from firmware.compiler.passes.activations import fold_activations
from firmware.compiler.passes.attention import fuse_attention
from firmware.compiler.passes.borders import strip_borders
from firmware.compiler.passes.check import check
from firmware.compiler.passes.constants import fold_constants
from firmware.compiler.passes.inline import inline
from firmware.compiler.passes.islands import name_floats
from firmware.compiler.passes.norms import fuse_norms
from firmware.compiler.passes.pads import fold_pads
from firmware.compiler.passes.products import fuse_products
from firmware.compiler.passes.reshapes import drop_reshapes
from firmware.compiler.passes.rewrite import drop_unused
from firmware.compiler.passes.scans import fuse_scans
from firmware.compiler.passes.tables import table_chains
from firmware.compiler.passes.transposes import drop_transposes

Pass = Callable[[Graph], Graph]
EXACT: tuple[Pass, ...] = (  # every byte stays as it was
    inline,
    strip_borders,
    name_floats,
    fold_constants,
    check,
    drop_reshapes,
    drop_transposes,
    fold_pads,
    drop_unused,
    check,
)
FUSIONS: tuple[Pass, ...] = (
    fold_activations,
    fuse_norms,
    fuse_scans,
    fuse_products,
    table_chains,
    fuse_attention,
    drop_unused,
    check,
)  # nearer to the real numbers


def run(graph: Graph, unit: Unit = "c") -> Graph:
    """Return the graph after all passes, lowered to a unit: every node is known to the compiler.

    Raises:
        ModelError: a float model, or an op that cannot be compiled; the text names it and the rewrite.
    """
    return _after((*EXACT, *FUSIONS), graph, unit)


def unfused(graph: Graph, unit: Unit = "c") -> Graph:
    """Return the graph as `run` does, but with the bytes of every op as TFLM computes them."""
    return _after(EXACT, graph, unit)


def _after(passes: tuple[Pass, ...], graph: Graph, unit: Unit) -> Graph:
    for made in passes:
        graph = made(graph).verify()
    return order(replace(graph, unit=unit))
