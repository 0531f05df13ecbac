"""Small Keras nets with known weights, and one converter process for all tests of a run."""

from __future__ import annotations

import atexit
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FRAMES, BANDS, CLASSES = 12, 8, 5


@functools.cache
def worker() -> Any:
    """Return a converter process that ends with the test run."""
    from quantize import export
    from quantize.worker import Worker

    process = Worker(export.PRELOAD)
    atexit.register(process.close)
    return process


def samples(count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, FRAMES, BANDS)).astype(np.float32)


def net(body: Callable[[Any], Any], seed: int = 0) -> Any:
    """Return a model of `body`, from (batch, frames, bands) to logits, its weights set by `seed`."""
    import keras

    keras.utils.set_random_seed(seed)
    entry = keras.Input((FRAMES, BANDS), name="features")
    model = keras.Model(entry, keras.layers.Dense(CLASSES, name="logits")(body(entry)), name="small")
    rng = np.random.default_rng(seed)
    for variable in model.variables:  # biases and statistics that are not trivial
        if "moving_variance" in variable.path:
            variable.assign(rng.uniform(0.5, 2.0, variable.shape))
        elif len(variable.shape) == 1:
            variable.assign(rng.normal(size=variable.shape) * 0.2 + ("gamma" in variable.path))
    return model


def convolutional(x: Any) -> Any:
    from keras import layers, ops

    x = layers.Reshape((FRAMES, BANDS, 1))(x)
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, 2, padding="same", name="depthwise")(x)
    x = layers.AveragePooling2D(2)(x)
    x = ops.mean(x, axis=2)
    return ops.mean(x, axis=1) + ops.max(x, axis=1)


def attentive(x: Any) -> Any:
    from keras import layers, ops

    x = layers.Dense(16)(x)
    scores = ops.softmax(
        ops.matmul(layers.Dense(16)(x) * 0.25, ops.transpose(layers.Dense(16)(x), (0, 2, 1)))
    )
    x = x + ops.matmul(scores, layers.Dense(16)(x))
    d = x - ops.mean(x, axis=-1, keepdims=True)
    x = d * ops.rsqrt(ops.mean(d * d, axis=-1, keepdims=True) + 1e-6)
    return ops.mean(x * ops.sigmoid(1.702 * x), axis=1)


BODIES = {"convolutional": convolutional, "attentive": attentive}


@functools.cache
def model(body: str) -> Any:
    return net(BODIES[body])


@functools.cache
def float_tflite(body: str) -> bytes:
    """Return the float .tflite of one of BODIES."""
    import tempfile

    from quantize import export

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tflite"
        export.float_tflite(model(body), path, worker=worker())
        return path.read_bytes()


@functools.cache
def int8_tflite(body: str) -> bytes:
    from quantize import int8

    return int8.quantise(float_tflite(body), samples(64), worker=worker())


@functools.cache
def family(name: str) -> tuple[Any, Any, bytes, bytes]:
    """Return an untrained micro net of a family, its front end, its float .tflite and its ONNX."""
    import tempfile

    from models import registry
    from quantize import export

    made = registry.load(name)
    config = made.sizes["micro"]
    untrained = made.net(config, 7)
    with tempfile.TemporaryDirectory() as folder:
        tflite, onnx = Path(folder) / "net.tflite", Path(folder) / "net.onnx"
        export.both(untrained, tflite, onnx, worker=worker())
        assert sorted(path.name for path in Path(folder).iterdir()) == ["net.onnx", "net.tflite"]
        return untrained, made.frontend(config), tflite.read_bytes(), onnx.read_bytes()


def tflm(model: bytes, inputs: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Return the outputs (N, …) of TFLM's own interpreter for int8 inputs (N, …)."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model, arena_size=4_000_000)
    rows = []
    for row in inputs:
        interpreter.set_input(row[None], 0)
        interpreter.invoke()
        rows.append(interpreter.get_output(0)[0])
    return np.stack(rows)
