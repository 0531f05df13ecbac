"""Selective scans: exact, either way, with the right gradients; islands in int8, one kernel on a board."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boards
from firmware.compiler import build as compiler
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import device

pytest.importorskip("keras", reason="needs the extra [train]")

import keras
import small_nets

from models.blocks import scan, ssm
from quantize import export, int8, qdq

CHANNELS, STATES = 5, 4


def drawn(time: int, shared: bool) -> list[np.ndarray]:
    """Return Δ, u, B, C and A of three sequences."""
    rng = np.random.default_rng(time)
    wide, narrow = (3, time, CHANNELS), (3, time, STATES)
    rates = -rng.uniform(0.2, 3, STATES if shared else (CHANNELS, STATES))
    return [
        v.astype(np.float32)
        for v in (
            rng.uniform(0.01, 1, wide),
            rng.normal(size=wide),
            rng.normal(size=narrow),
            rng.normal(size=narrow),
            rates,
        )
    ]


def recurrence(delta: Any, u: Any, into: Any, out: Any, rates: Any, reverse: bool) -> np.ndarray:
    """Return y step by step in double precision, as Mamba's paper defines it."""
    h = np.zeros((len(u), CHANNELS, STATES))
    y = np.zeros(u.shape)
    times = range(u.shape[1])
    for t in reversed(times) if reverse else times:
        kept = np.exp(delta[:, t, :, None].astype(np.float64) * rates)
        h = kept * h + delta[:, t, :, None] * u[:, t, :, None] * into[:, t, None]
        y[:, t] = (h * out[:, t, None]).sum(-1)
    return y


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("time", "training"), [(1, False), (1, True), (37, False), (37, True), (150, False)])
def test_scan_is_the_recurrence(time: int, training: bool, reverse: bool, shared: bool) -> None:
    values = drawn(time, shared)
    y = scan.selective_scan(*values, reverse=reverse, training=training)
    np.testing.assert_allclose(np.asarray(y), recurrence(*values, reverse), atol=2e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_gradient_of_chunks_is_that_of_single_steps(shared: bool, reverse: bool) -> None:
    tf = pytest.importorskip("tensorflow")
    values = drawn(37, shared)
    weight = np.random.default_rng(1).normal(size=values[1].shape).astype(np.float32)
    slopes = []
    for training in (True, False):
        inputs = [tf.constant(v) for v in values]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = scan.selective_scan(*inputs, reverse=reverse, training=training)
            loss = tf.reduce_sum(y * weight)
        slopes.append(tape.gradient(loss, inputs))
    for chunks, steps in zip(*slopes, strict=True):
        np.testing.assert_allclose(chunks, steps, atol=1e-4)


def encoder(directions: Any, width: int = 16, depth: int = 2) -> ssm.Encoder:
    return ssm.Encoder(width, ssm.uniform(width, depth, states=STATES, rank=2), directions, "shared")


def encoded(directions: Any, frames: int = 12) -> Any:
    keras.utils.set_random_seed(0)
    entry = keras.Input((frames, 16))
    return keras.Model(entry, ssm.encode(entry, encoder(directions)))


def test_one_way_never_sees_what_comes_later() -> None:
    x = np.random.default_rng(0).normal(size=(2, 12, 16)).astype(np.float32)
    x[1, :7] = x[0, :7]
    changed = {d: np.asarray(encoded(d)(x)) for d in ("forward", "both")}
    one, other = changed["forward"]
    np.testing.assert_array_equal(one[:7], other[:7])
    assert np.abs(one[7:] - other[7:]).min(axis=-1).max() > 0
    one, other = changed["both"]
    assert (np.abs(one - other).max(axis=-1) > 1e-6).all()


def test_both_ways_treat_a_reversed_sequence_alike() -> None:
    net = encoded("both")
    rng = np.random.default_rng(1)
    named = {f"{layer.name}/{v.name}": v for layer in net.layers for v in layer.weights}
    for v in named.values():
        v.assign(rng.normal(size=v.shape) * 0.3)
    for name, v in named.items():  # layer 2 is layer 1, its filters turned round
        if name.startswith("layer2"):
            value = np.asarray(named["layer1" + name.removeprefix("layer2")])
            v.assign(value[::-1] if name.endswith("conv/kernel") else value)
    x = rng.normal(size=(1, 12, 16)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(net(x[:, ::-1]))[:, ::-1], np.asarray(net(x)), atol=1e-5)


def body(directions: Any) -> Any:
    return lambda x: keras.ops.mean(ssm.encode(keras.layers.Dense(16)(x), encoder(directions)), axis=1)


@functools.cache
def models(directions: Any) -> tuple[bytes, bytes, bytes]:
    """Return float .tflite, int8 .tflite and float ONNX of a small net of two layers."""
    with tempfile.TemporaryDirectory() as folder:
        tflite, onnx = Path(folder) / "net.tflite", Path(folder) / "net.onnx"
        export.both(small_nets.net(body(directions)), tflite, onnx, worker=small_nets.worker())
        model = tflite.read_bytes()
        quantised = int8.quantise(model, small_nets.samples(64), worker=small_nets.worker())
        return model, quantised, onnx.read_bytes()


@functools.cache
def built(directions: Any) -> Build:
    folder = tempfile.mkdtemp()
    board = boards.load("virtual-m7")
    return compiler.compile_model(models(directions)[1], board, Path(folder) / "built", name="scan")


@pytest.mark.parametrize("directions", ["forward", "both"])
def test_scans_stay_float_and_all_else_is_int8(directions: Any) -> None:
    float_model, model, _ = models(directions)
    int8.refuse_float(model)
    inside = [op for op in int8.operations(model) if "FLOAT32" in op.types]
    scans = {op.name for op in inside if f"_scan{ssm.ISLAND}" in op.output}
    assert scans >= {"EXP", "LOG", "ADD", "MUL", "SUM", "QUANTIZE"}
    norm = {op.name for op in inside if f"final_norm{ssm.ISLAND}" in op.output}
    assert norm >= {"MEAN", "RSQRT", "MUL", "QUANTIZE"}
    assert not scans & {"FULLY_CONNECTED", "DEPTHWISE_CONV_2D", "MEAN", "RSQRT", "LOGISTIC"}
    assert not norm & {"FULLY_CONNECTED", "DEPTHWISE_CONV_2D", "EXP", "LOG", "LOGISTIC"}
    around = {op.name for op in inside if ssm.ISLAND not in op.output}
    assert around == {"DEQUANTIZE"}  # what goes into an island, named after who made it
    x = small_nets.samples(20, seed=2)
    assert int8.sqnr_db(int8.run(float_model, x), int8.run(model, x)) > 25


def test_float_outside_an_island_is_refused() -> None:
    net = small_nets.net(lambda x: keras.ops.exp(body("forward")(x)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tflite"
        export.float_tflite(net, path, worker=small_nets.worker())
        with pytest.raises(int8.UserError, match=r"1 ops stay float.*EXP"):
            int8.quantise(path.read_bytes(), small_nets.samples(16), worker=small_nets.worker())


@pytest.mark.parametrize("directions", ["forward", "both"])
def test_an_island_becomes_one_kernel(directions: Any) -> None:
    graph = built(directions).graph
    ops = [node.op for node in graph.nodes]
    assert ops.count("EAR_SCAN") == (2 if directions == "forward" else 4)
    assert not [op for op in ops if op.startswith("EAR_FLOAT")]
    made = {graph.tensors[i].dtype for node in graph.nodes for i in node.outputs}
    assert made == {"int8"}


def entry(graph: Any, x: np.ndarray) -> np.ndarray:
    q = graph.tensors[graph.inputs[0]].quantisation
    return np.clip(np.round(x / q.scale[0]) + q.zero_point[0], -128, 127).astype(np.int8)


@pytest.mark.parametrize("directions", ["forward", "both"])
def test_the_kernel_is_as_near_to_float_as_the_island(directions: Any) -> None:
    float_model, model, _ = models(directions)
    graph, x = built(directions).graph, small_nets.samples(20, seed=3)
    q = graph.tensors[graph.outputs[0]].quantisation
    assert q is not None
    made = interp.run_batch(graph, entry(graph, x)).reshape(len(x), -1)
    wanted = int8.run(float_model, x)
    near = int8.sqnr_db(wanted, (made.astype(np.float64) - q.zero_point[0]) * q.scale[0])
    assert near > int8.sqnr_db(wanted, int8.run(model, x)) - 1.5


@pytest.mark.parametrize("directions", ["forward", "both"])
def test_the_board_computes_what_the_host_does(directions: Any) -> None:
    build = built(directions)
    with device.open(build, None) as board:
        for x in entry(build.graph, small_nets.samples(2, seed=4)):
            wanted = interp.run(build.graph, [x[None]])[0].ravel()
            np.testing.assert_array_equal(board.infer(x[None]), wanted)


def test_islands_have_no_pairs_in_onnx() -> None:
    import onnx

    float_model, _, source = models("forward")
    model = qdq.quantise(source, small_nets.samples(64), worker=small_nets.worker())
    nodes = onnx.load_from_string(model).graph.node
    made = {output: node for node in nodes for output in node.output}
    inside = [node for node in nodes if node.op_type == "Exp"]
    assert inside
    for node in inside:
        assert "DequantizeLinear" not in {made[i].op_type for i in node.input if i in made}
    x = small_nets.samples(20, seed=5)
    assert int8.sqnr_db(int8.run(float_model, x), qdq.run(model, x)) > 25


@pytest.mark.parametrize("directions", ["forward", "both"])
def test_groups_remove_channels_and_states(directions: Any) -> None:
    fields = {group.field: group for group in ssm.encoder_groups(encoder(directions), "encoder")}
    assert set(fields) == {f"encoder.layers.{i}.{part}" for i in (0, 1) for part in ("inner", "states")}
    assert (fields["encoder.layers.0.inner"].units, fields["encoder.layers.0.states"].units) == (32, STATES)
