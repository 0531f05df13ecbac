"""Convolutions, FULLY_CONNECTED, pools, PAD, SOFTMAX, RESHAPE: against TFLM and the C, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import strategies
import tflite_writer as tfl
from fused import fused, q8, same_in_c
from hypothesis import given, settings
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree

from firmware.compiler import fixed_point, interp, read_tflite
from firmware.compiler.graph import Graph, ModelError
from firmware.compiler.ops import OPS

some = settings(max_examples=5, deadline=None)


def lists(cases: st.SearchStrategy[Case]) -> st.SearchStrategy[list[Case]]:
    return st.lists(cases, min_size=CASES, max_size=CASES)


@given(lists(strategies.conv_2d()))
@some
def test_conv_2d(cases: list[Case]) -> None:
    agree(cases)


@given(lists(strategies.depthwise_conv_2d()))
@some
def test_depthwise_conv_2d(cases: list[Case]) -> None:
    agree(cases)


@given(lists(strategies.fully_connected()))
@some
def test_fully_connected(cases: list[Case]) -> None:
    agree(cases)


@given(lists(strategies.pools()))
@some
def test_pools(cases: list[Case]) -> None:
    agree(cases)


@given(lists(strategies.pads()))
@some
def test_pads(cases: list[Case]) -> None:
    agree(cases)


@given(lists(strategies.softmaxes()))
@some
def test_softmax(cases: list[Case]) -> None:
    agree(cases)


def test_a_flat_softmax_of_many_values_rounds_to_zero() -> None:
    """The sum of 600 equal exponentials moves every result 32 bits down, as wide as the word."""
    x, y = q8("x", (1, 600), 0.1), q8("y", (1, 600), 1 / 256, -128)
    graph = fused(tfl.model([x], [tfl.Op("SOFTMAX", [x], [y], {"beta": 1.0}, 2)], [], [y]))
    assert (interp.run(graph, [np.zeros((1, 600), np.int8)])[0] == -128).all()
    same_in_c(graph, 3)


def test_every_op_is_listed_under_its_name() -> None:
    for name, op in OPS.items():
        assert op.name == name
        assert op.__class__.__doc__
        assert len(op.versions) > 0


def reshape_graph(name: str, out: tuple[int, ...]) -> Graph:
    x, y = tfl.Value("x", (1, 2, 6), "int8", 0.1, 3), tfl.Value("y", out, "int8", 0.1, 3)
    shape = [tfl.constant("s", out)] if name != "SQUEEZE" else []
    return read_tflite.read(tfl.model([x], [tfl.Op(name, [x, *shape], [y])], [], [y]), "reshape")


@pytest.mark.parametrize(
    ("name", "out"), [("RESHAPE", (3, 4)), ("SQUEEZE", (2, 6)), ("EXPAND_DIMS", (1, 1, 2, 6))]
)
def test_reshape_keeps_the_bytes(name: str, out: tuple[int, ...]) -> None:
    graph = reshape_graph(name, out)
    x = np.arange(12, dtype=np.int8).reshape(1, 2, 6)
    np.testing.assert_array_equal(interp.run(graph, [x])[0], x.reshape(out))


def test_reshape_to_another_size_is_refused() -> None:
    graph = reshape_graph("RESHAPE", (3, 5))
    with pytest.raises(ModelError, match="RESHAPE"):
        OPS["RESHAPE"].check(graph, graph.nodes[0])


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
    st.integers(2**30, 2**31 - 1),
    st.integers(-31, 8),
)
@settings(max_examples=200, deadline=None)
def test_requantise_is_gemmlowp_with_double_rounding(xs: list[int], multiplier: int, shift: int) -> None:
    """The published definition in plain Python integers: round half up, then half away from zero."""

    def plain(x: int) -> int:
        wide = ((x << max(shift, 0)) + 2**31) % 2**32 - 2**31
        product = wide * multiplier
        nudge = 2**30 if product >= 0 else 1 - 2**30
        high = int(abs(product + nudge) // 2**31) * (1 if product + nudge >= 0 else -1)
        right = max(-shift, 0)
        rest, threshold = high & (2**right - 1), (2**right - 1 >> 1) + (high < 0)
        return (high >> right) + (rest > threshold)

    made = fixed_point.multiply_by_quantised_multiplier(np.array(xs), multiplier, shift)
    assert made.tolist() == [plain(x) for x in xs]


@pytest.mark.parametrize("real", [0.0, 1e-12, 0.5, 0.75, 1 - 2**-40, 1.0, 3.7, 1234.5])
def test_quantise_multiplier(real: float) -> None:
    multiplier, shift = fixed_point.quantise_multiplier(real)
    assert multiplier / 2**31 * 2.0**shift == pytest.approx(real, rel=1e-9, abs=2**-31)
    assert multiplier == 0 or 2**30 <= multiplier < 2**31


CONV = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "fused_activation_function": "NONE"}


def conv_graph(x: tfl.Value, w: tfl.Value, y: tfl.Value, **options: object) -> Graph:
    return read_tflite.read(
        tfl.model([x], [tfl.Op("CONV_2D", [x, w], [y], {**CONV, **options})], [], [y]), "m"
    )


X = tfl.Value("x", (1, 4, 4, 2), "int8", 0.1, 0)
W = tfl.constant("w", np.ones((3, 1, 1, 2)), "int8", 0.1)
Y = tfl.Value("y", (1, 4, 4, 3), "int8", 0.1, 0)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (conv_graph(X, tfl.constant("w", np.ones((3, 1, 1, 2)), "int8", 0.1, 4), Y), "asymmetric"),
        (
            conv_graph(X, tfl.constant("w", np.ones((3, 1, 1, 2)), "int8", [0.1, 0.2], axis=3), Y),
            "scale for each",
        ),
        (
            conv_graph(
                X, tfl.Value("w", (3, 1, 1, 2), "int8", 0.1, 0, 0, np.ones(6, np.int8)), Y, stride_h=0
            ),
            "stride",
        ),
        (conv_graph(X, W, Y, fused_activation_function="TANH"), "TANH"),
        (conv_graph(X, W, tfl.Value("y", (1, 5, 4, 3), "int8", 0.1, 0)), "rows, columns"),
        (conv_graph(X, W, tfl.Value("y", (1, 4, 4, 3), "float32")), "float32"),
        (conv_graph(X, tfl.constant("w", np.ones((3, 1, 1, 3)), "int8", 0.1), Y), "divide"),
    ],
)
def test_conv_that_cannot_be_compiled_says_why(graph: Graph, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        OPS["CONV_2D"].check(graph, graph.nodes[0])
    assert "\n" not in str(caught.value)
    assert "CONV_2D (version 1) 'y'" in str(caught.value)
