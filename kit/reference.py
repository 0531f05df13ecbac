"""The full-size reference on this machine's CPU or GPU: any .keras, .onnx or .tflite, or a net in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit import tiny
from kit.progress import Progress, silent
from quantize import speed
from quantize.silence import import_keras, native_silence
from quantize.speed import Facts

Floats = npt.NDArray[np.float32]
BATCH = 32


@dataclass(frozen=True)
class Reference:
    """A float model that answers on the host.

    `shape` is the input's without its batch axis, None where any size goes; `batches` tells whether more
    than one input may be given at once.
    """

    name: str
    shape: tuple[int | None, ...]
    answer: Callable[[Floats], Floats]
    facts: Facts
    batches: bool = True


def load(path: Path) -> Reference:
    """Return the model of a .keras, .onnx or .tflite file.

    Raises:
        UserError: it is not there, of another kind, or cannot be read.
        ModuleNotFoundError: its runtime belongs to an extra that is not installed.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such model file; a .keras, .onnx or .tflite is needed")
    reader = READERS.get(path.suffix)
    if reader is None:
        raise UserError(
            f"{path}: a .keras, .onnx or .tflite is needed, not {path.suffix or 'a name without an ending'}"
        )
    try:
        return reader(path)
    except (UserError, ModuleNotFoundError, MemoryError):
        raise
    except Exception as error:  # each runtime has its own errors for a broken file
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]}: {reason}") from None


def net(model: Any, name: str) -> Reference:
    """Return a Keras `model` in memory (logits out) as a reference."""
    shape = tuple(model.inputs[0].shape)[1:]
    return Reference(name, shape, lambda x: np.asarray(model.predict_on_batch(x), np.float32), facts(model))


def facts(model: Any) -> Facts:
    """Return what a Keras `model` is and runs on."""
    size = sum(int(np.prod(v.shape)) * np.dtype(v.dtype).itemsize for v in model.weights)
    return Facts(
        speed.keras_device(), speed.backend(), str(model.compute_dtype), int(model.count_params()), size
    )


def run(reference: Reference, x: Floats, progress: Progress = silent) -> Floats:
    """Return the outputs (N, …) for inputs `x` of shape (N, *shape), which are given in batches.

    Raises:
        UserError: the reference takes another shape, or says something that is not a number.
    """
    wanted, given = reference.shape, x.shape[1:]
    if len(wanted) != len(given) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
        sizes = tuple("any" if size is None else size for size in wanted)
        raise UserError(
            f"{reference.name}: takes inputs of {sizes}, the features here are {given}".replace("'", "")
        )
    step = BATCH if reference.batches else 1
    outputs = []
    for start in range(0, len(x), step):
        progress("reference", start, len(x))
        batch = np.ascontiguousarray(x[start : start + step], np.float32)
        outputs.append(reference.answer(batch).reshape(len(batch), -1))
    progress("reference", len(x), len(x))
    joined = np.concatenate(outputs)
    if not np.isfinite(joined).all():
        raise UserError(f"{reference.name}: {int((~np.isfinite(joined)).sum())} outputs are NaN or infinite")
    return joined


def timed(reference: Reference, x: Floats) -> dict[str, Any]:
    """Return how fast a reference answers on this machine: see quantize.speed.record."""
    one, many = (np.ascontiguousarray(x[:count], np.float32) for count in (1, BATCH))
    alone = speed.timed(lambda: reference.answer(one))
    if not reference.batches or len(many) == 1:
        return speed.record(reference.facts, alone)
    return speed.record(reference.facts, alone, speed.timed(lambda: reference.answer(many)), len(many))


def _tflite(path: Path) -> Reference:
    return tflite(path.read_bytes(), path.name)


def tflite(model: bytes, name: str) -> Reference:
    """Return a `.tflite` in memory as a reference on this CPU; int8 ends are scaled to float and back."""
    from ai_edge_litert.interpreter import Interpreter

    with native_silence():
        interpreter = Interpreter(model_content=model, num_threads=os.cpu_count())
        interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def answer(x: Floats) -> Floats:
        interpreter.set_tensor(into["index"], _scaled(x, into).reshape(into["shape"]))
        interpreter.invoke()
        return _unscaled(interpreter.get_tensor(out["index"]), out)

    facts = Facts(
        speed.cpu(), f"LiteRT {version('ai-edge-litert')}", into["dtype"].__name__, None, len(model)
    )
    return Reference(name, tuple(int(size) for size in into["shape"][1:]), answer, facts, batches=False)


def _scaled(x: Floats, detail: dict[str, Any]) -> npt.NDArray[Any]:
    scale, zero = detail["quantization"]
    if detail["dtype"] == np.float32:
        return x
    limits = np.iinfo(detail["dtype"])
    scaled: npt.NDArray[Any] = np.clip(np.round(x / scale) + zero, limits.min, limits.max).astype(
        detail["dtype"]
    )
    return scaled


def _unscaled(y: npt.NDArray[Any], detail: dict[str, Any]) -> Floats:
    scale, zero = detail["quantization"]
    return y if y.dtype == np.float32 else (y.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def _onnx(path: Path) -> Reference:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    into = session.get_inputs()[0]
    shape = tuple(size if isinstance(size, int) else None for size in into.shape)
    gpu = "CUDAExecutionProvider" in session.get_providers()
    backend = f"onnxruntime {onnxruntime.__version__}"

    def answer(x: Floats) -> Floats:
        return np.asarray(session.run(None, {into.name: x})[0], np.float32)

    other = None if gpu else tiny.gpu()
    if other is not None:
        backend = f"tinygrad {version('tinygrad')} {other}"
    dtype = into.type.removeprefix("tensor(").removesuffix(")").replace("float", "float32")
    return Reference(
        path.name,
        shape[1:],
        answer if other is None else tiny.reader(path, other),
        Facts(speed.gpu() if gpu or other else speed.cpu(), backend, dtype, None, path.stat().st_size),
        batches=shape[0] != 1,
    )


def _keras(path: Path) -> Reference:
    import_keras()
    import keras

    return net(keras.models.load_model(path, compile=False, safe_mode=True), path.name)


READERS: dict[str, Callable[[Path], Reference]] = {".tflite": _tflite, ".onnx": _onnx, ".keras": _keras}
