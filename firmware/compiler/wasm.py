"""Compiles model.c to a wasm module with 128-bit vectors, for browsers, phones and Node.

The module imports nothing. It exports `memory`; the functions of model.h, of which `ear_model_init` comes
first and `ear_model_invoke(0)` runs the model; and the addresses `ear_inputs` and `ear_outputs` of records of
two words: where a value lies, and how many bytes it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import firmware
from firmware.compiler import emit, toolchain, weights
from firmware.compiler.graph import Graph
from firmware.compiler.plan import Plan

EXPORTS: tuple[str, ...] = (
    "ear_model_init",
    "ear_model_reset",
    "ear_model_invoke",
    "ear_arena_intact",
    "ear_inputs",
    "ear_outputs",
)
EAR = (
    "ear_page",
    *(f"ear_page_{name}" for name in ("start", "place", "took", "run", "judge", "end")),
)


def compile_module(
    graph: Graph, planned: Plan, folder: Path, frontend_tables: Mapping[str, Any] | None = None
) -> Path:
    """Write model.c, model.h and model.wasm to `folder` and return the path of the module.

    Args:
        graph: after passes.run; lowered to "simd" for speed, or to "c".
        planned: the memory plan of this graph.
        folder: to write to.
        frontend_tables: `models.frontend.tables(fe)`: puts the front end and the rules of events in it.

    Raises:
        UserError: the compiler is missing.
    """
    sources, exports, defines = [folder / "model.c"], EXPORTS, {}
    sources[0].write_text(emit.emit(graph, planned, frontend_tables), encoding="ascii")
    header = emit.header(graph, planned, frontend_tables=frontend_tables)
    (folder / "model.h").write_text(header, encoding="ascii")
    if frontend_tables is not None:
        sources, exports, defines = [*sources, firmware.PAGE], (*EXPORTS, *EAR), {"EAR_MICROPHONE": "1"}
    apart = weights.write_apart(emit.constants(graph), folder, "wasm")
    if apart:
        defines |= weights.DEFINES
    module = folder / "model.wasm"
    toolchain.wasm_module(sources, (folder, firmware.ROOT), module, exports, weights=apart, defines=defines)
    return module
