"""What a Linux machine gets: the program, the model, the runner with what it imports, its wheels, checks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import kit
from kit import profile
from kit.runner.about import CHECKS, MODEL, PROGRAM, RECORD, Int8

if TYPE_CHECKING:
    from firmware.compiler.program import Program

ROOT = Path(kit.__file__).parent.parent
MODULES = (  # that the runner imports, itself included
    "boards/errors.py",
    *(f"kit/{name}.py" for name in ("adpcm", "arguments", "detect", "device", "link")),
    *(f"kit/{name}.py" for name in ("pipe_wire", "records")),
    *(f"kit/runner/{name}.py" for name in ("__init__", "__main__", "about", "engines", "machine")),
    *(f"kit/runner/{name}.py" for name in ("publish", "sound")),
)
PACKAGES = ("boards", "kit")  # whose own __init__ is for the whole kit
CHECKED = 8  # inputs
RUN = """#!/bin/sh
# Runs what is in this folder: `run listen --help`
here=$(dirname "$(readlink -f "$0")")
export PYTHONPATH="$here/lib:$here/site" PYTHONNOUSERSITE=1
cd "$here" && exec python3 -m kit.runner --folder "$here" "$@"
"""


def files(build: Program, inputs: Int8, site: Mapping[str, bytes]) -> dict[str, bytes | Path]:
    """Return the files of a release of `build` by name.

    Args:
        build: for that machine.
        inputs: windows (N, *input) that both engines are checked with.
        site: wheels, unpacked.
    """
    record = json.dumps(about(build), indent=1).encode()
    return {
        "run": RUN.encode(),
        PROGRAM: build.program,
        MODEL: build.model,
        RECORD: record,
        CHECKS: checks(build, inputs),
        **{f"lib/{name}": ROOT / name for name in MODULES},
        **{f"lib/{name}/__init__.py": b'"""A part of earkit."""\n' for name in PACKAGES},
        **site,
    }


def about(build: Program) -> dict[str, Any]:
    """Return what the runner must know of a model."""
    from kit import listen
    from models.frontend import FrontEnd

    front = None if build.frontend is None else FrontEnd(**build.frontend)
    meant = None if front is None else listen.meaning(build)
    return {
        "name": build.name,
        "board": build.board.name,
        "build_id": build.build_id,
        "stream": build.stream is not None,
        "labels": list(build.labels if meant is None else meant.labels),
        "frontend": front and {**asdict(front), "samples": front.samples},
        "meaning": meant
        and {
            name: getattr(meant, name) for name in ("hop_frames", "scale", "zero_point", "logits", "values")
        },
    }


def checks(build: Program, inputs: Int8) -> bytes:
    """Return the .npz of windows, cut into the steps that a run takes, and what must come of them."""
    from quantize.bundle import write_npz

    steps = np.stack([np.stack([hop.ravel() for hop in profile.hops(build, window)]) for window in inputs])
    right = profile.wanted(build, inputs)
    lite = np.zeros((len(inputs), 0), np.int8) if build.stream else litert(build.model, inputs)
    return write_npz(inputs=steps, program=right, litert=lite)


def litert(model: bytes, inputs: Int8) -> Int8:
    """Return what LiteRT says here, int8 (N, outputs); (N, 0) for a model that it is not given there."""
    from ai_edge_litert.interpreter import Interpreter

    from quantize.silence import native_silence

    with native_silence():
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    ends = interpreter.get_input_details(), interpreter.get_output_details()
    if [end["dtype"] for side in ends for end in side] != [np.int8, np.int8]:
        return np.zeros((len(inputs), 0), np.int8)
    (into,), (out,) = ends
    outputs = []
    for x in inputs:
        interpreter.set_tensor(into["index"], x.reshape(into["shape"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(out["index"]).ravel())
    return np.stack(outputs)


def some_inputs(build: Program) -> npt.NDArray[np.int8]:
    """Return windows to check with: those of the bundle's expected.npz, else edges and random ones.

    Raises:
        UserError: the bundle's do not fit the model.
    """
    from kit.pipeline import BUNDLE
    from quantize import bundle as bundles

    if not (build.path / BUNDLE).exists():
        return np.asarray(profile.trial_inputs(build.window, CHECKED, 0), np.int8)
    shape = build.window.tensors[build.window.inputs[0]].shape
    return bundles.load(build.path / BUNDLE).expected(shape)[0][:CHECKED]
