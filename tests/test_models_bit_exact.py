"""Somebody else's whole models: TFLM, our numpy and our C agree on every byte of every output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firmware.compiler import build, interp, passes, plan, read_tflite
from firmware.compiler.graph import Array, Graph
from models import frontend
from models.data import read_audio
from models.frontend import FrontEnd

RANDOM, REAL = 200, 50
# As the models were trained: 40 mel bands to 10 cepstra of 49 frames; 128 mel bands of 5 frames.
SPEECH = FrontEnd("mfcc", window=480, hop=320, bands=40, low_hz=20, high_hz=4000, coefficients=10, frames=49)
MACHINE = FrontEnd("logmel", window=1024, hop=512, fft=1024, bands=128, low_hz=0, high_hz=8000, frames=5)
DECIBEL_TO_NEPER = np.log(10) / 10


def speech(folder: Path) -> list[Array]:
    """Return MFCC features (49, 10) of spoken digits, in natural logarithms."""
    paths = _spread(sorted((folder / "data" / "fsdd").rglob("*.wav")))
    return [_features(path, SPEECH) * DECIBEL_TO_NEPER for path in paths]


def machines(folder: Path) -> list[Array]:
    """Return log-mel features (5, 128) of environmental sounds, in dB."""
    paths = _spread(sorted((folder / "data" / "esc10").rglob("*.ogg")))
    return [_features(path, MACHINE) for path in paths]


def _spread(paths: list[Path]) -> list[Path]:
    return paths[:: max(1, len(paths) // REAL)][:REAL]


def _features(path: Path, fe: FrontEnd) -> Array:
    samples = read_audio(path, fe.sample_rate)
    samples = np.pad(samples, (0, max(0, fe.samples - samples.size)))
    return frontend.to_float(frontend.features(samples[: fe.samples], fe))


MODELS: dict[str, Callable[[Path], list[Array]]] = {"kws_ref_model": speech, "ad01_int8": machines}


def quantised(graph: Graph, features: list[Array]) -> Array:
    """Return float features as int8 inputs of the graph (N, *input shape)."""
    tensor = graph.tensors[graph.inputs[0]]
    assert tensor.quantisation is not None
    scale, zero = tensor.quantisation.scale[0], tensor.quantisation.zero_point[0]
    steps = np.rint(np.stack(features) / scale) + zero
    return np.clip(steps, -128, 127).astype(np.int8).reshape(-1, *tensor.shape)


def tflm(model: bytes, x: Array) -> Array:
    """Return the outputs of the TFLM interpreter (N, …)."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model)
    outputs = []
    for one in x:
        interpreter.set_input(one, 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0)))
    return np.stack(outputs)


@pytest.fixture(scope="module", params=MODELS)
def trio(request: pytest.FixtureRequest, shared: Path) -> dict[str, Any]:
    """Give a model, 200 random and 50 real inputs, and TFLM's outputs."""
    path = shared / "models" / f"{request.param}.tflite"
    if not path.is_file() or not (shared / "data").is_dir():
        pytest.skip(f"no {path} or no data beside it")
    model = path.read_bytes()
    graph = passes.run(read_tflite.read(model, path.stem))
    shape = graph.tensors[graph.inputs[0]].shape
    random = np.random.default_rng(11).integers(-128, 128, (RANDOM, *shape)).astype(np.int8)
    random[0], random[1] = -128, 127
    real = quantised(graph, MODELS[request.param](shared))
    assert len(real) >= REAL
    x = np.concatenate([random, real])
    return {"graph": graph, "x": x, "wanted": tflm(model, x)}


def test_inputs_differ_and_reach_several_outputs(trio: dict[str, Any]) -> None:
    real, wanted = trio["x"][RANDOM:], trio["wanted"][RANDOM:]
    assert len({one.tobytes() for one in real}) >= REAL * 0.9
    assert len({one.tobytes() for one in wanted}) >= REAL * 0.5


def test_numpy_equals_tflm(trio: dict[str, Any]) -> None:
    np.testing.assert_array_equal(
        interp.run_batch(trio["graph"], trio["x"]), trio["wanted"].reshape(len(trio["x"]), -1)
    )


def test_one_clip_equals_the_batch(trio: dict[str, Any]) -> None:
    for one, wanted in zip(trio["x"][-3:], trio["wanted"][-3:], strict=True):
        np.testing.assert_array_equal(interp.run(trio["graph"], [one])[0], wanted)


def test_c_on_this_machine_equals_tflm(trio: dict[str, Any], tmp_path: Path) -> None:
    invoke = build.host_library(trio["graph"], plan.plan(trio["graph"]), tmp_path)
    for one, wanted in zip(trio["x"], trio["wanted"], strict=True):
        np.testing.assert_array_equal(invoke([one])[0], wanted)
