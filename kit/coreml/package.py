"""`earkit export --as coreml`: the .mlpackage, verified by reading it back, and a Swift package beside it."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boards import atomic
from boards.errors import UserError
from firmware.compiler import frontend_emit
from kit import phone_app
from kit.detect import USUAL
from kit.outputs import room_for
from models import frontend
from quantize.worker import Worker

if TYPE_CHECKING:
    from quantize.bundle import Bundle

SUFFIX = ".mlpackage"
HERE = Path(__file__).parent
INCLUDED = ("hear.h", "listener.h", "model.h")  # what Swift sees
NEVER_RUN = "structure and weights verified, never executed: Core ML runs on Apple's systems only"


def export(source: Path, out: Path) -> dict[str, Any]:
    """Write the bundle `source` as the package `out`, beside it a Swift package; return what was verified.

    Raises:
        UserError: an op has no counterpart, `out` is no .mlpackage, or something else lies there.
        ModuleNotFoundError: coremltools is not installed.
    """
    from quantize import bundle as bundles

    if out.suffix != SUFFIX:
        raise UserError(
            f"{out}: a Core ML package is named NAME{SUFFIX}: give -o {out.name or 'model'}{SUFFIX}"
        )
    if source.suffix == ".tflite":
        raise UserError(f"{source}: a bare .tflite has no labels and no front end: give a bundle")
    room_for(out, folder=True)
    if out.exists() and not (out / "Manifest.json").exists() and any(out.iterdir()):
        raise UserError(f"{out} exists and is no Core ML package: choose another -o")
    swift = out.with_name(f"{out.stem}-swift")
    phone_app.check_folder(swift)
    bundle = bundles.load(source)
    app = phone_app.app(bundle, source)
    with tempfile.TemporaryDirectory(prefix="earkit-") as folder, Worker() as worker:
        record = _convert(worker, bundle, app, Path(folder))
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing_folder(out) as made:
            (Path(folder) / f"made{SUFFIX}" / "Data").rename(made / "Data")
            (Path(folder) / f"made{SUFFIX}" / "Manifest.json").rename(made / "Manifest.json")
    record = {"form": "coreml", "name": app.name, **record, "executed": False, "note": NEVER_RUN}
    phone_app.write(swift, _swift(app, out, record), record)
    return {**record, "swift": str(swift)}


def _convert(worker: Worker, bundle: Bundle, app: phone_app.App, folder: Path) -> dict[str, Any]:
    model, package = folder / "model.tflite", folder / f"made{SUFFIX}"
    model.write_bytes(bundle.model())
    facts = {
        "description": f"{app.name}: {bundle.task}, int8 weights of earkit",
        "licence": bundle.licence,
        "labels": json.dumps(bundle.labels),
        "sample_rate": str(bundle.sample_rate),
        "input_scale": repr(bundle.inputs[0].scale),
        "input_zero_point": str(bundle.inputs[0].zero_point),
        "output_scale": repr(bundle.outputs[0].scale),
        "output_zero_point": str(bundle.outputs[0].zero_point),
        "model_sha256": bundle.files["model.int8.tflite"],
    }
    into = {"model": str(model), "out": str(package), "name": app.name, "facts": facts}
    record: dict[str, Any] = worker.call("kit.coreml.convert", "convert", **into)
    return record | {"evaluated": _evaluate(worker, bundle, package, folder)}


def _evaluate(worker: Worker, bundle: Bundle, package: Path, folder: Path) -> dict[str, Any]:
    """Return how near the package, evaluated in numpy, comes to the int8 outputs that the bundle keeps."""
    inputs, wanted = bundle.expected()
    given, answers = folder / "inputs.npy", folder / "outputs.npy"
    shape, output = bundle.inputs[0].shape, bundle.outputs[0]
    fitting = inputs.size % math.prod(shape) == 0 and wanted[0].size == math.prod(output.shape)
    if not fitting:  # kept by hand, and of no clip
        return {"clips": 0, "equal": None, "largest_difference": None, "same_best": None}
    np.save(given, bundle.inputs[0].real(inputs.reshape(-1, *shape[1:])))
    names = {"package": str(package), "inputs": str(given), "outputs": str(answers)}
    worker.call("kit.coreml.convert", "run", **names)
    scores = np.load(answers, allow_pickle=False)
    steps = np.rint(scores / np.float32(output.scale)).astype(np.int64) + output.zero_point
    wanted = wanted.reshape(steps.shape).astype(np.int64)
    best = steps.reshape(len(steps), -1).argmax(1) == wanted.reshape(len(steps), -1).argmax(1)
    return {
        "clips": len(steps),
        "equal": float((steps == wanted).mean()),
        "largest_difference": int(np.abs(steps - wanted).max()),
        "same_best": int(best.sum()),
    }


def _swift(app: phone_app.App, out: Path, record: Mapping[str, Any]) -> dict[str, str]:
    values = _values(app, out, record)
    files = {
        "Package.swift": "Package.swift",
        "README.md": "README.md",
        "Sources/EarListener/Listener.swift": "Listener.swift",
    }
    made = {path: phone_app.filled(HERE / "swift" / name, values) for path, name in files.items()}
    sources = {name: phone_app.c_source(name) for name in (*phone_app.LISTENER, "ear.h")}
    sources |= {"model.h": _header(app), "model.c": _tables(app)}
    for name, text in sources.items():
        made[f"Sources/CEar/{'include/' if name in INCLUDED else ''}{name}"] = text
    return made


def _values(app: phone_app.App, out: Path, record: Mapping[str, Any]) -> dict[str, str]:
    source, target = app.bundle.inputs[0], app.bundle.outputs[0]
    evaluated, meant = record["evaluated"], app.meant
    return {
        "TITLE": app.name,
        "PACKAGE": out.name,
        "STEM": out.stem,
        "LABELS": app.strings.replace("\\$", "$"),
        "INPUT_SCALE": repr(float(np.float32(source.scale))),
        "INPUT_ZERO": str(source.zero_point),
        "OUTPUT_SCALE": repr(float(np.float32(target.scale))),
        "OUTPUT_ZERO": str(target.zero_point),
        "INPUT_SHAPE": ", ".join(map(str, source.shape)),
        "THRESHOLD": repr(USUAL.threshold),
        "HALF": repr((meant.fe.samples - meant.hop) / 2),
        "SAMPLES": str(meant.fe.samples),
        "HOP": str(meant.hop),
        "RATE": str(app.bundle.sample_rate),
        "CONSTANTS": str(record["int8_constants"]),
        "BYTES": f"{record['int8_bytes']:,}",
        "VALUES": str(record["int8_values"]),
        "CLIPS": str(evaluated["clips"]),
        "AGREEMENT": agreement(evaluated),
        "LICENCE": app.bundle.licence,
    }


def agreement(evaluated: Mapping[str, Any]) -> str:
    """Return in words how near the numpy evaluation comes to the host's int8 outputs."""
    if not evaluated["clips"]:
        return "the bundle keeps none that fit, so nothing was compared"
    return (
        f"{evaluated['equal']:.0%} of the outputs are equal to the host's int8, the largest difference is "
        f"{evaluated['largest_difference']} steps, the best label is the same in "
        f"{evaluated['same_best']} of {evaluated['clips']}"
    )


