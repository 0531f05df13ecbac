"""Runs the C of many one-op graphs on an emulated Cortex-M55 in one start of QEMU: outputs, instructions."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import boards
import firmware
from firmware.compiler import toolchain
from firmware.compiler.ends import C_TYPES
from firmware.compiler.graph import Array, Graph
from firmware.compiler.ops import OPS
from firmware.compiler.toolchain import Toolchain

QEMU = shutil.which("qemu-system-arm")
BOARD = "virtual-m55"
PAINT, GUARD = 77, 16  # what lies on each side of scratch and output, and how many bytes of it
SECONDS = 60
SCRIPT = """
MEMORY
{
    FLASH (rx) : ORIGIN = 0x00000000, LENGTH = 0x80000
    RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 0x80000
}
SECTIONS
{
    .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > FLASH
    .bss (NOLOAD) : { *(.bss*) } > RAM
    /DISCARD/ : { *(.ARM.exidx*) *(.ARM.extab*) }
}
"""
START = """#include "ear.h"
#define WORD(address) (*(volatile uint32_t *)(address))
#define SYSTICK 0xE000E010u
#define UART 0x49303000u

void Reset_Handler(void);
void Fault_Handler(void);

static void put(const uint8_t *bytes, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        while (WORD(UART + 4) & 1u) {}
        WORD(UART) = bytes[i];
    }
}

/* Ends the emulator, which hears semihosting. */
void Fault_Handler(void) {
    for (;;)
        __asm volatile("movs r0, #0x18\\n ldr r1, =0x20026\\n bkpt 0xab" : : : "r0", "r1", "memory");
}

__attribute__((section(".vectors"), used)) static void *const vectors[8] = {
    (void *)0x20080000, (void *)Reset_Handler, (void *)Fault_Handler, (void *)Fault_Handler,
    (void *)Fault_Handler, (void *)Fault_Handler, (void *)Fault_Handler, 0 };

static uint32_t intact(const uint8_t *memory, uint32_t bytes) {
    uint32_t same = 1;
    for (uint32_t i = 0; i < GUARD; ++i)
        same &= memory[i] == PAINT && memory[GUARD + bytes + i] == PAINT;
    return same;
}

