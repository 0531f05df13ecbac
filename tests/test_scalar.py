"""Kernels for cores without SMLAD give numpy's bytes: on this machine (where UB traps), on M0+ and on M3."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import core_runner
import numpy as np
import pytest
import strategies
import tflite_writer as tfl
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, quick
from test_ops_matmul import upsamplings

import firmware
from firmware.compiler import compiled, emit, interp, layouts, read_tflite, toolchain
from firmware.compiler.convolution import Channels
from firmware.compiler.layouts import scalar
from firmware.compiler.layouts.layout import Product
from firmware.compiler.toolchain import Toolchain

BOARDS = ["virtual-m0plus", "virtual-m3"]
PIECES = """#include "kernels/scalar/product.h"
int wide(int a, int b);
int narrow(int sum, int multiplier);
int wide(int a, int b) {
    return ear_high_pieces(a, b);
}
int narrow(int sum, int multiplier) {
    return ear_high_narrow_pieces(sum, multiplier);
}
"""
DRAWN = st.one_of(
    strategies.conv_2d(), strategies.depthwise_conv_2d(), strategies.fully_connected(), upsamplings()
)


def dense(weights: Any, x: Any, bias: Any = None) -> Case:
    """Return a fully connected op whose outputs spread over the int8 range."""
    outputs, depth = weights.shape
    w = tfl.constant("w", weights, "int8", [0.02], [0], 0)
    spread = float(np.float32(0.02 * np.sqrt(depth) * max(1.0, float(np.abs(weights).mean())) * 0.4))
    y = tfl.Value("y", (len(x), outputs), "int8", spread, 3)
    start = tfl.Value("x", x.shape, "int8", 1.0, -7)
    b = [] if bias is None else [tfl.constant("b", bias, "int32", [0.02], [0])]
    options = {"keep_num_dims": False, "fused_activation_function": "NONE"}
    return Case(tfl.Op("FULLY_CONNECTED", [start, w, *b], [y], options, 4), (x,))


def extremes() -> list[Case]:
    """Return products whose half-words reach their limits, in chunks of 2, 4 and 8."""
    rng = np.random.default_rng(4)
    cases = []
    for depth, weight in ((64, 127), (40, 127), (64, 63), (36, 63), (64, 31), (48, 31), (6, 127)):
        signs = rng.choice([-1, 1], (8, depth))
        signs[:4] = np.array([1, 1, -1, 1])[:, None]
        for x in (np.full(depth, -128), np.full(depth, 127), -128 * (signs[4] > 0) + 127 * (signs[4] < 0)):
            cases.append(dense(weight * signs, x.reshape(1, -1).astype(np.int8)))
    return cases


@given(st.lists(DRAWN, min_size=CASES, max_size=CASES))
@quick
def test_drawn_ops_on_this_machine(cases: list[Case]) -> None:
    agree(cases, "scalar")


def test_half_words_hold_the_greatest_sums() -> None:
    agree(extremes(), "scalar")


@pytest.mark.parametrize("kind", ["zig", "gcc"])
@pytest.mark.parametrize("board", BOARDS)
def test_half_words_hold_the_greatest_sums_on_cores(board: str, kind: Toolchain, tmp_path: Path) -> None:
    need(kind)
    for case in extremes()[2::6]:
        check(case, board, tmp_path, kind)


@pytest.mark.parametrize("kind", ["zig", "gcc"])
@pytest.mark.parametrize("board", BOARDS)
def test_drawn_ops_on_cores(board: str, kind: Toolchain, tmp_path: Path) -> None:
    need(kind)

    @given(DRAWN)
    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    def drawn(case: Case) -> None:
        check(case, board, tmp_path, kind)

    drawn()


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the C products made of 16-bit pieces, as M0+ computes them; undefined behaviour traps."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "pieces.c").write_text(PIECES)
    toolchain.host_library(folder / "pieces.c", [firmware.ROOT], folder / "pieces.so")
    return ctypes.CDLL(str(folder / "pieces.so"))


@given(st.integers(-(1 << 31), (1 << 31) - 1), st.integers(0, (1 << 31) - 1))
@example(-(1 << 31), (1 << 31) - 1)
@example((1 << 31) - 1, (1 << 31) - 1)
@example(-1, 0xFFFF)
def test_products_of_pieces_are_whole(pieces: Any, a: int, b: int) -> None:
    assert pieces.wide(a, b) == (a * b + (1 << 31)) >> 32
    narrow = a >> 8
    assert pieces.narrow(narrow, b) == (narrow * b + (1 << 30)) >> 31


def need(kind: Toolchain) -> None:
    """Skip the test without the compiler."""
    try:
        toolchain.driver(kind)
    except Exception as error:
        pytest.skip(str(error))


def check(case: Case, board: str, folder: Path, kind: Toolchain) -> None:
    """Assert that a core computes what numpy does."""
    graph = replace(read_tflite.read(case.model, "case").verify(), unit="scalar")
    (x,) = case.inputs
    np.testing.assert_array_equal(core_runner.run(graph, x, board, folder, kind), interp.run(graph, [x])[0])


def product(rows: Any, **settings_: Any) -> Product:
    """Return a matrix product with the rows as weights."""
    count = len(rows)
    zeros, right = np.zeros(count, np.int64), np.full(count, -8, np.int32)
    channels = Channels(zeros, np.full(count, 1 << 30, np.int32), right, 0, -128, 127, True)
    return Product(rows.astype(np.int8), channels, columns=3, gathered=False, **settings_)


@pytest.mark.parametrize(("weight", "chunk"), [(127, 2), (64, 2), (63, 4), (32, 4), (31, 8), (1, 8)])
def test_chunks_are_as_long_as_their_sums_allow(weight: int, chunk: int) -> None:
    made = scalar.product(product(np.full((4, 16), weight)))
    assert made is not None
    assert made.packed == chunk
    assert made.channels[0, 0] == chunk


def test_weights_that_overflow_stay_plain() -> None:
    assert scalar.product(product(np.full((4, 16), -128))) is None
    assert layouts.product("scalar", product(np.full((4, 16), -128))).packed == 0


def test_weights_stay_plain_where_flash_cannot_hold_them_twice(shared: Path) -> None:
    model = (shared / "models" / "kws_ref_model.tflite").read_bytes()
    sizes = []
    for budget in (1 << 20, 100_000):
        _, graph, _ = compiled.lower(model, "kws", "scalar", flash_budget=budget)
        assert graph.roomy == (budget == 1 << 20)
        sizes.append(emit.constant_bytes(graph))
    weights = sum(n.bytes for n in graph.tensors if n.constant)
    assert sizes[1] < 1.5 * weights < sizes[0] < 2.5 * weights
    assert scalar.product(product(np.ones((4, 4)), roomy=False)) is None


def test_few_rows_stay_plain() -> None:
    assert [scalar.product(product(np.ones((n, 4)))) is None for n in (1, 2, 3, 5)] == [
        True,
        True,
        False,
        True,
    ]
