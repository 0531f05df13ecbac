"""tinygrad as another runtime of ONNX: answers against onnxruntime's, kernels through nvcc for sm_87."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from boards.errors import UserError
from kit import reference, tiny

onnx = pytest.importorskip("onnx", reason="needs the train extra")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the train extra")
pytest.importorskip("tinygrad", reason="needs the jetson extra")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a small convolution and product with pairs, for any number of inputs (2, 6, 5)."""
    from onnx import TensorProto, helper, numpy_helper

    monkeypatch.setenv("CACHEDB", str(tmp_path / "tinygrad.db"))
    rng = np.random.default_rng(0)
    values = {
        "k": rng.normal(size=(3, 2, 3, 3)).astype(np.float32),
        "s": np.array(0.05, np.float32),
        "z": np.array(0, np.int8),
        "shape": np.array([-1, 90], np.int64),
        "w": rng.normal(size=(90, 4)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Reshape", ["d", "shape"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    domains = [helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", 2)]  # as tf2onnx writes it
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


def test_it_answers_as_onnxruntime_does(model: Path) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    answer = tiny.reader(model, "PYTHON")
    rng = np.random.default_rng(1)
    for count in (1, 3, 1, 1, 3):  # what was compiled for one size is not used for another
        x = rng.normal(size=(count, 2, 6, 5)).astype(np.float32)
        (wanted,) = session.run(None, {"x": x})
        np.testing.assert_allclose(answer(x), wanted, rtol=1e-4, atol=1e-4)  # float32 sums of 90


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc (the CUDA toolkit)")
def test_its_kernels_compile_for_an_orin_without_a_gpu(model: Path) -> None:
    made = tiny.kernels(model, (2, 6, 5), "sm_87")
    assert made
    for kernel in made:
        assert "__global__" in kernel.source
        assert kernel.binary[:4] == b"\x7fELF"
        assert int.from_bytes(kernel.binary[18:20], "little") == 190  # EM_CUDA
    assert not any(
        word in kernel.source for kernel in made for word in ("dp4a", "mma")
    )  # as its docstring says
    with pytest.raises(UserError, match="nvcc refuses a kernel for sm_1"):
        tiny.kernels(model, (2, 6, 5), "sm_1")


def test_without_nvcc_it_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="nvcc is not installed"):
        tiny.kernels(model, (2, 6, 5), "sm_87")


def test_a_reference_runs_on_its_gpu_where_onnxruntime_has_none(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(1).normal(size=(2, 2, 6, 5)).astype(np.float32)
    before = reference.load(model)
    assert "onnxruntime" in before.facts.backend
    monkeypatch.setattr(tiny, "gpu", lambda: "PYTHON")
    after = reference.load(model)
    assert "tinygrad" in after.facts.backend
    np.testing.assert_allclose(reference.run(after, x), reference.run(before, x), rtol=1e-4, atol=1e-4)
