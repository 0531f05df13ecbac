"""Relations, logic, arg-max, top-k, running sums and casts; all their types; against TFLM and LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, int8, quick, zeros
from typed_values import MOVED, broadcast, numbers, of, sizes

from firmware.compiler import interp, read_tflite
from firmware.compiler.graph import Array, ModelError
from firmware.compiler.ops import OPS
from firmware.compiler.ops.compare import RELATIONS

I32 = tfl.constant
fine = st.floats(-7, -0.01).map(lambda power: float(np.float32(np.exp(power))))  # TFLM stops at a scale of 1


@st.composite
def relations(draw: Any) -> Case:
    """Draw a comparison with broadcasting, equal values often among them, or logic."""
    a, b, target = broadcast(draw)
    name = draw(st.sampled_from([*RELATIONS, *RELATIONS, "LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"]))
    y = of("y", target, "bool")
    if name == "LOGICAL_NOT":
        return Case(tfl.Op(name, [of("a", target, "bool")], [y]), (numbers(draw, target, "bool"),))
    if name.startswith("LOGICAL"):
        values = [of("a", a, "bool"), of("b", b, "bool")]
        return Case(tfl.Op(name, values, [y]), (numbers(draw, a, "bool"), numbers(draw, b, "bool")))
    kinds = ["int8", "int8", "int16", "int32", "int64", "float32", "bool"]
    kind = draw(st.sampled_from(kinds if name in ("EQUAL", "NOT_EQUAL") else kinds[:-1]))
    data = [numbers(draw, shape, kind, -3, 3) for shape in (a, b)]
    if kind == "float32":
        data = [np.round(x) for x in data]
    values = [of("a", a, kind), of("b", b, kind)]
    if kind == "int8" and draw(st.booleans()):
        values = [tfl.Value(n, tuple(s), kind, draw(fine), draw(zeros)) for n, s in (("a", a), ("b", b))]
        data = [int8(draw, shape) for shape in (a, b)]
    return Case(tfl.Op(name, values, [y]), tuple(data), "" if kind == "int16" else "either")


@given(st.lists(relations(), min_size=CASES, max_size=CASES))
@quick
def test_relations(cases: list[Case]) -> None:
    agree(cases)


def test_a_comparison_of_coarse_scales_is_right() -> None:
    """Scales of 1 and more, where TFLM stops: the order of the real numbers."""
    every = np.arange(-128, 128, dtype=np.int8).reshape(256, 1)
    values = [tfl.Value("a", (256, 1), "int8", 1.0, 3), tfl.Value("b", (1, 256), "int8", 4.0, -7)]
    case = Case(tfl.Op("LESS", values, [of("y", (256, 256), "bool")]), (every, every.reshape(1, 256)), "")
    agree([case])
    made = interp.run(read_tflite.read(case.model, "case"), case.inputs)[0]
    wide = every.astype(int)
    np.testing.assert_array_equal(made, wide - 3 < (wide.T + 7) * 4)


@st.composite
def searches(draw: Any) -> Case:
    """Draw an ARG_MAX or ARG_MIN with either index type, or a TOPK_V2, with many equal values."""
    kind = draw(st.sampled_from(["int8", "int16", "int32", "float32"]))
    shape = sizes(draw, most=4)
    x = numbers(draw, shape, kind, -3, 3).round()
    if draw(st.booleans()):
        count = draw(st.integers(1, shape[-1]))
        outputs = [of(n, [*shape[:-1], count], t) for n, t in (("y", kind), ("i", "int32"))]
        return Case(tfl.Op("TOPK_V2", [of("x", shape, kind), I32("k", count)], outputs), (x,), "litert")
    index, axis = draw(st.sampled_from(["int32", "int64"])), draw(st.integers(-len(shape), len(shape) - 1))
    y = of("y", x.max(axis=axis).shape, index)
    op = tfl.Op(
        draw(st.sampled_from(["ARG_MAX", "ARG_MIN"])),
        [of("x", shape, kind), I32("axis", axis)],
        [y],
        {"output_type": tfl.TYPES[index]},
    )
    return Case(op, (x,), "" if kind == "int16" else "litert")


@given(st.lists(searches(), min_size=CASES, max_size=CASES))
@quick
def test_searches(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def sums(draw: Any) -> Case:
    """Draw a CUMSUM or ADD_N that TFLM can hold."""
    name, kind = draw(st.sampled_from(["CUMSUM", "ADD_N"])), draw(st.sampled_from(["int8", "int8", "int32"]))
    shape, scale = sizes(draw, most=4), draw(fine)
    quantised = (scale, 0) if kind == "int8" else (None, 0)
    out = (scale * draw(st.floats(0.1, 10)), draw(zeros)) if kind == "int8" else (None, 0)
    y = tfl.Value("y", tuple(shape), kind, *out)
    if name == "CUMSUM":
        axis = draw(st.integers(-len(shape), len(shape) - 1))
        options = {"exclusive": draw(st.booleans()), "reverse": draw(st.booleans())}
        inputs = [tfl.Value("x", tuple(shape), kind, *quantised), I32("axis", axis)]
        return Case(tfl.Op(name, inputs, [y], options), (numbers(draw, shape, kind),), "either")
    parts = [tfl.Value(f"x{i}", tuple(shape), kind, *quantised) for i in range(draw(st.integers(2, 5)))]
    return Case(tfl.Op(name, parts, [y]), tuple(numbers(draw, shape, kind) for _ in parts), "either")


@given(st.lists(sums(), min_size=CASES, max_size=CASES))
@quick
def test_sums(cases: list[Case]) -> None:
    agree(cases)


def test_a_sum_of_floats_in_order() -> None:
    rng = np.random.default_rng(3)
    data = [rng.normal(size=(3, 5)).astype(np.float32) for _ in range(3)]
    agree(
        [
            Case(
                tfl.Op(
                    "ADD_N", [of(f"x{i}", (3, 5), "float32") for i in range(3)], [of("y", (3, 5), "float32")]
                ),
                tuple(data),
            )
        ]
    )


@pytest.mark.parametrize("zero", [-128, 5, 127])
def test_a_long_running_sum_is_right(zero: int) -> None:
    """Zero-points and lengths that TFLM cannot sum: within half a step of the real sum, no wrap."""
    x = np.random.default_rng(1).integers(-128, 128, (1, 1000)).astype(np.int8)
    values = [tfl.Value("x", (1, 1000), "int8", 0.1, zero), I32("axis", 1)]
    case = Case(tfl.Op("CUMSUM", values, [tfl.Value("y", (1, 1000), "int8", 100.0, 1)]), (x,), "")
    agree([case])
    made = interp.run(read_tflite.read(case.model, "case"), case.inputs)[0]
    real = np.cumsum((x.astype(np.float64) - zero) * np.float32(0.1), axis=1) / 100 + 1
    assert np.abs(made - np.clip(real, -128, 127)).max() <= 0.5 + 1e-6


def casts() -> list[Case]:
    """Return a CAST of every pair of types."""
    generator = np.random.default_rng(2)
    cases = []
    for source in MOVED:
        for target in MOVED:
            x: Array = generator.integers(-300, 300, (5, 40))
            if target != "int8" and source == "float32":
                x = x / 2.0
            if source == "float32" and target in ("int8", "uint8"):
                x = np.clip(x / 3, 0 if target == "uint8" else -127, 127)
            x = x.astype(source)
            cases.append(
                Case(tfl.Op("CAST", [of("x", (5, 40), source)], [of("y", (5, 40), target)]), (x,), "either")
            )
    return cases


def test_casts() -> None:
    agree(casts())


def test_a_float_out_of_range_saturates() -> None:
    x = np.array(
        [[-np.inf, -3e38, -2147483904.0, 2147483648.0, 3e9, np.inf, np.nan, -0.99, 127.9]], np.float32
    )
    wanted = {
        "int8": [-128, -128, -128, 127, 127, 127, 0, 0, 127],
        "int32": [-(2**31)] * 3 + [2**31 - 1] * 3 + [0, 0, 127],
    }
    for kind, numbers_ in wanted.items():
        case = Case(tfl.Op("CAST", [of("x", (1, 9), "float32")], [of("y", (1, 9), kind)]), (x,), "")
        agree([case])
        assert interp.run(read_tflite.read(case.model, "case"), case.inputs)[0].tolist() == [numbers_]


X = of("x", (2, 6))


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (tfl.Op("LESS", [of("a", (2, 6), "bool")] * 2, [of("y", (2, 6), "bool")]), "is bool"),
        (tfl.Op("EQUAL", [X, of("b", (2, 5))], [of("y", (2, 6), "bool")]), "do not give"),
        (tfl.Op("EQUAL", [X, X], [of("y", (2, 6))]), "is int8"),
        (
            tfl.Op(
                "LESS", [of("a", (1,), "int16"), tfl.Value("b", (1,), "int16", 0.3)], [of("y", (1,), "bool")]
            ),
            "differ in type, scale",
        ),
        (tfl.Op("TOPK_V2", [X, I32("k", 7)], [of("y", (2, 7)), of("i", (2, 7), "int32")]), "7 largest"),
        (tfl.Op("CUMSUM", [X, I32("a", 2)], [of("y", (2, 6))]), "axis 2"),
        (tfl.Op("CUMSUM", [X, I32("a", 1)], [tfl.Value("y", (2, 6), "int8", 1e-8)]), "too fine"),
        (tfl.Op("ADD_N", [X, tfl.Value("b", (2, 6), "int8", 0.2)], [of("y", (2, 6))]), "chain of ADD"),
    ],
)
def test_refusals(op: tfl.Op, complaint: str) -> None:
    graph = read_tflite.read(Case(op, ()).model, "net")
    with pytest.raises(ModelError, match=complaint):
        OPS[op.name].check(graph, graph.nodes[0])
