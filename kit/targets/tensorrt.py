"""TensorRT on another machine: a model as ONNX with checks goes there, becomes an engine, and is timed."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards import atomic
from boards.errors import UserError
from kit.progress import Progress, silent
from kit.targets import deploy, tegra, trtexec
from kit.targets.ssh import Remote
from quantize import cache

Floats = npt.NDArray[np.float32]
LEAST_DECIBEL = 15.0  # of the engine's answers against onnxruntime's; fp16 and fused pairs are above 20
CHECK = "python3 trtexec.py check >checking.json && mv checking.json checked.json"
BUILD_SECONDS = 1800.0
MEASURE_SECONDS = 300.0
LAYERS_KEPT = 40  # of the slowest
FULL = (".onnx", ".keras")  # references that TensorRT can run


def onnx(model: bytes, progress: Progress = silent) -> bytes:
    """Return the Q/DQ ONNX of an int8 .tflite; what was converted once is found again in the cache folder."""
    from quantize import symmetric

    code = Path(symmetric.__file__).read_bytes()
    digest = hashlib.sha256(model + code).hexdigest()[:24]
    kept = cache.place("onnx") / f"{digest}.onnx"
    if not kept.exists():
        progress("convert to ONNX", 0, 1)
        kept.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(kept, symmetric.quantise(model))
        progress("convert to ONNX", 1, 1)
    return kept.read_bytes()


def reference_onnx(path: Path) -> bytes:
    """Return a full-size model as ONNX with float ends."""
    if path.suffix == ".onnx":
        return path.read_bytes()
    import keras

    from quantize import export

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "full.onnx"
        export.float_onnx(keras.models.load_model(path, compile=False, safe_mode=True), out)
        return out.read_bytes()


def put(
    remote: Remote, name: str, model: bytes, inputs: Floats, int8: bool, progress: Progress = silent
) -> dict[str, Any]:
    """Deploy `model` as `name`, its engine built and checked there; return what the check says."""
    done = deploy.deploy(
        remote, name, files(model, inputs, int8), CHECK, patience=BUILD_SECONDS, progress=progress
    )
    return remote.record(f'cat "$HOME"/{done.folder}/checked.json')


def files(model: bytes, inputs: Floats, int8: bool) -> dict[str, bytes | Path]:
    """Return what is put there: the model, inputs, what onnxruntime says of them, and the program."""
    name, fixed, outputs = answers(model, inputs)
    job = {
        "sha256": hashlib.sha256(model).hexdigest(),
        "int8": int8,
        "input": name,
        "shape": list(inputs.shape[1:]),
        "open": not fixed,
        "outputs": [[float(value) for value in row] for row in outputs],
        "least_decibel": LEAST_DECIBEL,
    }
    windows = {f"input{i}.bin": row.astype("<f4").tobytes() for i, row in enumerate(inputs)}
    program = Path(trtexec.__file__)
    return {"model.onnx": model, "job.json": json.dumps(job).encode(), "trtexec.py": program, **windows}


def answers(model: bytes, inputs: Floats) -> tuple[str, bool, Floats]:
    """Return what onnxruntime says of each input alone (N, outputs), nothing fused.

    Before it the input's name, and whether its sizes are fixed.

    Raises:
        UserError: it has another number of inputs or outputs, a name that trtexec cannot take, or fails.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        fixed = all(isinstance(size, int) for size in session.get_inputs()[0].shape)
        ends = [end.name for end in (*session.get_inputs(), *session.get_outputs())]
        if len(ends) != 2 or re.search(r"[,:'\s]", ends[0]):
            raise UserError(f"TensorRT needs one plain input and one output; the ONNX has {', '.join(ends)}")
        rows = [session.run(None, {ends[0]: row[None]})[0].reshape(-1) for row in inputs]
    except UserError:
        raise
    except Exception as error:  # onnxruntime has many kinds
        raise UserError(f"onnxruntime does not run the model: {' '.join(str(error).split())[:160]}") from None
    return ends[0], fixed, np.stack(rows).astype(np.float32)


def timed(remote: Remote, name: str, progress: Progress = silent) -> dict[str, Any]:
    """Return what the engine of a deployment costs there; None for what a stand-in does not know.

    Raises:
        UserError: it is not there, or does not run.
    """
    if deploy.current(remote, name) is None:
        raise UserError(
            f"{remote.host} has no {name}: `earkit flash` with --host {remote.host} puts it there"
        )
    place = f'"$HOME"/{deploy.folder(name)}/current'
    progress("time TensorRT", 0, 1)
    done = remote.run(f"cd {place} && python3 trtexec.py measure", timeout=MEASURE_SECONDS)
    if done.rc:
        raise UserError(f"{remote.host}: {' '.join(done.words.split())[-300:]}")
    said = done.record(f"{remote.host}: `trtexec.py measure`")
    checked = remote.record(f"cat {place}/checked.json")
    progress("time TensorRT", 1, 1)
    return engine(said, checked)


def engine(said: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an engine from the logs of its measurement and of its check."""
    report = trtexec.parse(said["log"])
    latency, stats = report["latency"], tegra.stats(said["tegrastats"])
    watts = stats["watts"].get(stats["whole"])
    rate = report["throughput"]
    known = ("stand_in", "latency", "compute", "enqueue", "to_gpu", "from_gpu", "count", "warnings")
    return {
        "engine": "TensorRT",
        "version": report["version"],
        "origin": None if latency is None else "measured",
        "milliseconds": None if latency is None else latency["median"],
        "inferences_per_second": rate,
        "joules_per_inference": watts / rate if watts and rate else None,
        **{name: report[name] for name in known},
        "layers": layers(said["layers"]),
        "engine_bytes": checked["engine_bytes"],
        "build_seconds": checked["build_seconds"],
        "compared": checked["compared"],
        "stats": stats,
        "state": tegra.state(said["state"]),
    }


def layers(text: str | None) -> list[dict[str, Any]]:
    """Return name, milliseconds and share of the engine's slowest layers; none where it did not say."""
    try:
        rows: Sequence[Any] = json.loads(text or "[]")
        found: list[dict[str, Any]] = [
            {
                "name": str(row["name"]),
                "milliseconds": float(row["averageMs"]),
                "percent": float(row["percentage"]),
            }
            for row in rows
            if "name" in row
        ]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return []
    if not all(np.isfinite([row["milliseconds"], row["percent"]]).all() for row in found):
        return []
    return sorted(found, key=lambda row: float(row["milliseconds"]), reverse=True)[:LAYERS_KEPT]
