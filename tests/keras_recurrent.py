"""Makes recurrent models with TensorFlow, in a process of its own: python keras_recurrent.py FOLDER."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

STEPS, INPUTS, UNITS = 6, 6, 8


def main(folder: Path) -> None:
    """Write gru (int8, unrolled), loop (float, a WHILE) and variable (int8, with a variable), all .tflite."""
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    import keras

    keras.utils.set_random_seed(1)
    _write(folder / "gru", _exported(folder / "gru", keras.layers.GRU(UNITS, unroll=True)), whole=True)
    _write(folder / "loop", _exported(folder / "loop", keras.layers.LSTM(UNITS)), whole=False)
    _write(folder / "variable", _stepping(folder / "variable"), whole=True)


def _exported(folder: Path, layer: Any) -> tuple[int, ...]:
    import keras
    import tensorflow as tf

    shape = (1, STEPS, INPUTS)
    net = keras.Sequential([keras.Input(shape[1:], batch_size=1), layer, keras.layers.Dense(4)])
    archive = keras.export.ExportArchive()
    archive.track(net)
    signature = [tf.TensorSpec(shape, tf.float32, name="x")]
    archive.add_endpoint("serving_default", lambda x: net(x, training=False), signature)
    archive.write_out(str(folder), verbose=False)
    return shape


def _stepping(folder: Path) -> tuple[int, ...]:
    """Export one step of a plain recurrent layer that keeps its state in a variable."""
    import tensorflow as tf

    shape = (1, INPUTS)
    weights = np.random.default_rng(1).normal(0, 0.3, (INPUTS + UNITS, UNITS)).astype(np.float32)
    module = tf.Module()
    module.state = tf.Variable(tf.fill((1, UNITS), 0.25))

    def step(x: Any) -> Any:
        made = tf.tanh(tf.concat([x, module.state], 1) @ weights)
        module.state.assign(made)
        return made

    module.step = tf.function(step, input_signature=[tf.TensorSpec(shape, tf.float32, name="x")])
    tf.saved_model.save(module, str(folder), signatures=module.step)
    return shape


def _write(saved: Path, shape: tuple[int, ...], *, whole: bool) -> None:
    import tensorflow as tf

    def clips() -> Iterator[list[Any]]:
        rng = np.random.default_rng(2)
        return ([rng.normal(0, 1, shape).astype(np.float32)] for _ in range(32))

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=["serving_default"])
    converter.experimental_enable_resource_variables = saved.name == "variable"
    if whole:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = clips
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    saved.with_suffix(".tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
