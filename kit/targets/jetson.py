"""A Jetson over SSH: what every Linux machine gets, and beside it the model as an engine of TensorRT.

The engine is built there, by that machine's own `trtexec`, from Q/DQ ONNX with the bundle's int8 weights
(quantize.symmetric). It is switched to when its answers agree with onnxruntime's here. A full-size model
given as ONNX or .keras runs there in the same way, so that both are timed by one program on one machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit.progress import Progress
from kit.targets import linux, release, tensorrt
from kit.targets.ssh import Remote

if TYPE_CHECKING:
    from firmware.compiler.program import Program
    from kit.measure import Test
    from kit.records import Run

Floats = npt.NDArray[np.float32]

connect = linux.connect


def flash(
    made: Program,
    port: str | None,
    tell: Callable[[str], None],
    progress: Progress,
    listen: str | None,
) -> dict[str, Any]:
    """Put the program there as on any Linux machine, then the engine.

    Raises:
        UserError: as of kit.targets.linux, or TensorRT is not there, refuses the model or computes something
            else: the engine before stays.
    """
    record = linux.flash(made, port, tell, progress, listen)
    inputs = _real(made, release.some_inputs(made))
    tell(f"{port}: trtexec builds the engine there, which takes minutes the first time")
    with Remote(str(port)) as remote:
        checked = tensorrt.put(
            remote, engine_name(made), tensorrt.onnx(made.model, progress), inputs, True, progress
        )
    took = "was there" if not checked["built"] else _seconds(checked["build_seconds"])
    tell(f"{port}: TensorRT {checked['tensorrt']}, engine of {checked['engine_bytes']:,} bytes, {took}")
    return {**record, "tensorrt": checked}


def measured(made: Program, run: Run, port: str | None, progress: Progress, test: Test | None) -> Run:
    """Return the run with the engine's times there, and beside them those of a reference that is a file.

    Raises:
        UserError: as of kit.targets.linux, or there is no engine, or one does not run there.
    """
    told = linux.measured(made, run, port, progress, test)
    assert told.profile is not None
    profile, notes = dict(told.profile), list(told.profile["notes"])
    if test is not None:
        profile |= _scored(profile, made, test, progress)
    with Remote(str(port)) as remote:
        engine = tensorrt.timed(remote, engine_name(made), progress)
        profile |= {"tensorrt": engine, **_energy(profile, engine)}
        full = profile.get("reference") or {}
        if test is not None and Path(full.get("file", "")).suffix in tensorrt.FULL:
            name = f"{linux.deployment(made)[:53]}-reference"
            model = tensorrt.reference_onnx(Path(full["file"]))
            tensorrt.put(remote, name, model, _features(test), False, progress)
            profile["reference"] = _there(full, tensorrt.timed(remote, name, progress), len(model))
        elif full:
            notes.append("the reference was not run there: give it with --against as .onnx or .keras")
    if engine["stand_in"]:
        notes.append("its trtexec is a stand-in: no figure of TensorRT is known")
    return replace(told, profile={**profile, "notes": notes})


def engine_name(made: Program) -> str:
    """Return the name of the deployment that holds the engine."""
    return f"{linux.deployment(made)[:55]}-tensorrt"


def _scored(profile: Mapping[str, Any], made: Program, test: Test, progress: Progress) -> dict[str, Any]:
    """Return the scores with that of the engine's ONNX, which onnxruntime runs here."""
    from kit.figures import measure_of
    from kit.profile import as_input

    metric = measure_of(profile).key
    x = _real(made, as_input(test.clips.windows.values, made.window))
    outputs = tensorrt.answers(tensorrt.onnx(made.model, progress), x)[2]
    scores = {**profile[metric], "host_onnx": test.clips.score(outputs)}
    return {metric: scores, "origins": {**profile["origins"], f"{metric}.host_onnx": "measured"}}


def _there(before: Mapping[str, Any], full: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the reference with its figures of that machine; those of the host stay beside them."""
    module = full["state"]["module"] or "the Jetson"
    mine = {
        "device": f"TensorRT {full['version']} on {module}",
        "backend": f"TensorRT {full['version']}",
        "dtype": "float16 allowed",
        "batch": 1,
        "model_bytes": before.get("model_bytes") or size,
        "milliseconds": full["milliseconds"],
        "latency": full["latency"],
        "windows_per_second": full["inferences_per_second"],
        "joules_per_inference": full["joules_per_inference"],
        "memory": {"host_bytes": full["stats"]["memory_bytes"], "gpu_bytes": None},
    }
    return {**before, **mine, "tensorrt": full, "on_the_host": dict(before)}


def _energy(profile: Mapping[str, Any], engine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the profile's energy: the whole module's while TensorRT ran; nothing where it is not known."""
    joules = engine["joules_per_inference"]
    if joules is None:
        return {}
    stats = engine["stats"]
    spent = {
        "source": f"tegrastats, {stats['whole']}",
        "by": "tegrastats",
        "inferences": engine["count"],
        "mean_watts": stats["watts"][stats["whole"]],
        "joules_per_inference": joules,
    }
    return {"energy": spent, "origins": {**profile["origins"], "energy": "measured"}}


def _real(made: Program, inputs: npt.NDArray[np.int8]) -> Floats:
    """Return the real numbers that int8 inputs of a build stand for."""
    into = made.window.tensors[made.window.inputs[0]]
    if into.dtype != "int8" or into.quantisation is None or len(made.window.inputs) != 1:
        raise UserError(f"{made.name}: TensorRT is for models with one int8 input")
    scale, zero = np.float32(into.quantisation.scale[0]), int(into.quantisation.zero_point[0])
    return ((inputs.astype(np.float32) - zero) * scale).reshape(len(inputs), *into.shape[1:])


def _features(test: Test) -> Floats:
    from models import frontend

    return frontend.to_float(test.clips.windows.values[: release.CHECKED])


def _seconds(seconds: float | None) -> str:
    return "built" if seconds is None else f"built in {seconds:.0f} s"
