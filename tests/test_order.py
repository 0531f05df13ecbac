"""The order of nodes: what is computed stays the same, and no more memory is needed, often less."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import tflite_writer as tfl
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.compiler import interp, passes, read_tflite
from firmware.compiler.graph import Graph
from firmware.compiler.order import order
from firmware.compiler.plan import plan

Q = (0.1, 3)


def wide(branches: int) -> Graph:
    """A net whose branches blow up and shrink again; exported breadth first, as converters like to."""
    x = tfl.Value("x", (1, 4, 4, 4), "int8", *Q)
    big = [tfl.Value(f"big{i}", (1, 4, 4, 64), "int8", *Q) for i in range(branches)]
    small = [tfl.Value(f"small{i}", (1, 4, 4, 4), "int8", *Q) for i in range(branches)]
    slide = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE"}
    rng = np.random.default_rng(0)

    def conv(source: tfl.Value, target: tfl.Value) -> tfl.Op:
        shape = (target.shape[3], 1, 1, source.shape[3])
        return tfl.Op(
            "CONV_2D",
            [source, tfl.constant(f"w of {target.name}", rng.integers(-127, 128, shape), "int8", 0.01)],
            [target],
            slide,
            3,
        )

    y = tfl.Value("y", (1, 4, 4, 4 * branches), "int8", *Q)
    join = {"axis": 3, "fused_activation_function": "NONE"}
    nodes = [*(conv(x, b) for b in big), *(conv(b, s) for b, s in zip(big, small, strict=True))]
    nodes.append(tfl.Op("CONCATENATION", small, [y], join, 2))
    return read_tflite.read(tfl.model([x], nodes, [], [y]), "wide")


def test_branches_run_one_after_the_other() -> None:
    given_order = wide(4)
    made = order(given_order)
    assert plan(given_order).arena >= 4 * 4 * 4 * 64
    assert (
        plan(made).arena <= 4 * 4 * (64 + 5 * 4) + 4 * 4 * 4
    )  # one wide branch, the input and the narrow ends
    x = np.random.default_rng(1).integers(-128, 128, (1, 4, 4, 4)).astype(np.int8)
    np.testing.assert_array_equal(interp.run(made, [x])[0], interp.run(given_order, [x])[0])


def test_an_order_that_cannot_be_bettered_is_kept() -> None:
    made = order(wide(4))
    assert order(made).nodes == made.nodes


@st.composite
def tangles(draw: Any) -> Graph:
    """Draw a graph of additions and reshapes of earlier values."""
    values = [tfl.Value("x", (1, 16), "int8", *Q)]
    nodes = []
    for i in range(draw(st.integers(3, 14))):
        a, b = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        y = tfl.Value(f"v{i}", (1, 16), "int8", *Q)
        nodes.append(
            tfl.Op("RESHAPE", [a, tfl.constant("s", [1, 16])], [y], {})
            if draw(st.booleans())
            else tfl.Op("ADD", [a, b], [y], {})
        )
        values.append(y)
    return passes.run(read_tflite.read(tfl.model(values[:1], nodes, [], [values[-1]]), "tangle"))


@given(tangles())
@settings(max_examples=40, deadline=None)
def test_drawn_graphs_mean_the_same_in_no_more_memory(graph: Graph) -> None:
    made = order(graph).verify()
    x = np.arange(16, dtype=np.int8).reshape(1, 16)
    np.testing.assert_array_equal(interp.run(made, [x])[0], interp.run(graph, [x])[0])
    assert plan(made).lower_bound <= plan(graph).lower_bound
    assert sorted(map(str, made.nodes)) == sorted(map(str, graph.nodes))


def test_a_long_chain_takes_no_time() -> None:
    values = [tfl.Value(f"v{i}", (1, 8), "int8", *Q) for i in range(1501)]
    nodes = [tfl.Op("ADD", [a, a], [b], {}) for a, b in itertools.pairwise(values)]
    graph = read_tflite.read(tfl.model(values[:1], nodes, [], values[-1:]), "chain")
    assert order(graph) == replace(graph)
