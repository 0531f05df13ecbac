"""int8: nothing left float, ranges and scales as they must be, bit-exact in TFLM, near the float net."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_nets
from hypothesis import given, settings
from hypothesis import strategies as st
from small_nets import BANDS, FRAMES, samples

from boards.errors import UserError
from firmware.compiler import interp, passes, read_tflite
from models import registry
from quantize import calibrate, export, int8, qdq


def converted(net: Any, tmp_path: Path) -> bytes:
    export.float_tflite(net, tmp_path / "net.tflite", worker=small_nets.worker())
    return (tmp_path / "net.tflite").read_bytes()


def compare(float_model: bytes, model: bytes, x: Any) -> float:
    """Return the SQNR in dB of TFLM's int8 run against the float model; our interpreter must agree."""
    graph = passes.unfused(read_tflite.read(model, "model"))
    entry, end = (graph.tensors[index].quantisation for index in (graph.inputs[0], graph.outputs[0]))
    assert entry is not None
    assert end is not None
    q = np.clip(np.round(x / entry.scale[0]) + entry.zero_point[0], -128, 127).astype(np.int8)
    answers = small_nets.tflm(model, q)
    np.testing.assert_array_equal(interp.run_batch(graph, q).reshape(answers.shape), answers)
    real = (answers.astype(np.float64) - end.zero_point[0]) * end.scale[0]
    return int8.sqnr_db(int8.run(float_model, x), real)


@pytest.mark.parametrize("body", small_nets.BODIES)
def test_int8_is_near_float_in_tflm(body: str) -> None:
    model = small_nets.int8_tflite(body)
    int8.refuse_float(model)
    assert compare(small_nets.float_tflite(body), model, samples(30, seed=2)) > 28


@pytest.mark.parametrize("name", registry.names())
def test_every_family_is_int8_to_the_last_op(name: str) -> None:
    net, front, float_model, _ = small_nets.family(name)
    x = np.random.default_rng(0).normal(size=(32, front.frames, front.features)).astype(np.float32)
    model = int8.quantise(float_model, x, worker=small_nets.worker())
    islands = {layer.name for layer in net.layers if re.search(int8.ISLAND, f"{layer.name}/")}
    wide = [op for op in int8.operations(model) if not {"INT8", "INT32"}.issuperset(op.types)]
    homes = [next((layer for layer in islands if f"/{layer}" in op.output), "") for op in wide]
    assert set(homes) - {""} == islands  # what the net declares and no more
    around = {op.name for op, home in zip(wide, homes, strict=True) if not home}
    assert around <= ({"DEQUANTIZE"} if islands else set())  # into an island, named after who made it
    assert compare(float_model, model, x[:10]) > 20


def test_weights_are_per_channel_and_symmetric_activations_per_tensor() -> None:
    graph = read_tflite.read(small_nets.int8_tflite("convolutional"), "model")
    for node in graph.nodes:
        if node.op in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            weights, out = graph.tensors[node.inputs[1]], graph.tensors[node.outputs[0]]
            assert weights.quantisation is not None
            assert weights.quantisation.scale.size == 8  # output channels
            assert not weights.quantisation.zero_point.any()
            assert out.quantisation is not None
            assert out.quantisation.scale.size == 1


def test_ranges_are_the_smallest_and_the_largest_value() -> None:
    x = samples(64)
    graph = read_tflite.read(small_nets.int8_tflite("attentive"), "model")
    entry = graph.tensors[graph.inputs[0]].quantisation
    assert entry is not None
    assert entry.scale[0] == pytest.approx((x.max() - x.min()) / 255, rel=1e-3)  # no moving average


def test_maximum_stays_int8_and_loses_nothing() -> None:
    ops = int8.operations(small_nets.int8_tflite("convolutional"))
    assert [op.types for op in ops if op.name == "REDUCE_MAX"] == [("INT8", "INT32", "INT8")]
    assert [op.types for op in ops if op.name in ("QUANTIZE", "DEQUANTIZE")] == [("INT8", "INT8")]


def test_an_op_left_float_is_named(tmp_path: Path) -> None:
    from keras import layers, ops

    float_model = converted(small_nets.net(lambda x: ops.mean(ops.exp(layers.Dense(4)(x)), axis=1)), tmp_path)
    with pytest.raises(UserError, match=r"stay float.*EXP"):
        int8.quantise(float_model, samples(8), worker=small_nets.worker())


