"""Ops of two int8 inputs: broadcast, scales, saturation, against TFLM and the C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, int8, quantisations, quick

from firmware.compiler import read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.ops import OPS

ACTIVATIONS = ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"]
RAW = ("MAXIMUM", "MINIMUM")


@st.composite
def pairs(draw: Any) -> Case:
    """Draw an op of two int8 inputs of up to five axes, either of which may repeat or be a constant."""
    name = draw(st.sampled_from(["ADD", "SUB", "MUL", "SQUARED_DIFFERENCE", *RAW]))
    whole = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4 if name in RAW else 5))
    if draw(st.booleans()):
        whole[0] = 1

    def operand() -> tuple[int, ...]:
        repeats = [size if draw(st.integers(0, 2)) else 1 for size in whole]
        return tuple(repeats[draw(st.integers(0, len(whole) - 1)) if draw(st.booleans()) else 0 :])

    shapes = operand(), operand()
    q = [draw(quantisations) for _ in range(3)]
    if name in RAW:
        q = [q[0]] * 3
    constant = draw(st.integers(0, 2))  # 2: none
    values = [
        tfl.Value(f"x{i}", shape, "int8", *q[i], data=int8(draw, shape) if constant == i else None)
        for i, shape in enumerate(shapes)
    ]
    y = tfl.Value("y", np.broadcast_shapes(*shapes), "int8", *q[2])
    options = {}
    if name not in (*RAW, "SQUARED_DIFFERENCE"):
        options = {"fused_activation_function": draw(st.sampled_from(ACTIVATIONS))}
    inputs = tuple(int8(draw, value.shape) for value in values if value.data is None)
    return Case(tfl.Op(name, values, [y], options), inputs)


@given(st.lists(pairs(), min_size=CASES, max_size=CASES))
@quick
def test_pairs(cases: list[Case]) -> None:
    agree(cases)


@pytest.mark.parametrize("name", ["ADD", "SUB", "MUL", "SQUARED_DIFFERENCE"])
def test_every_pair_of_bytes(name: str) -> None:
    """All 65,536 pairs, with scales that make the output saturate on both sides."""
    a, b = (
        tfl.Value(n, s, "int8", scale, zero)
        for n, s, scale, zero in (("a", (256, 1), 0.02, -3), ("b", (1, 256), 0.031, 9))
    )
    y = tfl.Value("y", (256, 256), "int8", 0.02 if name in ("ADD", "SUB") else 0.05, 5)
    every = np.arange(-128, 128, dtype=np.int8)
    agree([Case(tfl.Op(name, [a, b], [y]), (every.reshape(256, 1), every.reshape(1, 256)))])


@pytest.mark.parametrize(
    ("name", "scales", "shape", "complaint"),
    [
        ("ADD", (0.1, 0.1, 0.1), (2, 4), "do not give"),
        ("MUL", (0.1, 0.1, 0.1), (3, 2), "do not give"),
        ("ADD", (1.0, 1.0, 1e-9), (2, 3), "too fine"),
        ("MUL", (1e6, 1e6, 1e-6), (2, 3), "out of proportion"),
        ("MAXIMUM", (0.1, 0.2, 0.1), (2, 3), "differ in scale"),
    ],
)
def test_refusals(name: str, scales: tuple[float, ...], shape: tuple[int, ...], complaint: str) -> None:
    """What cannot be computed rightly is refused with the op, the reason and a cure."""
    values = [tfl.Value(n, (2, 3), "int8", scale, 0) for n, scale in zip("ab", scales, strict=False)]
    y = tfl.Value("y", shape, "int8", scales[2], 0)
    graph = read_tflite.read(tfl.model(values, [tfl.Op(name, values, [y])], [], [y]), "net")
    with pytest.raises(ModelError, match=complaint) as caught:
        OPS[name].check(graph, graph.nodes[0])
    assert str(caught.value).startswith(f"net: {name}")
    assert "\n" not in str(caught.value)
