"""BATCH_MATMUL and TRANSPOSE_CONV: stacks, adjoints, strides, padding, against TFLM and the C."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, int8, quantisations, quick, tflm, zeros

import boards
from firmware.compiler import build, interp, read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.ops import OPS
from kit.device import Device
from kit.virtual import VirtualBoard


@st.composite
def products(draw: Any) -> Case:
    """Draw a product of stacks of matrices whose results fill the int8 range."""
    stack = draw(st.lists(st.integers(1, 3), max_size=3))
    rows, depth, columns = (draw(st.integers(1, most)) for most in (11, 40, 11))
    adj_x, adj_y = draw(st.booleans()), draw(st.booleans())

    def stacked(matrix: tuple[int, int]) -> tuple[int, ...]:
        sizes = [size if draw(st.integers(0, 2)) else 1 for size in stack]
        return (*sizes[draw(st.integers(0, len(sizes))) if draw(st.booleans()) else 0 :], *matrix)

    a = stacked((depth, rows) if adj_x else (rows, depth))
    b = stacked((columns, depth) if adj_y else (depth, columns))
    left, right = draw(quantisations), draw(quantisations)
    target = left[0] * right[0] * 2 ** draw(st.floats(3, 13)), draw(zeros)
    constant = int8(draw, b) if draw(st.booleans()) else None
    x, w = tfl.Value("x", a, "int8", *left), tfl.Value("w", b, "int8", *right, data=constant)
    y = tfl.Value("y", (*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns), "int8", *target)
    inputs = (int8(draw, a),) if constant is not None else (int8(draw, a), int8(draw, b))
    return Case(tfl.Op("BATCH_MATMUL", [x, w], [y], {"adj_x": adj_x, "adj_y": adj_y}), inputs)


@given(st.lists(products(), min_size=CASES, max_size=CASES))
@quick
def test_products(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def upsamplings(draw: Any) -> Case:
    """Draw a transposed convolution, SAME or VALID, with or without bias and activation."""
    batch, rows, columns, depth, count = (draw(st.integers(1, n)) for n in (2, 4, 4, 5, 4))
    size, stride = ([draw(st.integers(1, n)) for _ in range(2)] for n in (4, 3))
    padding = draw(st.sampled_from(["SAME", "VALID"]))
    more = [max(f - s, 0) if padding == "VALID" else 0 for f, s in zip(size, stride, strict=True)]
    shape = (batch, rows * stride[0] + more[0], columns * stride[1] + more[1], count)
    source = draw(quantisations)
    of_weights = np.exp([draw(st.floats(-7, -4)) for _ in range(count)]).astype(np.float32)
    target = source[0] * float(of_weights.mean()) * 2 ** draw(st.floats(4, 9)), draw(zeros)
    x, y = (
        tfl.Value("x", (batch, rows, columns, depth), "int8", *source),
        tfl.Value("y", shape, "int8", *target),
    )
    weights = tfl.constant("w", int8(draw, (count, *size, depth), -127), "int8", of_weights)
    inputs = [tfl.constant("shape", shape), weights, x]
    if draw(st.booleans()):
        inputs.append(
            tfl.constant("b", int8(draw, (count,)).astype(np.int32) * 16, "int32", source[0] * of_weights)
        )
    options = {"padding": padding, "stride_h": stride[0], "stride_w": stride[1]}
    options["fused_activation_function"] = draw(st.sampled_from(["NONE", "RELU"]))
    return Case(tfl.Op("TRANSPOSE_CONV", inputs, [y], options), (int8(draw, x.shape),))


@given(st.lists(upsamplings(), min_size=CASES, max_size=CASES))
@quick
def test_upsamplings(cases: list[Case]) -> None:
    agree(cases)


@pytest.mark.parametrize(
    ("a", "b", "y", "complaint"),
    [
        ((2, 3), (4, 5), (2, 5), "do not give"),
        ((2, 3), (3, 5), (2, 6), "do not give"),
        ((2, 2, 3), (3, 3, 5), (3, 2, 5), "do not give"),
        ((3,), (3, 5), (5,), "not stacks of matrices"),
        ((1, 40000), (40000, 1), (1, 1), "at most 16512"),
    ],
)
def test_refusals(a: tuple[int, ...], b: tuple[int, ...], y: tuple[int, ...], complaint: str) -> None:
    values = [tfl.Value(name, shape, "int8", 0.1) for name, shape in zip("aby", (a, b, y), strict=True)]
    graph = read_tflite.read(Case(tfl.Op("BATCH_MATMUL", values[:2], values[2:]), ()).model, "net")
    with pytest.raises(ModelError, match=complaint):
        OPS["BATCH_MATMUL"].check(graph, graph.nodes[0])


def chain() -> bytes:
    """Return a model with every kernel that has code of its own for cores with DSP instructions."""
    names = ["x", "scores", "mixed", "projected", "sum", "difference", "scaled", "squares", "means"]
    shapes = [
        (1, 7, 13),
        (1, 7, 7),
        (1, 7, 13),
        (1, 7, 5),
        (1, 7, 5),
        (1, 7, 5),
        (1, 7, 5),
        (1, 7, 5),
        (1, 7, 1),
    ]
    steps = [0.05, 2.0, 5.0, 30.0, 40.0, 31.0, 25.0, 900.0, 300.0]
    values = [
        tfl.Value(n, s, "int8", q, i - 4)
        for i, (n, s, q) in enumerate(zip(names, shapes, steps, strict=True))
    ]
    x, scores, mixed, projected, total, difference, scaled, squares, means = values
    random = np.random.default_rng(7)

    def constant(name: str, shape: tuple[int, ...], scale: float) -> tfl.Value:
        return tfl.constant(name, random.integers(-128, 128, shape), "int8", scale, -3)

    nodes = [
        tfl.Op("BATCH_MATMUL", [x, x], [scores], {"adj_y": True}),
        tfl.Op("BATCH_MATMUL", [scores, x], [mixed]),
        tfl.Op("BATCH_MATMUL", [mixed, constant("w", (13, 5), 0.02)], [projected]),
        tfl.Op("ADD", [projected, constant("a", (5,), 20.0)], [total], {"fused_activation_function": "RELU"}),
        tfl.Op("SUB", [total, constant("b", (1, 7, 1), 11.0)], [difference]),
        tfl.Op("MUL", [difference, constant("c", (), 0.01)], [scaled]),
        tfl.Op("SQUARED_DIFFERENCE", [scaled, difference], [squares]),
        tfl.Op("MEAN", [squares, tfl.constant("axis", [2])], [means], {"keep_dims": True}),
    ]
    return tfl.model([x], nodes, [], [means])


@pytest.mark.parametrize("name", ["virtual-m4", "virtual-m0plus"])
def test_on_the_board(name: str, tmp_path: Path) -> None:
    """The same bytes from TFLM, from numpy and from an emulated board, with and without DSP instructions."""
    board = boards.load(name)
    made = build.compile_model(chain(), board, tmp_path / "build", name="chain")
    with Device(VirtualBoard(board, made.boot.ljust(boards.BOOT_BYTES, b"\xff") + made.image)) as device:
        for seed in range(8):
            x = np.random.default_rng(seed).integers(-128, 128, (1, 7, 13)).astype(np.int8)
            wanted = interp.run(made.graph, [x])[0].reshape(-1)
            np.testing.assert_array_equal(tflm(chain(), x)[0].reshape(-1), wanted)
            np.testing.assert_array_equal(device.infer(x), wanted)
            assert np.unique(wanted).size > 1
