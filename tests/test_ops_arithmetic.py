"""DIV, FLOOR_DIV, FLOOR_MOD, L2_NORMALIZATION, LOG_SOFTMAX and the tables that no runtime has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, int8, quantisations, quick, scales, zeros
from typed_values import broadcast, numbers, of, sizes

from firmware.compiler import interp, read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.ops import OPS

BYTES = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)


@st.composite
def quotients(draw: Any) -> Case:
    """Draw an int8 DIV where TFLM's shift is in range, or a DIV, FLOOR_DIV or FLOOR_MOD of int32."""
    a, b, target = broadcast(draw)
    if draw(st.booleans()):
        name = draw(st.sampled_from(["DIV", "FLOOR_DIV", "FLOOR_MOD"]))
        data = [numbers(draw, shape, "int32", -50, 50) for shape in (a, b)]
        data[1] = np.where(data[1] == 0, 7, data[1]).astype(np.int32)
        values = [of("a", a, "int32"), of("b", b, "int32")]
        return Case(tfl.Op(name, values, [of("y", target, "int32")]), tuple(data), "either")
    (scale_a, zero_a), (scale_b, zero_b) = draw(quantisations), draw(quantisations)
    scale_y = float(np.float32(scale_a / scale_b / draw(st.floats(70, 5000))))
    values = [
        tfl.Value("a", tuple(a), "int8", scale_a, zero_a),
        tfl.Value("b", tuple(b), "int8", scale_b, zero_b),
    ]
    y = tfl.Value("y", target, "int8", scale_y, draw(zeros))
    dividend, divisor = int8(draw, a), int8(draw, b)
    other = np.int8(zero_b + 1 if zero_b < 127 else 0)
    divisor = np.where(divisor == zero_b, other, divisor).astype(np.int8)
    options = {"fused_activation_function": draw(st.sampled_from(["NONE", "RELU", "RELU6"]))}
    return Case(tfl.Op("DIV", values, [y], options), (dividend, divisor), "tflm")


@given(st.lists(quotients(), min_size=CASES, max_size=CASES))
@quick
def test_quotients(cases: list[Case]) -> None:
    agree(cases)


def test_every_quotient_is_right_where_tflm_shifts_too_far() -> None:
    """All pairs of bytes at an output scale of 1/4 of the quotient's: within a step, x / 0 saturates."""
    values = [tfl.Value("a", (256, 1), "int8", 0.5, -3), tfl.Value("b", (1, 256), "int8", 0.25, 7)]
    y = tfl.Value("y", (256, 256), "int8", 0.5, 4)
    case = Case(tfl.Op("DIV", values, [y]), (BYTES.reshape(256, 1), BYTES), "")
    agree([case])
    made = interp.run(read_tflite.read(case.model, "case"), case.inputs)[0]
    with np.errstate(all="ignore"):
        real = (BYTES.reshape(256, 1).astype(float) + 3) * 0.5 / ((BYTES.astype(float) - 7) * 0.25) / 0.5 + 4
    wanted = np.clip(np.where(np.isnan(real), 4, real), -128, 127)
    assert np.abs(made - wanted).max() <= 1


@st.composite
def rows(draw: Any) -> Case:
    """Draw an L2_NORMALIZATION or LOG_SOFTMAX; rows of equal values often among them."""
    shape = (*sizes(draw, most=3), draw(st.integers(1, 40)))[-4:]
    name = draw(st.sampled_from(["L2_NORMALIZATION", "LOG_SOFTMAX"]))
    out = (1 / 128, 0) if name == "L2_NORMALIZATION" else (1 / 16, 127)
    x = tfl.Value("x", shape, "int8", draw(scales), draw(zeros))
    span = draw(st.sampled_from([0, 5, 127]))
    return Case(tfl.Op(name, [x], [tfl.Value("y", shape, "int8", *out)]), (int8(draw, shape, -span, span),))


@given(st.lists(rows(), min_size=CASES, max_size=CASES))
@quick
def test_rows(cases: list[Case]) -> None:
    agree(cases)


