"""Symmetric Q/DQ ONNX of the shelf's models: the .tflite's own int8 weights, and LiteRT's answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from boards.errors import UserError
from firmware.compiler import read_tflite
from kit import shelf
from quantize import bundle as bundles
from quantize import symmetric
from quantize.bundle import EXPECTED, Bundle
from quantize.worker import Worker

onnx = pytest.importorskip("onnx", reason="needs the train extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the train extra")

NAMES = ("panns-micro-esc10", "tiny_transformer-micro-esc10", "conette-micro-esc10")
LEAST_DB = 20.0  # of outputs against LiteRT's int8 ones, which are themselves 23 to 31 dB from the float net
PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(("tensorflow", "tf2onnx")) as made:
        yield made


@pytest.fixture(scope="module", params=NAMES)
def both(request: Any, worker: Worker) -> tuple[Bundle, Any]:
    """Give a bundle and its ONNX."""
    bundle = bundles.load(shelf.find(request.param))
    return bundle, onnx.load_from_string(symmetric.quantise(bundle.model(), worker=worker))


def constants(model: Any) -> dict[str, np.ndarray]:
    return {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}


def answers(model: bytes, x: np.ndarray) -> np.ndarray:
    """Return what onnxruntime says of each input alone, nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: row[None]})[0] for row in x])


def test_tensorrt_can_take_it(both: tuple[Bundle, Any]) -> None:
    _, model = both
    values = constants(model)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 13)]
    ends = [(end.name, end.type.tensor_type.elem_type) for end in (*model.graph.input, *model.graph.output)]
    assert ends == [("features", onnx.TensorProto.FLOAT), ("logits", onnx.TensorProto.FLOAT)]
    makers = {output: node for node in model.graph.node for output in node.output}
    kinds = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} < kinds
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = values[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
            assert (values[node.input[1]] > 0).all()
        if node.op_type == "DequantizeLinear":
            assert makers[node.input[0]].op_type == "QuantizeLinear"
        if node.op_type in symmetric.PRODUCTS:
            for name in node.input[:2]:
                while makers[name].op_type in symmetric.MOVES:
                    name = makers[name].input[0]
                assert makers[name].op_type == "DequantizeLinear", f"{node.name} {name}"
            assert all(values[name].dtype == np.float32 for name in node.input[2:])  # biases


def test_its_weights_are_the_bundles_to_the_bit(both: tuple[Bundle, Any]) -> None:
    bundle, model = both
    values = constants(model)
    found = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in values:
            real, scale = values[node.input[0]], values[node.input[1]]
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            shape = [-1 if i == axis else 1 for i in range(real.ndim)] if scale.size > 1 else []
            step = real / scale.reshape(shape)
            assert np.abs(step - np.rint(step)).max() < 1e-4  # on the grid: no weight is rounded again
            found.append(np.rint(step).astype(np.int8))
    graph = read_tflite.read(bundle.model(), "m")
    wanted = [graph.tensors[node.inputs[1]].data for node in graph.nodes if node.op in PRODUCTS]
    as_sets = [sorted(np.sort(np.asarray(one).ravel()).tobytes() for one in side) for side in (found, wanted)]
    assert as_sets[0] == as_sets[1]  # axes differ, values do not


def test_onnxruntime_answers_as_litert_does(both: tuple[Bundle, Any]) -> None:
    bundle, model = both
    expected = bundle.arrays(EXPECTED)
    into, out = bundle.inputs[0], bundle.outputs[0]
    heard = (
        expected["inputs"].reshape(len(expected["inputs"]), -1).std(axis=1) > 0
    )  # the others are the edges
    x = into.real(expected["inputs"])[heard].reshape(-1, *into.shape[1:])
    wanted = out.real(expected["outputs"].reshape(len(heard), -1)[heard])
    said = answers(model.SerializeToString(), x)
    noise = ((said - wanted) ** 2).sum()
    assert 10 * np.log10((wanted**2).sum() / noise) > LEAST_DB
    assert noise > 0, "symmetric activations cannot give the same bits"
    clear = np.sort(wanted, axis=1)
    sure = clear[:, -1] - clear[:, -2] > 4 * out.scale
    assert (said.argmax(axis=1) == wanted.argmax(axis=1))[sure].all()


def test_int8_arithmetic_without_a_meaning_is_refused() -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.INT8, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", ends[:1], ends[1:])
    with pytest.raises(UserError, match="Abs of int8 values"):
        symmetric.rewritten(helper.make_model(graph))
