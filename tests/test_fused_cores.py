"""Fused kernels on every emulated core: a normalisation with gains of both signs, a gate, an attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import core_runner
import numpy as np
import pytest
import tflite_writer as tfl
from fused import fused, ops_of, q8

from firmware.compiler import interp

BOARDS = ["virtual-m0plus", "virtual-m3", "virtual-m4", "virtual-m7", "virtual-m33"]
RNG = np.random.default_rng(8)


def normalised() -> bytes:
    """LayerNorm over 24 channels."""
    x, m, c = q8("x", (1, 5, 24), 0.04, 9), q8("m", (1, 5, 1), 0.02, 3), q8("c", (1, 5, 24), 0.05, -2)
    square, v = q8("s", (1, 5, 24), 0.1, -128), q8("v", (1, 5, 1), 0.05, -128)
    r, n = q8("r", (1, 5, 1), 0.01, -128), q8("n", (1, 5, 24), 0.03, 4)
    scaled, y = q8("g", (1, 5, 24), 0.05, 1), q8("y", (1, 5, 24), 0.05, -7)
    axes = [tfl.constant(name, [2]) for name in "ab"]
    gains = tfl.constant("gamma", RNG.integers(-127, 128, 24), "int8", 0.02)
    shifts = tfl.constant("beta", RNG.integers(-127, 128, 24), "int8", 0.01)
    nodes = [
        tfl.Op("MEAN", [x, axes[0]], [m], {"keep_dims": True}),
        tfl.Op("SUB", [x, m], [c]),
        tfl.Op("MUL", [c, c], [square]),
        tfl.Op("MEAN", [square, axes[1]], [v], {"keep_dims": True}),
        tfl.Op("RSQRT", [v], [r]),
        tfl.Op("MUL", [c, r], [n]),
        tfl.Op("MUL", [n, gains], [scaled]),
        tfl.Op("ADD", [scaled, shifts], [y]),
    ]
    return tfl.model([x], nodes, [], [y])


def gated() -> bytes:
    """A gated linear unit: one half times the sigmoid of the other."""
    x = q8("x", (1, 7, 16), 0.05, 3)
    a, b = (q8(name, (1, 7, 8), 0.05, 3) for name in "ab")
    s, y = q8("s", (1, 7, 8), 1 / 256, -128), q8("y", (1, 7, 8), 0.03, 5)
    nodes = [
        tfl.Op("SPLIT", [tfl.constant("axis", 2), x], [a, b], {"num_splits": 2}),
        tfl.Op("LOGISTIC", [b], [s]),
        tfl.Op("MUL", [a, s], [y]),
    ]
    return tfl.model([x], nodes, [], [y])


MODELS: dict[str, Callable[[], bytes]] = {"EAR_NORM": normalised, "EAR_PRODUCTS": gated}


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("op", MODELS)
def test_fused_kernels_on_each_core(op: str, board: str, tmp_path: Path) -> None:
    graph = fused(MODELS[op]())
    assert ops_of(graph) == [op]
    x = RNG.integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
    np.testing.assert_array_equal(core_runner.run(graph, x, board, tmp_path), interp.run(graph, [x])[0])
