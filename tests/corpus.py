"""What a file is put through: read, passes, plan and C text, for one of the units; refusals are welcome."""

from __future__ import annotations

from typing import get_args

from boards.errors import UserError
from firmware.compiler import emit, passes, read_tflite
from firmware.compiler.graph import Unit
from firmware.compiler.plan import plan

UNITS: tuple[Unit, ...] = get_args(Unit)


def compile_text(data: bytes) -> str:
    """Return model.c of a .tflite, or the message that refuses it; any other error is a finding."""
    unit = UNITS[sum(data[:64]) % len(UNITS)]
    try:
        graph = passes.run(read_tflite.read(data, "fuzzed"), unit)
        planned = plan(graph)
        return emit.emit(graph, planned) + emit.header(graph, planned)
    except UserError as refusal:
        return str(refusal)
