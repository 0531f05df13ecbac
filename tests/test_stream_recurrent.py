"""Streams of recurrent nets: LSTM layers, unrolled steps that are equal, and steps that are not."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.compiler import build, interp, passes, read_tflite
from firmware.compiler.graph import Array, Graph, ModelError
from firmware.compiler.order import order
from firmware.compiler.plan import plan
from firmware.compiler.stream import Streamed, prove, stream

ROWS, WIDTH = 12, 4
Q = (0.04, 3)
GATE, CANDIDATE = (1 / 256, -128), (1 / 128, 0)
RNG = np.random.default_rng(11)


@dataclass
class Unrolled:
    """A gated net over the rows of x, one small subgraph a row, as converters unroll it."""

    start: str = "zero"  # "zero": the state is a constant; "folded": the first step knows that it is zero
    take: str = "STRIDED_SLICE"  # how a row is taken
    joined: bool = True  # results of all steps side by side, else that of the last one
    odd: int = -1  # step whose state has another scale
    rows: int = ROWS
    nodes: list[tfl.Op] = field(default_factory=list)
    x: tfl.Value = field(init=False)

    def __post_init__(self) -> None:
        self.x = tfl.Value("x", (1, self.rows, WIDTH), "int8", *Q)
        self.recurrent, self.update, self.last = (self.matrix(n) for n in ("recurrent", "update", "last"))

    def matrix(self, name: str) -> tfl.Value:
        return tfl.constant(name, RNG.integers(-127, 128, (WIDTH, WIDTH)), "int8", 0.004)

    def add(
        self, name: str, inputs: list[tfl.Value], q: tuple[float, int] = Q, version: int = 1, **options: Any
    ) -> tfl.Value:
        shape = options.pop("shape", (1, WIDTH))
        made = tfl.Value(f"v{len(self.nodes)}", shape, "int8", *q)
        self.nodes.append(tfl.Op(name, inputs, [made], options, version))
        return made

    def taken(self) -> list[tfl.Value]:
        if self.take == "STRIDED_SLICE":
            return [self.slice(t) for t in range(self.rows)]
        shape = (1, WIDTH) if self.take == "UNPACK" else (1, 1, WIDTH)
        pieces = [tfl.Value(f"row{t}", shape, "int8", *Q) for t in range(self.rows)]
        if self.take == "UNPACK":
            self.nodes.append(tfl.Op("UNPACK", [self.x], pieces, {"num": self.rows, "axis": 1}))
            return pieces
        axis = tfl.constant("time", np.array(1), "int32")
        self.nodes.append(tfl.Op("SPLIT", [axis, self.x], pieces, {"num_splits": self.rows}))
        shape_of = tfl.constant("flat", [1, WIDTH])
        return [self.add("RESHAPE", [piece, shape_of]) for piece in pieces]

    def slice(self, t: int) -> tfl.Value:
        numbers = ([0, t, 0], [1, t + 1, WIDTH], [1, 1, 1])
        ranges = [tfl.constant(f"r{t}.{i}", value) for i, value in enumerate(numbers)]
        return self.add("STRIDED_SLICE", [self.x, *ranges], shrink_axis_mask=2)

    def step(self, t: int, row: tfl.Value, h: tfl.Value | None) -> tfl.Value:
        q = (0.05, 3) if t == self.odd else Q
        if h is None:
            fresh = self.add("TANH", [row], CANDIDATE)
            return self.add("MUL", [fresh, self.add("LOGISTIC", [row], GATE)], q)
        back = self.add("FULLY_CONNECTED", [h, self.recurrent], version=5)
        gate = self.add("LOGISTIC", [self.add("ADD", [row, back])], GATE)
        moved = self.add("FULLY_CONNECTED", [h, self.update], version=5)
        fresh = self.add("TANH", [self.add("ADD", [row, moved])], CANDIDATE)
        away = self.add("SUB", [h, fresh])
        return self.add("ADD", [fresh, self.add("MUL", [gate, away])], q)

    def graph(self) -> Graph:
        state = tfl.constant("h0", np.full((1, WIDTH), Q[1]), "int8", *Q)
        h: tfl.Value | None = None if self.start == "folded" else state
        made = []
        for t, row in enumerate(self.taken()):
            h = self.step(t, row, h)
            made.append(h)
        shape = (1, self.rows, WIDTH) if self.joined else (1, WIDTH)
        if self.joined:
            h = self.add("PACK", made, shape=shape, values_count=self.rows, axis=1)
        assert h is not None
        y = self.add("FULLY_CONNECTED", [h, self.last], version=5, shape=shape, keep_num_dims=True)
        return passes.unfused(read_tflite.read(tfl.model([self.x], self.nodes, [], [y]), "unrolled"))


def signal(rows: int) -> Array:
    return RNG.integers(-128, 128, (rows, WIDTH)).astype(np.int8)


def agrees_in_c(whole: Graph, made: Streamed, rows: Array, folder: Path) -> None:
    """Compare the stream's C with its meaning from hop to hop, and its end with the window."""
    graph = order(made.graph)
    states, told = interp.initial_states(graph), np.zeros(0)
    run = build.host_library(graph, plan(graph), folder)
    for start in range(0, len(rows), made.rows):
        hop = rows[None, start : start + made.rows]
        (wanted,), states = interp.step(graph, [hop], states)
        told = run([hop])[0]
        np.testing.assert_array_equal(told, wanted)
    whole_end = interp.run(whole, [rows[None]])[0].reshape(-1)
    np.testing.assert_array_equal(told.reshape(-1), whole_end[-told.size :])


