"""Keras 3 to float .tflite and ONNX, through one named signature, in a worker process.

The signature is `serve`: input `features` float32 (1, frames, bands), output `logits` float32 (1, classes).
The batch is 1 because the device runs one window at a time and static shapes are what TFLM needs.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boards.atomic import write
from boards.errors import UserError
from quantize.worker import Worker, borrowed

SIGNATURE = "serve"
INPUT, OUTPUT = "features", "logits"
OPSET = 17
PRELOAD = ("keras", "tensorflow", "quantize.export")


def float_tflite(net: Any, path: Path, *, worker: Worker | None = None) -> None:
    """Write the Keras model `net` (one input, one output, batch first) as float .tflite to `path`.

    Raises:
        UserError: the net has several inputs or free dimensions, or the converter refuses it.
    """
    _convert(net, worker, tflite=path)


def float_onnx(net: Any, path: Path, *, worker: Worker | None = None) -> None:
    """Write the Keras model `net` as float ONNX (opset 17, static shapes); errors as float_tflite."""
    _convert(net, worker, onnx=path)


def both(net: Any, tflite: Path, onnx: Path, *, worker: Worker | None = None) -> None:
    """Write float .tflite and ONNX with one load of the net; errors as float_tflite."""
    _convert(net, worker, tflite=tflite, onnx=onnx)


def _convert(net: Any, worker: Worker | None, tflite: Path | None = None, onnx: Path | None = None) -> None:
    _check(net)
    with tempfile.TemporaryDirectory() as folder, borrowed(worker) as process:
        saved = Path(folder) / "net.keras"
        net.save(saved)
        process.call(
            "quantize.export",
            "convert",
            saved=str(saved),
            classes=_classes(net),
            tflite=None if tflite is None else str(tflite),
            onnx=None if onnx is None else str(onnx),
        )


def _check(net: Any) -> None:
    if len(net.inputs) != 1 or len(net.outputs) != 1:
        raise UserError(
            f"export needs one input and one output; {net.name} has {len(net.inputs)}, {len(net.outputs)}"
        )
    shape = tuple(net.inputs[0].shape)
    if None in shape[1:]:
        raise UserError(
            f"export needs fixed sizes; the input of {net.name} is {shape}: build it with frames and bands"
        )


def _classes(net: Any) -> list[list[str]]:
    """Return module and name of each layer class of ours in the net, which Keras must know to load it."""
    kinds = {type(layer) for layer in net._flatten_layers(include_self=True, recursive=True)}
    return sorted(
        [kind.__module__, kind.__name__] for kind in kinds if kind.__module__.split(".")[0] != "keras"
    )


def convert(saved: str, classes: Sequence[Sequence[str]], tflite: str | None, onnx: str | None) -> None:
    """Load a .keras file and write the asked formats. Runs in the worker."""
    import keras

    ours = {name: getattr(importlib.import_module(module), name) for module, name in classes}
    net = keras.models.load_model(saved, custom_objects=ours, compile=False, safe_mode=True)
    if tflite is not None:
        write(Path(tflite), _to_tflite(net))
    if onnx is not None:
        write(Path(onnx), _to_onnx(net))


def _specification(net: Any) -> Any:
    import tensorflow as tf

    return tf.TensorSpec((1, *net.inputs[0].shape[1:]), tf.float32, name=INPUT)


def _to_tflite(net: Any) -> bytes:
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(net)
    archive.add_endpoint(
        SIGNATURE,
        lambda features: {OUTPUT: net(features, training=False)},
        input_signature=[_specification(net)],
    )
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        model: bytes = converter.convert()
    return model


def _to_onnx(net: Any) -> bytes:
    import tensorflow as tf
    import tf2onnx

    function = tf.function(lambda features: {OUTPUT: net(features, training=False)})
    model, _ = tf2onnx.convert.from_function(function, input_signature=[_specification(net)], opset=OPSET)
    data: bytes = model.SerializeToString()
    return data
