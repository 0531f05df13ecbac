"""Passes: each takes a graph and returns one that computes the same, smaller; verified in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from firmware.compiler.graph import Graph, Unit
from firmware.compiler.order import order
from firmware.compiler.passes.borders import strip_borders
from firmware.compiler.passes.check import check
from firmware.compiler.passes.constants import fold_constants
from firmware.compiler.passes.pads import fold_pads
from firmware.compiler.passes.reshapes import drop_reshapes
from firmware.compiler.passes.rewrite import drop_unused

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    strip_borders,
    check,
    fold_constants,
    drop_reshapes,
    fold_pads,
    drop_unused,
    check,
)


def run(graph: Graph, unit: Unit = "c") -> Graph:
    """Return the graph after all passes, lowered to a unit: every node is known to the compiler.

    Raises:
        ModelError: a float model, or an op that cannot be compiled; the text names it and the rewrite.
    """
    for made in PASSES:
        graph = made(graph).verify()
    return order(replace(graph, unit=unit))
