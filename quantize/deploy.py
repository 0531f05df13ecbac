"""The trained net as files: float .tflite, int8 .tflite and Q/DQ ONNX; with QAT where PTQ loses too much."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import tasks, train
from models.train import Recipe
from quantize import export, int8, qdq
from quantize.prepare import Examples
from quantize.stages import Net, Progress, Work, named
from quantize.worker import Worker

Floats = npt.NDArray[np.float32]
TOLERANCE = 0.01  # of the score that PTQ may lose on the validation clips before QAT is tried


@dataclass(frozen=True)
class Files:
    """What deploys. `ptq` is the int8 model that QAT replaced, None where it did not; `qat` says why."""

    float_model: bytes
    int8_model: bytes
    onnx: bytes
    ptq: bytes | None
    qat: str


@dataclass(frozen=True)
class Converted:
    """One net's files, and its score (see models.tasks) on the validation clips in float and in int8."""

    float_model: bytes
    int8_model: bytes
    onnx: bytes
    float_score: float | None
    int8_score: float | None

    @property
    def loss(self) -> float:
        """Return what int8 loses on the validation clips; 0 where there are none."""
        return (self.float_score or 0.0) - (self.int8_score or 0.0)


def quantise(
    net: Net,
    build: Callable[[dict[str, Any]], Any],
    calibration: Floats,
    examples: Examples,
    *,
    recipe: Recipe,
    seed: int,
    work: Work,
    worker: Worker,
    progress: Progress,
) -> Files:
    """Return the files of `net`, by PTQ, or by QAT where PTQ loses over TOLERANCE on validation and QAT less.

    Args:
        net: trained; it is not changed.
        build: an untrained net of a Config.
        calibration: float32 (N, frames, features).
        examples: QAT trains on them, and their validation clips decide.
        recipe: of QAT.
        seed: of QAT.
        work: where the stages are kept.
        worker: runs the converters.
        progress: told about every stage.
    """
    progress("int8", 0, 1)
    plain = _stored(work, "int8", lambda: _convert(net.model, calibration, examples, worker))
    progress("int8", 1, 1)
    amount = tasks.of(examples.y).amount
    if plain.loss <= TOLERANCE:
        reason = "no validation clips" if plain.float_score is None else f"PTQ loses {amount(plain.loss)}"
        return _files(plain, None, f"not used: {reason} on validation")

    def tune() -> Net:
        copy = build(net.config)
        for variable, value in zip(copy.variables, net.model.variables, strict=True):
            variable.assign(value)
        tuned(copy, calibration, examples, recipe, seed, work.epochs("qat"), named(progress, "QAT"))
        return Net(copy, net.config)

    better = work.net("qat", build, tune)
    aware = _stored(work, "int8-qat", lambda: _convert(better.model, calibration, examples, worker))
    lost = amount((plain.float_score or 0.0) - (aware.int8_score or 0.0))
    fact = f"PTQ loses {amount(plain.loss)} on validation, int8 after QAT {lost}"
    if (aware.int8_score or 0.0) > (plain.int8_score or 0.0):
        return _files(aware, plain.int8_model, f"used: {fact}")
    return _files(plain, None, f"tried and dropped: {fact}")


def tuned(
    net: Any,
    calibration: Floats,
    examples: Examples,
    recipe: Recipe,
    seed: int,
    checkpoint: Path | None,
    progress: Progress,
) -> None:
    """Fine-tune `net` with int8 rounding; it learns the truth and its own float answers, half and half."""
    from quantize import qat

    task = tasks.of(examples.y)
    targets = task.own_targets(examples.y, train.predict(net, examples.x))
    rounded = qat.fake_quantised(net)
    rounded(calibration, training=True)  # sets the ranges
    train.fit(
        rounded,
        train.epochs_of(examples.x, targets, recipe, examples.versions),
        train.score(rounded, examples.validation),
        task.loss(),
        recipe=recipe,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )


def _files(converted: Converted, ptq: bytes | None, qat: str) -> Files:
    return Files(converted.float_model, converted.int8_model, converted.onnx, ptq, qat)


def _convert(net: Any, calibration: Floats, examples: Examples, worker: Worker) -> Converted:
    with tempfile.TemporaryDirectory() as folder:
        tflite, onnx = Path(folder) / "float.tflite", Path(folder) / "float.onnx"
        export.both(net, tflite, onnx, worker=worker)
        float_model, float_onnx = tflite.read_bytes(), onnx.read_bytes()
    model = int8.quantise(float_model, calibration, worker=worker)
    symmetric = qdq.quantise(float_onnx, calibration, worker=worker)
    if examples.validation is None:
        return Converted(float_model, model, symmetric, None, None)
    x, y = examples.validation
    scores = [tasks.of(y).score(outputs, y) for outputs in (train.predict(net, x), int8.run(model, x))]
    return Converted(float_model, model, symmetric, *scores)


def _stored(work: Work, stage: str, make: Callable[[], Converted]) -> Converted:
    """Keep a conversion as arrays of bytes."""
    blobs = ("float_model", "int8_model", "onnx")

    def packed() -> dict[str, npt.NDArray[Any]]:
        made = make()
        arrays: dict[str, npt.NDArray[Any]] = {}
        arrays.update({name: np.frombuffer(getattr(made, name), np.uint8) for name in blobs})
        if made.float_score is not None and made.int8_score is not None:
            arrays["score"] = np.array([made.float_score, made.int8_score])
        return arrays

    arrays = work.arrays(stage, packed)
    float_model, int8_model, onnx = (arrays[name].tobytes() for name in blobs)
    if "score" not in arrays:
        return Converted(float_model, int8_model, onnx, None, None)
    return Converted(float_model, int8_model, onnx, *(float(value) for value in arrays["score"]))