FUNCTIONS: dict[str, Callable[[float], float]] = {
    "CEIL": math.ceil,
    "COS": math.cos,
    "FLOOR": math.floor,
    "ROUND": round,
    "SIGN": lambda x: math.copysign(1, x) if x else 0,
    "SIN": math.sin,
    "SQUARE": lambda x: x * x,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tables_of_real_functions(name: str) -> None:
    """Neither runtime has these in int8: every byte is the nearest step to the real function."""
    source, target = (0.0625, -7), (0.03, 11)
    op = tfl.Op(
        name, [tfl.Value("x", (1, 256), "int8", *source)], [tfl.Value("y", (1, 256), "int8", *target)]
    )
    case = Case(op, (BYTES,), "")
    agree([case])
    made = interp.run(read_tflite.read(case.model, "case"), [BYTES])[0][0]
    real = np.array([FUNCTIONS[name]((int(x) + 7) * 0.0625) for x in BYTES[0]]) / np.float32(0.03) + 11
    assert np.abs(made - np.clip(real, -128, 127)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("exponent", [2.0, 0.5, -1.0, 3.0])
def test_powers(exponent: float) -> None:
    x, y = tfl.Value("x", (1, 256), "int8", 0.0625, -7), tfl.Value("y", (1, 256), "int8", 0.1, -20)
    case = Case(tfl.Op("POW", [x, tfl.constant("e", exponent, "float32")], [y]), (BYTES,), "")
    agree([case])
    made = interp.run(read_tflite.read(case.model, "case"), [BYTES])[0][0]
    with np.errstate(all="ignore"):
        real = (
            np.nan_to_num(((BYTES[0].astype(float) + 7) * 0.0625) ** exponent, nan=0.0) / np.float32(0.1) - 20
        )
    assert np.abs(made - np.clip(real, -128, 127)).max() <= 0.5 + 1e-4


X = of("x", (2, 6))


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (tfl.Op("DIV", [X, X], [tfl.Value("y", (2, 6), "int8", 1e-9)]), "out of proportion"),
        (tfl.Op("FLOOR_DIV", [X, X], [of("y", (2, 6))]), "no quantised meaning"),
        (tfl.Op("FLOOR_MOD", [of("a", (2,), "int16")] * 2, [of("y", (2,), "int16")]), "is int16"),
        (tfl.Op("L2_NORMALIZATION", [X], [of("y", (2, 6))]), "not 1/128"),
        (tfl.Op("LOG_SOFTMAX", [X], [of("y", (2, 6))]), "not 1/16"),
        (tfl.Op("POW", [X, tfl.constant("e", [1.0, 2.0], "float32")], [of("y", (2, 6))]), "2 exponents"),
    ],
)
def test_refusals(op: tfl.Op, complaint: str) -> None:
    graph = read_tflite.read(Case(op, ()).model, "net")
    with pytest.raises(ModelError, match=complaint):
        OPS[op.name].check(graph, graph.nodes[0])


@given(st.data())
@quick
def test_integers(data: st.DataObject) -> None:
    agree([integers(data.draw) for _ in range(CASES)])


def integers(draw: Any) -> Case:
    """Draw an op of int32 values, broadcast; sums and products often wrap."""
    name = draw(st.sampled_from(("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM")))
    shape, other = draw(
        st.sampled_from((((2, 3, 5), (2, 3, 5)), ((4, 3), (3,)), ((3, 1, 2), (4, 1)), ((7,), ())))
    )
    large = draw(st.sampled_from((9, 1 << 15)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    a, b = (rng.integers(-large, large, size).astype(np.int32) for size in (shape, other))
    left, right = tfl.Value("a", shape, "int32"), tfl.constant("b", b, "int32")
    y = tfl.Value("y", np.broadcast_shapes(shape, other), "int32")
    known = draw(st.booleans())
    if not known:
        right = tfl.Value("b", other, "int32")
    return Case(tfl.Op(name, [left, right], [y], {}, 2), (a,) if known else (a, b), "either")