@pytest.mark.parametrize("take", ["STRIDED_SLICE", "UNPACK", "SPLIT"])
@pytest.mark.parametrize("start", ["zero", "folded"])
@pytest.mark.parametrize("joined", [True, False])
def test_equal_steps_become_one_that_goes_on(take: str, start: str, joined: bool) -> None:
    graph = Unrolled(start=start, take=take, joined=joined).graph()
    for hop in (1, 3):
        made = stream(graph, hop)
        assert (made.remembers, made.outputs, made.stopped_by) == (True, hop if joined else 0, "")
        assert sum(node.op == "TANH" for node in made.graph.nodes) == hop + (start == "folded")
        assert made.macs < made.window_macs * (hop + 2) / ROWS
        for _ in range(3):
            assert prove(graph, made, signal(ROWS)) == 1


@pytest.mark.parametrize("start", ["zero", "folded"])
def test_their_c_equals_their_meaning(start: str, tmp_path: Path) -> None:
    graph = Unrolled(start=start).graph()
    agrees_in_c(graph, stream(graph, 2), signal(ROWS), tmp_path)


def test_a_state_that_is_a_known_zero_needs_no_first_step() -> None:
    ops = {start: [n.op for n in stream(Unrolled(start=start).graph(), 1).graph.nodes] for start in
           ("zero", "folded")}  # fmt: skip
    assert "SELECT_V2" not in ops["zero"]
    assert "SELECT_V2" in ops["folded"]


@pytest.mark.parametrize("odd", [1, 7, ROWS - 1])
def test_another_scale_in_one_step_is_said_and_runs_whole(odd: int) -> None:
    graph = Unrolled(odd=odd).graph()
    with pytest.raises(
        ModelError, match=rf"step {odd} has another scale than step {odd - 1} \(tensor 'v\d+'\)"
    ):
        stream(graph, 3)


def test_two_nets_one_behind_the_other() -> None:
    below, above = Unrolled(), Unrolled(start="folded")
    h = tfl.constant("h0", np.full((1, WIDTH), Q[1]), "int8", *Q)
    made = []
    for t, row in enumerate(below.taken()):
        h = below.step(t, row, h)
        made.append(h)
    middle = below.add("PACK", made, shape=(1, ROWS, WIDTH), values_count=ROWS, axis=1)
    above.x, above.nodes = middle, below.nodes
    g: tfl.Value | None = None
    for t in range(ROWS):
        ranges = [
            tfl.constant(f"s{t}.{i}", value)
            for i, value in enumerate(([0, t, 0], [1, t + 1, WIDTH], [1] * 3))
        ]
        row = above.add("STRIDED_SLICE", [middle, *ranges], shrink_axis_mask=2)
        g = above.step(t, row, g)
    assert g is not None
    graph = passes.unfused(read_tflite.read(tfl.model([below.x], above.nodes, [], [g]), "two"))
    streamed = stream(graph, 4)
    assert streamed.stopped_by == ""
    assert prove(graph, streamed, signal(ROWS)) == 1


