"""SVDF and LSTM layers against TFLM, run after run: numpy meaning, C on this machine, emulated boards."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_recurrent
import numpy as np
import pytest
import test_states
import tflite_writer as tfl
from conftest import VIRTUAL, earkit
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from firmware.compiler import build, interp, passes, read_tflite
from firmware.compiler.graph import Graph, ModelError
from firmware.compiler.plan import plan

Capture = pytest.CaptureFixture[str]
several = settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
few = settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))


@dataclass(frozen=True)
class Svdf:
    """The sizes and quantisations of an SVDF layer, and the seed of its weights."""

    batches: int = 1
    inputs: int = 7
    units: int = 3
    rank: int = 2
    memory: int = 5
    kind: str = "int16"
    zeros: tuple[int, int, int] = (-3, 11, 0)  # input, output, state
    scales: tuple[float, float, float, float, float] = (0.1, 0.01, 0.004, 0.002, 0.05)
    seed: int = 1

    def model(self) -> bytes:
        rng = np.random.default_rng(self.seed)
        filters = self.units * self.rank
        x_scale, f_scale, w_scale, s_scale, y_scale = self.scales
        x = tfl.Value("x", (self.batches, self.inputs), "int8", x_scale, self.zeros[0])
        y = tfl.Value("y", (self.batches, self.units), "int8", y_scale, self.zeros[1])
        features = rng.integers(-127, 128, (filters, self.inputs))
        limit = 127 if self.kind == "int8" else 4000
        weights = rng.integers(-limit, limit + 1, (filters, self.memory))
        bias_scale = float(np.float32(s_scale) * np.float32(w_scale))
        state = (self.batches, filters * self.memory)
        inputs = [
            x,
            tfl.constant("features", features, "int8", f_scale),
            tfl.constant("weights", weights, self.kind, w_scale),
            tfl.constant("bias", rng.integers(-3000, 3000, self.units), "int32", bias_scale),
            tfl.Value("state", state, self.kind, s_scale, self.zeros[2], variable=True),
        ]
        options = {"rank": self.rank, "fused_activation_function": "RELU"}
        return tfl.model([x], [tfl.Op("SVDF", inputs, [y], options, 3)], [], [y])


@dataclass(frozen=True)
class Lstm:
    """The sizes and quantisations of an LSTM layer, and the seed of its weights."""

    batches: int = 1
    steps: int = 4
    inputs: int = 6
    units: int = 5
    time_major: bool = False
    cell_power: int = -11
    clip: float = 0.0
    kind: str = "int8"
    zeros: tuple[int, int] = (-5, 9)  # input, hidden state
    scales: tuple[float, float, float] = (0.05, 0.0078125, 0.01)  # input, hidden state, weights
    seed: int = 1

    def op(self, **options: Any) -> tfl.Op:
        rng = np.random.default_rng(self.seed)
        outer = (self.steps, self.batches) if self.time_major else (self.batches, self.steps)
        x_scale, h_scale, w_scale = self.scales
        x = tfl.Value("x", (*outer, self.inputs), self.kind, x_scale, self.zeros[0])
        y = tfl.Value("y", (*outer, self.units), self.kind, h_scale, self.zeros[1])

        def matrix(name: str, columns: int) -> tfl.Value:
            data = rng.integers(-127, 128, (self.units, columns))
            return tfl.constant(name, data, "int8", w_scale * float(rng.uniform(0.5, 2)))

        inputs: list[tfl.Value | None] = [x]
        inputs += [matrix(f"w{i}", self.inputs) for i in range(4)]
        inputs += [matrix(f"r{i}", self.units) for i in range(4)]
        inputs += [None] * 3
        bias, scale = ("int32", 1) if self.kind == "int8" else ("int64", 256)
        inputs += [
            tfl.constant(f"b{i}", rng.integers(-2000, 2000, self.units) * scale, bias) for i in range(4)
        ]
        shape = (self.batches, self.units)
        hidden = tfl.Value("hidden", shape, self.kind, h_scale, self.zeros[1], variable=True)
        cell = tfl.Value("cell", shape, "int16", 2.0**self.cell_power, 0, variable=True)
        inputs += [None, None, hidden, cell, None, None, None, None]
        settings_of = {
            "fused_activation_function": "TANH",
            "cell_clip": self.clip,
            "time_major": self.time_major,
        }
        return tfl.Op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], {**settings_of, **options})

    def model(self, **options: Any) -> bytes:
        op = self.op(**options)
        assert op.inputs[0] is not None
        return tfl.model([op.inputs[0]], [op], [], op.outputs)


INT16 = Lstm(2, kind="int16", zeros=(0, 0), scales=(0.0003, 2.0**-15, 0.01))
small, zero = st.integers(1, 6), st.integers(-128, 127)
seeds = st.integers(0, 2**31)


def powers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda power: float(np.float32(np.exp(power))))


@st.composite
def svdfs(draw: Any) -> Svdf:
    kind = draw(st.sampled_from(["int16", "int8"]))
    state_zero = draw(st.integers(-100, 100)) if kind == "int8" else 0
    x, f = draw(powers(-4, 0)), draw(powers(-6, -2))
    fit = draw(powers(-3, 1))  # 1: the largest sums just fill the state
    inputs = draw(st.integers(1, 20))
    state = x * f * 128 * 128 * inputs * fit / (32767 if kind == "int16" else 127)
    w = draw(powers(-9, -6))
    # TFLM wants the scale of the bias, state * w, within 1e-5 of what is written; float32 keeps that
    return Svdf(
        draw(st.integers(1, 3)),
        inputs,
        draw(small),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 9)),
        kind,
        (draw(zero), draw(zero), state_zero),
        (x, f, w, state, draw(powers(-5, 1))),
        draw(seeds),
    )


@st.composite
def lstms(draw: Any) -> Lstm:
    kind = draw(st.sampled_from(["int8", "int16"]))
    fine = 0 if kind == "int8" else -5  # int16 has finer steps
    return Lstm(
        draw(st.integers(1, 3)),
        draw(small),
        draw(st.integers(1, 9)),
        draw(st.integers(1, 9)),
        draw(st.booleans()),
        draw(st.integers(-15, -8)),
        draw(st.sampled_from([0.0, 0.5, 4.0])),
        kind,
        (draw(zero), draw(zero)) if kind == "int8" else (0, 0),
        (draw(powers(-6 + fine, -1 + fine)), draw(powers(-6 + fine, -4 + fine)), draw(powers(-7, -3))),
        draw(seeds),
    )


def graph_of(model: bytes) -> Graph:
    return passes.run(read_tflite.read(model, "layer"))


def runs_of(graph: Graph, seed: int) -> list[list[np.ndarray]]:
    x = graph.tensors[graph.inputs[0]]
    rng, limits = np.random.default_rng(seed), np.iinfo(x.dtype)
    return [[rng.integers(limits.min, limits.max + 1, x.shape).astype(x.dtype)] for _ in range(5)]


def agree(layer: Svdf | Lstm) -> tuple[Graph, list[list[np.ndarray]]]:
    """Assert that five runs of the numpy meaning are those of TFLM; return the graph and the inputs."""
    graph = graph_of(layer.model())
    runs = runs_of(graph, layer.seed)
    made = test_states.our_runs(graph, runs)
    test_states.same(made, test_states.tflm_runs(layer.model(), runs, 1))
    return graph, runs


def c_agrees(layer: Svdf | Lstm) -> None:
    graph, runs = agree(layer)
    with tempfile.TemporaryDirectory() as folder:
        model = build.host_library(graph, plan(graph), Path(folder))
        for _ in range(2):
            test_states.same([model(inputs) for inputs in runs], test_states.our_runs(graph, runs))
            model.reset()


@several
@given(svdfs())
def test_svdf_is_tflms(layer: Svdf) -> None:
    agree(layer)


@several
@given(lstms())
def test_lstm_is_tflms(layer: Lstm) -> None:
    agree(layer)


@few
@given(svdfs())
def test_svdf_in_c(layer: Svdf) -> None:
    c_agrees(layer)


@few
@given(lstms())
def test_lstm_in_c(layer: Lstm) -> None:
    c_agrees(layer)


@pytest.mark.parametrize(
    "layer", [Svdf(), Svdf(kind="int8", zeros=(4, -9, 7)), Lstm(), Lstm(2, time_major=True), INT16]
)
def test_states_are_rewritten_in_place(layer: Svdf | Lstm) -> None:
    """No copy of a state lies in the arena."""
    graph = graph_of(layer.model())
    planned = plan(graph)
    for state in graph.states:
        assert planned.states[state.written] == planned.states[state.read]
    c_agrees(layer)


def test_a_batch_of_clips_starts_each_afresh() -> None:
    graph = graph_of(Lstm().model())
    x = np.concatenate([inputs[0] for inputs in runs_of(graph, 3)])
    made = interp.run_batch(graph, x)
    for one, y in zip(x, made, strict=True):
        np.testing.assert_array_equal(y, interp.run(graph, [one[None]])[0][0])


@pytest.mark.parametrize("board", VIRTUAL)
def test_on_every_board(board: str, tmp_path: Path, capsys: Capture) -> None:
    """An LSTM of odd sizes: rows of the .npy are steps of one sequence."""
    layer = Lstm(steps=3, inputs=10, units=7)
    graph, runs = agree(layer)
    (tmp_path / "m.tflite").write_bytes(layer.model())
    np.save(tmp_path / "x.npy", np.concatenate([inputs[0] for inputs in runs]))
    assert earkit(capsys, "compile", tmp_path / "m.tflite", "--board", board, "-o", tmp_path / "b")[0] == 0
    arguments = ("--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert earkit(capsys, "run", tmp_path / "b", *arguments)[0] == 0
    wanted = np.concatenate([made for (made,) in test_states.our_runs(graph, runs)])
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), wanted)


def with_input(op: tfl.Op, position: int, value: tfl.Value | None) -> bytes:
    inputs = list(op.inputs)
    inputs[position] = value
    assert inputs[0] is not None
    return tfl.model([inputs[0]], [tfl.Op(op.name, inputs, op.outputs, op.options)], [], op.outputs)


PLAIN = Lstm().op()
FIXED = tfl.constant("hidden", np.zeros((1, 5)), "int8", 0.0078125, 9)
REFUSED = {
    "peepholes": (with_input(PLAIN, 9, tfl.constant("p", np.ones(5), "int16", 0.1)), "it has peepholes"),
    "projection": (with_input(PLAIN, 16, tfl.constant("p", np.ones((5, 5)), "int8", 0.1)), "a projection"),
    "layer norm": (with_input(PLAIN, 20, tfl.constant("p", np.ones(5), "int16", 0.1)), "layer normalisation"),
    "activation": (Lstm().model(fused_activation_function="RELU"), "its activation is RELU"),
    "no variable": (with_input(PLAIN, 18, FIXED), "its state 'hidden' is not a variable"),
    "weights": (with_input(PLAIN, 3, tfl.constant("w", np.ones((5, 4)), "int8", 0.1)), "'w' is (5, 4)"),
}


@pytest.mark.parametrize(("model", "text"), REFUSED.values(), ids=REFUSED)
def test_what_it_cannot_do_is_named(model: bytes, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        graph_of(model)
    assert text in str(caught.value)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in str(caught.value)


@pytest.fixture(scope="module")
def keras_models(pytestconfig: pytest.Config) -> Path:
    """Give the folder of the models that tests/keras_recurrent.py makes; kept until the script changes."""
    pytest.importorskip("tensorflow", reason="needs TensorFlow to make the models")
    script = Path(__file__).with_name("keras_recurrent.py")
    key = hashlib.sha256(script.read_bytes()).hexdigest()[:16]
    folder = pytestconfig.cache.mkdir("keras_recurrent") / key
    if not (folder / "variable.tflite").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("name", ["gru", "variable"])
def test_what_tensorflow_makes_is_tflms(name: str, keras_models: Path, tmp_path: Path) -> None:
    """Before the passes every value is TFLM's; behind them tables may round once where TFLM rounds twice."""
    model = (keras_models / f"{name}.tflite").read_bytes()
    inlined, graph = passes.inline(read_tflite.read(model, name)).verify(), graph_of(model)
    assert len(graph.states) == (name == "variable")
    runs = runs_of(graph, 5)
    wanted = test_states.tflm_runs(model, runs, 1)
    test_states.same(test_states.our_runs(inlined, runs), wanted)
    made = test_states.our_runs(graph, runs)
    assert np.abs(np.subtract(made, wanted, dtype=np.int64)).max() <= 2
    compiled = build.host_library(graph, plan(graph), tmp_path)
    test_states.same([compiled(inputs) for inputs in runs], made)


def test_a_loop_of_keras_unrolls(keras_models: Path) -> None:
    """Its counters, conditions and indices are all known: nothing but the steps of the layer is left."""
    loop = read_tflite.read((keras_models / "loop.tflite").read_bytes(), "loop")
    assert "WHILE" in {node.op for node in loop.nodes}
    graph = passes.inline(loop).verify()
    kinds = [node.op for node in graph.nodes]
    assert kinds.count("TANH") == 2 * keras_recurrent.STEPS
    assert "LESS" not in kinds
    assert all(graph.tensors[i].constant for n in graph.nodes if n.op == "GATHER" for i in n.inputs[1:])