def _header(app: phone_app.App) -> str:
    source, target = app.bundle.inputs[0], app.bundle.outputs[0]
    declared = frontend_emit.declarations(frontend.tables(app.meant.fe), source.scale, source.zero_point)
    return (
        f"/* model.h: what front end and listener must know of {app.identifier}. */\n"
        '#ifndef EAR_MODEL_H\n#define EAR_MODEL_H\n\n#include <stdint.h>\n\n#include "hear.h"\n\n'
        f"#define EAR_INPUT_BYTES {int(np.prod(source.shape))}\n"
        f"#define EAR_OUTPUT_BYTES {int(np.prod(target.shape))}\n"
        "extern int8_t *const ear_input; /* the features that are due */\n"
        f"extern const ear_rules_t ear_rules; /* the kit's usual ones */\n\n{declared}\n#endif\n"
    )


def _tables(app: phone_app.App) -> str:
    return (
        f"/* model.c: the constants of the front end and of the events of {app.identifier}. */\n"
        '#include "model.h"\n\nstatic int8_t input[EAR_INPUT_BYTES];\nint8_t *const ear_input = input;\n'
        f"const ear_rules_t ear_rules = {app.rules};\n\n"
        f"{frontend_emit.constants(frontend.tables(app.meant.fe))}"
    )