def test_a_float_model_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"ops stay float.*FULLY_CONNECTED"):
        int8.refuse_float(small_nets.float_tflite("attentive"))


def test_large_models_keep_their_weights_inside_the_flatbuffer(tmp_path: Path) -> None:
    from keras import layers

    def wide(x: Any) -> Any:
        return layers.Dense(520, activation="relu")(layers.Dense(600, activation="relu")(layers.Flatten()(x)))

    float_model = converted(small_nets.net(wide), tmp_path)
    model = int8.quantise(float_model, samples(16), worker=small_nets.worker())
    assert len(model) > 360_000
    assert compare(float_model, model, samples(5, seed=3)) > 24  # TFLM finds them


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        (np.zeros((0, FRAMES, BANDS), np.float32), "needs samples of shape"),
        (np.zeros(3, np.float32), "needs samples of shape"),
        (np.full((2, FRAMES, BANDS), np.nan, np.float32), "192 values that are NaN"),
        (np.full((2, FRAMES, BANDS), np.inf, np.float32), "NaN or infinite"),
        (np.zeros((2, FRAMES + 1, BANDS), np.float32), "refused the model"),
    ],
)
def test_bad_calibration_is_refused_in_one_line(calibration: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        int8.quantise(small_nets.float_tflite("attentive"), calibration, worker=small_nets.worker())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 10, 700])
def test_damaged_models_are_refused_and_the_next_call_works(cut: int) -> None:
    whole = small_nets.float_tflite("attentive")
    with pytest.raises(UserError):
        int8.quantise(whole[:cut], samples(4), worker=small_nets.worker())
    assert int8.quantise(whole, samples(64), worker=small_nets.worker()) == small_nets.int8_tflite(
        "attentive"
    )


def test_broken_weights_are_named_as_such(tmp_path: Path) -> None:
    from keras import layers

    net = small_nets.net(layers.Flatten())
    net.get_layer("logits").bias.assign(np.full(small_nets.CLASSES, np.nan))
    with pytest.raises(UserError, match=r"NaN or infinity|refused the model|crashed"):
        int8.quantise(converted(net, tmp_path), samples(4), worker=small_nets.worker())


@pytest.mark.parametrize("body", small_nets.BODIES)
def test_qdq_onnx_is_symmetric_and_near_float(body: str, tmp_path: Path) -> None:
    export.float_onnx(small_nets.model(body), tmp_path / "net.onnx", worker=small_nets.worker())
    source = (tmp_path / "net.onnx").read_bytes()
    model = qdq.quantise(source, samples(64), worker=small_nets.worker())
    parsed = onnx.load_from_string(model)
    onnx.checker.check_model(parsed)
    kinds = [node.op_type for node in parsed.graph.node]
    assert kinds.count("QuantizeLinear") >= 4
    qdq.refuse_asymmetric(parsed)
    assert parsed.opset_import[0].version == export.OPSET
    x = samples(30, seed=4)
    assert int8.sqnr_db(qdq.run(source, x), qdq.run(model, x)) > 20


def test_asymmetric_onnx_is_refused() -> None:
    from onnx import TensorProto, helper

    zero = helper.make_tensor("zero", TensorProto.INT8, [], [3])
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"], name="q")
    graph = helper.make_graph([node], "g", [], [], [zero])
    with pytest.raises(UserError, match="zero-point is not 0"):
        qdq.refuse_asymmetric(helper.make_model(graph))


@given(st.integers(1, 300), st.integers(1, 200), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_calibration_set_has_the_extremes_and_every_class(
    n: int, count: int, classes: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3, 2)).astype(np.float32)
    labels = rng.integers(0, classes, n)
    chosen = calibrate.choose(x, labels, count, seed=1)
    assert len(chosen) == min(n, count) == len(set(chosen.tolist()))
    np.testing.assert_array_equal(chosen, calibrate.choose(x, labels, count, seed=1))
    if count >= 16:
        assert x[chosen].max() == x.max()
        assert x[chosen].min() == x.min()
    if count >= 4 * classes + 16:
        assert set(labels[chosen]) == set(labels)


def test_calibration_set_needs_sound_features() -> None:
    with pytest.raises(UserError, match="at least one"):
        calibrate.choose(np.zeros((0, 3, 2), np.float32), np.zeros(0, int))
    with pytest.raises(UserError, match="NaN"):
        calibrate.choose(np.full((1, 3, 2), np.nan, np.float32), np.zeros(1, int))
