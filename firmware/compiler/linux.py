"""Compiles a model and the application around it to one static program for Linux, without a C library.

It speaks the link on stdin and stdout, as a board does on its UART (firmware/ports/linux.c), and needs
the kernel only, so it runs on any distribution, and on Android.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import firmware
from firmware.compiler import emit, toolchain, weights
from firmware.compiler.ends import single_int8
from firmware.compiler.graph import Graph, Unit
from firmware.compiler.plan import Plan

PROGRAM = "program"  # its file name
UNIT: Unit = "simd"  # AVX2 or later; elsewhere NEON through the compiler's own vectors
TARGETS: Mapping[str, str] = {  # machine → zig's target
    "x86_64": "x86_64-linux-none",
    "aarch64": "aarch64-linux-none",
    "armv7": "arm-linux-eabihf",
}


DEFINES = {"EAR_PROGRAM": "1", "EAR_MICROPHONE": "1"}
SLICES = 4  # of a window, that clients of Edge Impulse send one by one


def flags(machine: str, cpu: str) -> tuple[str, ...]:
    """Return what selects a machine of TARGETS and its processor, in zig's words."""
    return ("-target", TARGETS[machine], f"-mcpu={cpu}", "-O3", "-fno-sanitize=all")


def compile_program(
    graph: Graph,
    planned: Plan,
    machine: str,
    cpu: str,
    folder: Path,
    frontend_tables: Mapping[str, Any] | None = None,
    *,
    build_id: str = "",
    bundle: Mapping[str, Any] | None = None,
    stream: Mapping[str, Any] | None = None,
) -> Path:
    """Write model.c, model.h and the program to `folder` and return the path of the program.

    Args:
        graph: after passes.run, lowered to UNIT.
        planned: of this graph.
        machine: a key of TARGETS.
        cpu: the least that it runs on, as zig calls it.
        folder: to write to.
        frontend_tables: `models.frontend.tables(fe)`: puts the front end, and the microphone, on the machine.
        build_id: at most 16 characters, that the program tells of itself.
        bundle: the bundle.json that the model came from; its `labels` and `task` are told to Edge Impulse.
        stream: how a streaming model takes its windows: see stream.Streamed.record().

    Raises:
        UserError: the compiler is missing.
    """
    source, program = folder / "model.c", folder / PROGRAM
    source.write_text(emit.emit(graph, planned, frontend_tables), encoding="ascii")
    text = emit.header(graph, planned, build_id, frontend_tables)
    (folder / "model.h").write_text(text, encoding="ascii")
    apart = weights.write_apart(emit.constants(graph), folder)
    defines = {**DEFINES, **(weights.DEFINES if apart else {})}
    inputs = (*firmware.PROGRAM, source, *apart)
    if single_int8(graph):
        told = runner_header(graph, frontend_tables, bundle or {}, stream)
        (folder / "dialect.h").write_text(told, encoding="ascii")
        defines["EAR_EIM"] = "1"
        inputs = (*inputs, *firmware.RUNNER)
    toolchain.program(inputs, (folder, firmware.ROOT), program, flags(machine, cpu), defines=defines)
    for path in (folder / weights.BINARY, folder / "dialect.h", *apart):
        path.unlink(missing_ok=True)
    return program


def runner_header(
    graph: Graph,
    frontend_tables: Mapping[str, Any] | None,
    bundle: Mapping[str, Any],
    stream: Mapping[str, Any] | None,
) -> str:
    """Return the text of dialect.h: what a runner of Edge Impulse tells, and how it takes sound."""
    labels = bundle.get("labels") or [f"class {i}" for i in range(graph.tensors[graph.outputs[0]].elements)]
    count, piece, silence = window(graph, frontend_tables, stream)
    values = bundle.get("task") == "regression"
    facts = {
        "MODEL_ID": _string(graph.name),
        "LABELS": ", ".join(map(_string, labels)),
        "LOGITS": int(graph.nodes[-1].op != "SOFTMAX" and not values),
        "VALUES": int(values),
        "COUNT": f"{count}u",
        "SLICE": f"{piece}u",
        "STREAMS": int(stream is not None),
        "SILENCE": f"{silence}u",
    }
    lines = [f"#define EAR_{name} {value}" for name, value in facts.items()]
    return "\n".join(["// dialect.h: what a runner of Edge Impulse tells of the model.", *lines, ""])


def window(
    graph: Graph, frontend: Mapping[str, Any] | None, stream: Mapping[str, Any] | None
) -> tuple[int, int, int]:
    """Return the values of a window, of a slice of it (0: it has none), and of the silence before a stream.

    `frontend`: its parameters or its tables.
    """
    if frontend is None:
        return graph.tensors[graph.inputs[0]].elements, 0, 0
    hop = int(frontend["hop"])
    if stream is None:
        count = int(frontend["window"]) + (int(frontend["frames"]) - 1) * hop
        return count, count // SLICES, 0
    rows, frames = int(stream["rows"]), int(stream["window"])
    return int(frontend["window"]) + (frames - 1) * hop, rows * hop, -frames % rows * hop


def _string(text: str) -> str:
    """Return a C string of what goes between quotes in JSON; braces would confuse the clients."""
    inner = json.dumps(re.sub(r'["\\{}]', "_", text))[1:-1]
    return '"' + inner.replace("\\", "\\\\").replace("??", "?\\?") + '"'
