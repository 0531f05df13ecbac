"""The arena: nothing alive at the same time overlaps, reshapes and in-place ops share, bounds are kept."""

from __future__ import annotations

import dataclasses
import itertools
import math
from operator import itemgetter
from pathlib import Path

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.compiler import build, interp, passes, read_tflite
from firmware.compiler.graph import Graph, Quantisation, Tensor
from firmware.compiler.ops import OPS, lowered
from firmware.compiler.placement import ALIGN
from firmware.compiler.plan import Plan, plan

Q = (0.1, 3)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph of additions, reshapes, softmaxes and pads over values that live for different times."""
    values = [tfl.Value("x", (1, draw(st.integers(1, 9)) * 4), "int8", *Q)]
    nodes = []
    for i in range(draw(st.integers(1, 9))):
        source = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["ADD", "RESHAPE", "PAD", "LOGISTIC"]))
        shape = source.shape
        extra: list[tfl.Value] = []
        if kind == "ADD":
            extra = [draw(st.sampled_from([v for v in values if v.shape == shape]))]
        if kind == "RESHAPE":
            shape = (shape[0] * 2, shape[1] // 2) if shape[1] % 2 == 0 else (1, shape[0] * shape[1])
            extra = [tfl.constant(f"s{i}", shape)]
        if kind == "PAD":
            before, after = draw(st.integers(0, 3)), draw(st.integers(0, 5))
            shape = (shape[0], shape[1] + before + after)
            extra = [tfl.constant(f"p{i}", [(0, 0), (before, after)])]
        q = (1 / 256, -128) if kind == "LOGISTIC" else (source.scale, source.zero_point)
        y = tfl.Value(f"y{i}", shape, "int8", *q)
        nodes.append(tfl.Op(kind, [source, *extra], [y]))
        values.append(y)
    return passes.run(read_tflite.read(tfl.model([values[0]], nodes, [], [values[-1]]), "drawn"))


def behind(graph: Graph, planned: Plan, step: int, writer: int, reader: int) -> float:
    """Return how far before the input at `reader` that node may write at `writer`, infinity for never."""
    node = graph.nodes[step]
    places = {"out0": planned.offsets.get(node.outputs[0]), "scratch": planned.scratch[step]}
    over = {} if OPS[node.op].alias else lowered(graph, node).over
    if planned.offsets.get(node.inputs[0]) != reader:
        return math.inf
    return min((n for name, n in over.items() if places[name] == writer), default=math.inf)


def check(graph: Graph, planned: Plan) -> None:
    """Assert the rules that every plan keeps."""
    assert planned.arena >= planned.lower_bound > 0
    assert len(planned.lifetimes) == len(graph.nodes) == len(planned.scratch)
    for step, alive in enumerate(planned.lifetimes):
        assert max(place + size for _, place, size in alive) <= planned.arena
        for (_, first, size), (_, second, _) in itertools.combinations(sorted(alive, key=itemgetter(1)), 2):
            assert first + size <= second or second - first >= behind(graph, planned, step, first, second)
    for index, offset in planned.offsets.items():
        assert offset % ALIGN == 0
        assert offset + graph.tensors[index].bytes <= planned.arena


@given(graphs())
@settings(max_examples=80, deadline=None)
def test_no_two_live_values_overlap(graph: Graph) -> None:
    check(graph, plan(graph))


@given(st.lists(graphs(), min_size=1, max_size=1))
@settings(max_examples=8, deadline=None)
def test_in_place_c_computes_what_numpy_computes(drawn: list[Graph]) -> None:
    """Reading a value after its memory was reused would show here: numpy shares nothing."""
    import tempfile

    graph = drawn[0]
    x = np.random.default_rng(4).integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
    with tempfile.TemporaryDirectory() as folder:
        made = build.host_library(graph, plan(graph), Path(folder))([x])
    np.testing.assert_array_equal(made, interp.run(graph, [x]))


def test_the_same_graph_gives_the_same_plan(kws_model: Path) -> None:
    graph = passes.run(read_tflite.read(kws_model.read_bytes(), "kws"))
    assert plan(graph) == plan(graph)
    check(graph, plan(graph))


@pytest.mark.parametrize(("name", "share"), [("kws_ref_model", 1.4), ("ad01_int8", 1.0)])
def test_real_models_come_near_the_lower_bound(shared: Path, name: str, share: float) -> None:
    """Outputs lie over inputs: kws takes less than its largest input and output together."""
    graph = passes.run(read_tflite.read((shared / "models" / f"{name}.tflite").read_bytes(), name))
    planned = plan(graph)
    assert planned.lower_bound <= planned.arena <= share * planned.lower_bound
    check(graph, planned)
    pairs = (sum(graph.tensors[i].bytes for i in (n.inputs[0], n.outputs[0])) for n in graph.nodes)
    assert planned.arena <= max(pairs)


def chain(kind: str) -> Graph:
    x, a, y = (tfl.Value(n, (1, 64), "int8", *Q) for n in "xay")
    if kind == "RESHAPE":
        a = tfl.Value("a", (8, 8), "int8", *Q)
        first = tfl.Op("RESHAPE", [x, tfl.constant("s", (8, 8))], [a])
    else:
        first = tfl.Op(kind, [x], [a], {})
        a = dataclasses.replace(a)
    last = tfl.Op("PAD", [a, tfl.constant("p", [(0, 0), (0, 0)])], [dataclasses.replace(y, shape=a.shape)])
    return passes.run(read_tflite.read(tfl.model([x], [first, last], [], last.outputs), "chain"))


@pytest.mark.parametrize("kind", ["RESHAPE", "RELU"])
def test_reshapes_and_elementwise_ops_share_memory(kind: str) -> None:
    graph = chain(kind)
    planned = plan(graph)
    node = graph.nodes[0]
    assert planned.offsets[node.inputs[0]] == planned.offsets[node.outputs[0]]
    assert planned.arena == planned.lower_bound == 128


def test_in_place_waits_for_the_last_reader() -> None:
    """The first ADD may not overwrite x while the second still wants x."""
    x, z, a, y = (tfl.Value(n, (1, 64), "int8", *Q) for n in "xzay")
    nodes = [tfl.Op("ADD", [x, z], [a]), tfl.Op("ADD", [a, x], [y])]
    graph = passes.run(read_tflite.read(tfl.model([x, z], nodes, [], [y]), "two readers"))
    planned = plan(graph)
    assert planned.offsets[graph.nodes[0].inputs[0]] != planned.offsets[graph.nodes[0].outputs[0]]


def test_a_broken_graph_is_named() -> None:
    tensor = Tensor("x", (1, 4), "int8", Quantisation(np.array([-1.0], np.float32), np.array([0], np.int32)))
    with pytest.raises(Exception, match="'x' has a scale that is not a positive number"):
        Graph((tensor,), (), (0,), (0,)).verify()