/* Sends: whether both guards hold, the ticks of the run, the output. */
static __attribute__((noinline)) void measure(void (*run)(void), uint8_t *output, uint32_t bytes,
                                              uint8_t *scratch, uint32_t more) {
    memset(output, PAINT, bytes + 2 * GUARD);
    memset(scratch, PAINT, more + 2 * GUARD);
    const uint32_t before = WORD(SYSTICK + 8);
    run();
    const uint32_t ticks = (before - WORD(SYSTICK + 8)) & 0xFFFFFFu;
    const uint32_t said[2] = { intact(output, bytes) & intact(scratch, more), ticks };
    put((const uint8_t *)said, 8);
    put(output + GUARD, bytes);
}
"""
MAIN = """
void Reset_Handler(void) {
    WORD(0xE000ED88u) |= 0xFu << 20;
    __asm volatile("dsb\\n isb" ::: "memory");
    WORD(UART + 16) = 16;
    WORD(UART + 8) = 1;
    WORD(SYSTICK + 4) = 0xFFFFFFu;
    WORD(SYSTICK + 8) = 0;
    WORD(SYSTICK) = 5;
"""


@dataclass(frozen=True)
class Run:
    """What one graph gave."""

    output: Array
    intact: bool  # nothing was written beside output and scratch
    instructions: int


def run(
    graphs: Sequence[Graph], inputs: Sequence[Sequence[Array]], folder: Path, kind: Toolchain = "zig"
) -> list[Run]:
    """Return what each one-op graph gives for its inputs on the Cortex-M55."""
    graphs = [replace(graph, unit="mve") for graph in graphs]
    kernels = sorted({OPS[g.nodes[0].op].call(g, g.nodes[0]).kernel for g in graphs})
    includes = "".join(f'#include "kernels/{kernel}.h"\n' for kernel in kernels)
    cases = "".join(
        _case(i, graph, given) for i, (graph, given) in enumerate(zip(graphs, inputs, strict=True))
    )
    calls = "".join(
        f"    measure(run_{i}, out_{i}, {g.tensors[g.outputs[0]].bytes}, scratch_{i}, {_scratch(g)});\n"
        for i, g in enumerate(graphs)
    )
    defines = f"#define EAR_MVE 1\n#define PAINT {PAINT}\n#define GUARD {GUARD}u\n"
    source = folder / "cases.c"
    source.write_text(f"{defines}{START}{includes}{cases}{MAIN}{calls}    Fault_Handler();\n}}\n")
    board, elf = boards.load(BOARD), folder / "cases.elf"
    toolchain.compile([source], [firmware.ROOT], board, SCRIPT, elf, "2", toolchain=kind)
    return _results(graphs, _emulated(elf, folder / "said"))


def _emulated(elf: Path, said: Path) -> bytes:
    assert QEMU
    command = (QEMU, "-M", "mps3-an547", "-display", "none", "-monitor", "none", "-serial", f"file:{said}",
               "-icount", "shift=5,sleep=off", "-semihosting", "-kernel", str(elf))  # fmt: skip
    subprocess.run(command, timeout=SECONDS, check=True, stdin=subprocess.DEVNULL)
    return said.read_bytes()


def _results(graphs: Sequence[Graph], said: bytes) -> list[Run]:
    found: list[Run] = []
    for graph in graphs:
        y = graph.tensors[graph.outputs[0]]
        assert len(said) >= 8 + y.bytes, f"the core stopped in case {len(found)}"
        whole, ticks = struct.unpack_from("<II", said)
        output = np.frombuffer(said, np.dtype(y.dtype), y.elements, 8).reshape(y.shape)
        found.append(Run(output, bool(whole), ticks * 125 // 128))
        said = said[8 + y.bytes :]
    return found


def _scratch(graph: Graph) -> int:
    return OPS[graph.nodes[0].op].call(graph, graph.nodes[0]).scratch or 0


def _array(name: str, data: Array) -> str:
    numbers = ", ".join(str(value) for value in np.asarray(data).reshape(-1).tolist())
    return f"static const {C_TYPES[str(data.dtype)]} {name}[] __attribute__((aligned(4))) = {{{numbers}}};\n"


def _case(index: int, graph: Graph, inputs: Sequence[Array]) -> str:
    node, y = graph.nodes[0], graph.tensors[graph.outputs[0]]
    call = OPS[node.op].call(graph, node)
    values = dict(zip(graph.inputs, inputs, strict=True))
    constants = dict(call.constants)
    for position, tensor in enumerate(node.inputs):
        if tensor >= 0 and f"{{in{position}}}" in " ".join(call.arguments):
            data = graph.tensors[tensor].data
            constants[f"in{position}"] = values[tensor] if data is None else data
    kind, sizes = C_TYPES[y.dtype], {f"out_{index}": y.bytes, f"scratch_{index}": call.scratch or 0}
    names = {name: f"{name}_{index}" for name in constants}
    names["out0"] = f"(({kind} *)(void *)(out_{index} + GUARD))"
    names["scratch"] = f"((int8_t *)scratch_{index} + GUARD)"
    body = ", ".join(re.sub(r"\{(\w+)\}", lambda m: names.get(m[1], m[0]), text) for text in call.arguments)
    memory = "".join(
        f"static uint8_t {name}[{size} + 2 * GUARD] __attribute__((aligned(16)));\n"
        for name, size in sizes.items()
    )
    arrays = "".join(_array(names[name], data) for name, data in constants.items())
    return f"{arrays}{memory}static void run_{index}(void) {{\n    {call.symbol}({body});\n}}\n"
