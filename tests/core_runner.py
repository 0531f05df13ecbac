"""Runs a compiled model.c on an emulated core, without firmware: load, call, read the output."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import unicorn
from unicorn import arm_const

import boards
import firmware
from firmware.compiler import arenas, emit, toolchain
from firmware.compiler.elf import Elf
from firmware.compiler.graph import Array, Graph
from firmware.compiler.plan import plan
from firmware.compiler.toolchain import Toolchain

FLASH, RAM, BYTES = 0x08000000, 0x20000000, 1 << 20
RETURN = FLASH + BYTES - 64  # where the calls return to
SCRIPT = f"""
MEMORY
{{
    FLASH (rx) : ORIGIN = {FLASH:#x}, LENGTH = {BYTES - 64:#x}
    RAM (rwx) : ORIGIN = {RAM:#x}, LENGTH = {BYTES // 2:#x}
}}
SECTIONS
{{
    .text : {{ KEEP(*(.text.run)) *(.text*) *(.rodata*) }} > FLASH
    .bss (NOLOAD) : {{ *(.bss*) }} > RAM
    /DISCARD/ : {{ *(.ARM.exidx*) *(.ARM.extab*) }}
}}
"""
START = """#include "model.h"
void Reset_Handler(void);
int run(void);
__attribute__((used)) int run(void) {
    ear_model_invoke(0);
    return ear_arena_intact();
}
void Reset_Handler(void) {
    ear_model_init();
    run();
}
"""
CORES = {
    "cortex-m0plus": arm_const.UC_CPU_ARM_CORTEX_M0,
    "cortex-m3": arm_const.UC_CPU_ARM_CORTEX_M3,
    "cortex-m4": arm_const.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": arm_const.UC_CPU_ARM_CORTEX_M7,
    "cortex-m33": arm_const.UC_CPU_ARM_CORTEX_M33,
}


def run(graph: Graph, x: Array, board_name: str, folder: Path, kind: Toolchain = "zig") -> Array:
    """Return the output of `graph` for x on the core of a board; the arena's guards must hold."""
    graph = replace(graph, unit=toolchain.unit(boards.load(board_name)))
    elf = _build(graph, board_name, folder, kind)
    symbols, planned = elf.symbols(), plan(graph)
    core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
    core.ctl_set_cpu_model(CORES[boards.load(board_name).core])
    core.mem_map(FLASH, BYTES)
    core.mem_map(RAM, BYTES)
    core.mem_write(FLASH, elf.image(FLASH))

    def call(name: str) -> int:
        core.reg_write(arm_const.UC_ARM_REG_SP, RAM + BYTES)
        core.reg_write(arm_const.UC_ARM_REG_LR, RETURN | 1)
        core.emu_start(symbols[name][0] | 1, RETURN)
        return int(core.reg_read(arm_const.UC_ARM_REG_R0))

    call("ear_model_init")
    arena = symbols["ear_arena"][0] + arenas.GUARD_BYTES
    core.mem_write(arena + planned.offsets[graph.inputs[0]], np.ascontiguousarray(x).tobytes())
    assert call("run") == 1
    y = graph.tensors[graph.outputs[0]]
    made = core.mem_read(arena + planned.offsets[graph.outputs[0]], y.bytes)
    return np.frombuffer(bytes(made), y.dtype).reshape(y.shape)


def _build(graph: Graph, board_name: str, folder: Path, kind: Toolchain) -> Elf:
    board = boards.load(board_name)
    (folder / "model.c").write_text(emit.emit(graph, plan(graph)))
    (folder / "model.h").write_text(emit.header(graph, plan(graph)))
    (folder / "start.c").write_text(START)
    includes = (folder, firmware.ROOT)
    toolchain.compile_object(folder / "model.c", includes, board, folder / "model.o", "2", toolchain=kind)
    out = folder / "model.elf"
    toolchain.compile(
        [folder / "start.c"], includes, board, SCRIPT, out, objects=[folder / "model.o"], toolchain=kind
    )
    return Elf(out.read_bytes())