def lstm(rows: int, time_major: bool, causal: bool) -> Graph:
    """Return a net of a filter along time, an LSTM and the last row of what it says."""
    x = tfl.Value("x", (1, rows, 1, WIDTH), "int8", *Q)
    size, before = 3, 2 if causal else 0
    nodes, made = [], x
    if causal:
        around = tfl.constant("around", np.array([[0, 0], [before, 0], [0, 0], [0, 0]]))
        made = tfl.Value("padded", (1, rows + before, 1, WIDTH), "int8", *Q)
        nodes.append(tfl.Op("PAD", [x, around], [made]))
    left = rows if causal else rows - size + 1
    weights = tfl.constant("filter", RNG.integers(-127, 128, (WIDTH, size, 1, WIDTH)), "int8", 0.003)
    y = tfl.Value("filtered", (1, left, 1, WIDTH), "int8", *Q)
    slide = {"padding": "VALID", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}
    nodes.append(tfl.Op("CONV_2D", [made, weights], [y], slide, 3))
    shape = (left, 1, WIDTH) if time_major else (1, left, WIDTH)
    into = tfl.Value("into", shape, "int8", *Q)
    nodes.append(tfl.Op("RESHAPE", [y, tfl.constant("shape", list(shape))], [into]))
    out = tfl.Value("hidden", shape, "int8", 1 / 128, 0)
    nodes.append(lstm_node(into, out, time_major))
    begin, end = ([left - 1, 0, 0], [left, 1, WIDTH]) if time_major else ([0, left - 1, 0], [1, left, WIDTH])
    ranges = [tfl.constant(n, v) for n, v in (("begin", begin), ("end", end), ("by", [1, 1, 1]))]
    last = tfl.Value("last", (1, WIDTH), "int8", 1 / 128, 0)
    nodes.append(
        tfl.Op("STRIDED_SLICE", [out, *ranges], [last], {"shrink_axis_mask": 1 if time_major else 2})
    )
    return passes.run(read_tflite.read(tfl.model([x], nodes, [], [last]), "lstm"))


def lstm_node(x: tfl.Value, y: tfl.Value, time_major: bool) -> tfl.Op:
    """Return an LSTM layer of as many units as y has channels."""
    depth, units = x.shape[2], y.shape[2]

    def weights(name: str, shape: tuple[int, int]) -> list[tfl.Value]:
        drawn = [RNG.integers(-127, 128, shape) for _ in range(4)]
        return [tfl.constant(f"{name}{i}", value, "int8", 0.01) for i, value in enumerate(drawn)]

    biases = [tfl.constant(f"b{i}", RNG.integers(-3000, 3000, units), "int32", 0.0004) for i in range(4)]
    states = [
        tfl.Value("h", (1, units), "int8", 1 / 128, 0, variable=True),
        tfl.Value("c", (1, units), "int16", 2.0**-11, 0, variable=True),
    ]
    inputs = [
        x,
        *weights("into", (units, depth)),
        *weights("back", (units, units)),
        None,
        None,
        None,
        *biases,
        None,
        None,
        *states,
        *[None] * 4,
    ]
    options = {"fused_activation_function": "TANH", "cell_clip": 10.0, "time_major": time_major}
    return tfl.Op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], options, 3)


@pytest.mark.parametrize("time_major", [False, True])
def test_an_lstm_goes_on_from_hop_to_hop(time_major: bool, tmp_path: Path) -> None:
    graph = lstm(12, time_major, causal=True)
    made = stream(graph, 3)
    assert (made.remembers, made.outputs, made.stopped_by) == (True, 0, "")
    rows = RNG.integers(-128, 128, (12, 1, WIDTH)).astype(np.int8)
    assert prove(graph, made, rows) == 1
    agrees_in_c(graph, made, rows, tmp_path)


def test_an_lstm_behind_a_filter_that_starts_empty_is_refused() -> None:
    with pytest.raises(
        ModelError, match="keeps a state while windows overlap: an earlier filter has not filled"
    ):
        stream(lstm(12, time_major=False, causal=False), 2)


@given(st.sampled_from(["zero", "folded"]), st.booleans(), st.integers(4, 9), st.integers(1, 3), st.data())
@settings(max_examples=25, deadline=None)
def test_drawn_recurrences_stream(start: str, joined: bool, hops: int, hop: int, data: st.DataObject) -> None:
    take = data.draw(st.sampled_from(["STRIDED_SLICE", "UNPACK", "SPLIT"]))
    graph = Unrolled(start=start, take=take, joined=joined, rows=hops * hop).graph()
    made = stream(graph, hop)
    assert made.stopped_by == ""
    assert prove(graph, made, signal(hops * hop)) == 1


def test_a_state_space_net_streams_as_one_scan_or_says_that_its_steps_differ(tmp_path: Path) -> None:
    pytest.importorskip("keras", reason="needs the extra [train]")
    import block_nets

    _, model = block_nets.quantised("state_space")
    x = RNG.integers(-128, 128, (block_nets.FRAMES, block_nets.BANDS)).astype(np.int8)
    graph = passes.run(read_tflite.read(model, "scan"))
    made = stream(graph, 7)
    assert made.stopped_by.startswith("MEAN")
    assert made.macs * 6 < made.window_macs
    assert prove(graph, made, x) == 1
    agrees_in_c(graph, made, x, tmp_path)
    steps = passes.unfused(read_tflite.read(model, "steps"))
    made = stream(steps, 7)
    assert "another scale than step" in made.stopped_by
    assert prove(steps, made, x) == 1
