"""Compiles model.c to a wasm module with 128-bit vectors, for browsers, phones and Node.

The module imports nothing. It exports `memory`; the functions of model.h, of which `ear_model_init` comes
first and `ear_model_invoke(0)` runs the model; and the addresses `ear_inputs` and `ear_outputs` of records of
two words: where a value lies, and how many bytes it takes.
"""

from __future__ import annotations

from pathlib import Path

import firmware
from firmware.compiler import emit, toolchain, weights
from firmware.compiler.graph import Graph
from firmware.compiler.plan import Plan

EXPORTS = (
    "ear_model_init",
    "ear_model_reset",
    "ear_model_invoke",
    "ear_arena_intact",
    "ear_inputs",
    "ear_outputs",
)


def compile_module(graph: Graph, planned: Plan, folder: Path) -> Path:
    """Write model.c, model.h and model.wasm to `folder` and return the path of the module.

    Args:
        graph: after passes.run; lowered to "simd" for speed, or to "c".
        planned: the memory plan of this graph.
        folder: to write to.

    Raises:
        UserError: the compiler is missing.
    """
    source, module = folder / "model.c", folder / "model.wasm"
    source.write_text(emit.emit(graph, planned), encoding="ascii")
    (folder / "model.h").write_text(emit.header(graph, planned), encoding="ascii")
    apart = weights.write_apart(emit.constants(graph), folder, "wasm")
    defines = weights.DEFINES if apart else {}
    includes = (folder, firmware.ROOT)
    toolchain.wasm_module(source, includes, module, EXPORTS, weights=apart, defines=defines)
    return module
