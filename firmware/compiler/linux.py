"""Compiles a model and the application around it to one static program for Linux, without a C library.

It speaks the link on stdin and stdout, as a board does on its UART (firmware/ports/linux.c), and needs
the kernel only, so it runs on any distribution, and on Android.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import firmware
from firmware.compiler import emit, toolchain, weights
from firmware.compiler.graph import Graph, Unit
from firmware.compiler.plan import Plan

PROGRAM = "program"  # its file name
UNIT: Unit = "simd"  # AVX2 or later; elsewhere NEON through the compiler's own vectors
TARGETS: Mapping[str, str] = {  # machine → zig's target
    "x86_64": "x86_64-linux-none",
    "aarch64": "aarch64-linux-none",
    "armv7": "arm-linux-eabihf",
}


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

    Raises:
        UserError: the compiler is missing.
    """
    source, program = folder / "model.c", folder / PROGRAM
    source.write_text(emit.emit(graph, planned, frontend_tables), encoding="ascii")
    text = emit.header(graph, planned, build_id, frontend_tables)
    (folder / "model.h").write_text(text, encoding="ascii")
    apart = weights.write_apart(emit.constants(graph), folder)
    defines = {"EAR_PROGRAM": "1", "EAR_MICROPHONE": "1", **(weights.DEFINES if apart else {})}
    inputs = (*firmware.PROGRAM, source, *apart)
    toolchain.program(inputs, (folder, firmware.ROOT), program, flags(machine, cpu), defines=defines)
    for path in (folder / weights.BINARY, *apart):
        path.unlink(missing_ok=True)
    return program
