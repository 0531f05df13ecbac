"""Keras to float .tflite and ONNX: same numbers, a named signature, errors in one line; and the worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_nets
from small_nets import BANDS, CLASSES, FRAMES, samples

from boards.errors import UserError
from models import registry
from quantize import export, int8, qdq
from quantize.worker import Worker


@pytest.mark.parametrize("body", small_nets.BODIES)
def test_float_tflite_computes_what_keras_computes(body: str) -> None:
    x = samples(4, seed=1)
    wanted = small_nets.model(body).predict_on_batch(x)
    np.testing.assert_allclose(int8.run(small_nets.float_tflite(body), x), wanted, atol=1e-4, rtol=1e-4)


def test_signature_is_named_and_of_batch_one() -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=small_nets.float_tflite("attentive"))
    assert interpreter.get_signature_list() == {
        export.SIGNATURE: {"inputs": ["features"], "outputs": ["logits"]}
    }
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, FRAMES, BANDS]
    assert interpreter.get_output_details()[0]["shape"].tolist() == [1, CLASSES]


@pytest.mark.parametrize("name", registry.names())
def test_every_family_exports_to_both_formats(name: str) -> None:
    net, front, tflite, graph = small_nets.family(name)
    x = np.random.default_rng(0).normal(size=(2, front.frames, front.features)).astype(np.float32)
    wanted = net.predict_on_batch(x)
    np.testing.assert_allclose(int8.run(tflite, x), wanted, atol=1e-3)
    np.testing.assert_allclose(qdq.run(graph, x), wanted, atol=1e-3)
    onnx.checker.check_model(onnx.load_from_string(graph))


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    import keras

    first, second = keras.Input((2, 3)), keras.Input((2, 3))
    two = keras.Model([first, second], keras.layers.Dense(2)(first + second))
    free = keras.Input((None, 3))
    with pytest.raises(UserError, match="one input and one output"):
        export.float_tflite(two, tmp_path / "x.tflite")
    with pytest.raises(UserError, match="fixed sizes"):
        export.float_tflite(keras.Model(free, keras.layers.Dense(2)(free)), tmp_path / "x.tflite")
    assert not any(tmp_path.iterdir())


def test_a_place_that_is_not_there_is_the_users_error_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "no" / "net.tflite"
    with pytest.raises(FileNotFoundError):
        export.float_tflite(small_nets.model("attentive"), path, worker=small_nets.worker())
    assert not any(tmp_path.iterdir())


def test_worker_survives_a_crash_and_says_what_died() -> None:
    with Worker() as worker:
        with pytest.raises(UserError, match=r"os.abort: its process crashed \(signal 6\)"):
            worker.call("os", "abort")
        assert worker.call("math", "hypot") == 0.0  # a fresh process answers


def test_worker_that_hangs_is_ended() -> None:
    with Worker(limit_s=1.0) as worker, pytest.raises(UserError, match="did not end within 1 s"):
        worker.call("quantize.worker", "serve", preload=[])  # waits for input that never comes


def test_worker_passes_errors_and_ignores_what_libraries_print() -> None:
    with Worker() as worker:
        assert worker.call("builtins", "print") is None
        assert worker.call("os", "getpid") != 0
        with pytest.raises(IsADirectoryError):
            worker.call("os", "unlink", path="/")
        with pytest.raises(ModuleNotFoundError, match="no_such_module"):
            worker.call("no_such_module", "f")
        with pytest.raises(UserError, match="refused the model: TypeError"):
            worker.call("os", "getpid", wrong=1)


def test_worker_ignores_packages_of_the_current_folder(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("quantize", "boards", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')")
    monkeypatch.chdir(tmp_path)
    with Worker() as worker:
        assert worker.call("os", "getcwd") == str(tmp_path)
