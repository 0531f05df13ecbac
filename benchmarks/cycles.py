"""Estimates the cycles of one inference: executed instructions by class, times published costs of each core.

Not a measurement. Costs are those of Arm's Technical Reference Manuals for memories without wait states
(M0+ r0p1 with the fast multiplier, M3 r2p0, M4 r0p1). Arm publishes none for M33 and M7: M33 is counted as
an M4, and M7 as an M4 that predicts all branches and issues two instructions at once unless both are of
memory, of multiplication or branches, whatever they depend on: a lower bound. Where a cost is a range its
middle is taken. Each basic block counts as often as Unicorn enters it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import unicorn
from unicorn import arm_const as arm

from boards import Board
from firmware.compiler import arenas
from firmware.compiler.build import Build
from firmware.compiler.elf import Elf

CPUS = {
    "cortex-m0plus": arm.UC_CPU_ARM_CORTEX_M0,
    "cortex-m3": arm.UC_CPU_ARM_CORTEX_M3,
    "cortex-m4": arm.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": arm.UC_CPU_ARM_CORTEX_M7,
    "cortex-m33": arm.UC_CPU_ARM_CORTEX_M33,
}
SYSTEM = 0xE000_E000  # the enable bits of the floating point unit live here; plain memory suffices
MEMORY = ("load", "store", "loads", "stores")
MULTIPLY = ("multiply", "accumulate", "long", "long accumulate", "divide")


@dataclass(frozen=True)
class Instruction:
    """What matters for time: its class, its bytes, and the registers that a multiple transfer moves."""

    kind: str
    bytes: int
    registers: int = 0


@dataclass(frozen=True)
class Costs:
    """Cycles by class. A load right behind a load or store takes `next_load`; n registers take 1 + n."""

    load: float = 2
    next_load: float = 1
    store: float = 1
    taken: float = 3  # a branch that goes elsewhere refills the pipeline
    multiply: float = 1
    accumulate: float = 1
    long: float = 1
    long_accumulate: float = 1
    divide: float = 7
    pairs: bool = False


CORES = {
    "cortex-m0plus": Costs(load=2, next_load=2, store=2, taken=2),
    "cortex-m3": Costs(accumulate=2, long=4, long_accumulate=5.5),
    "cortex-m4": Costs(),
    "cortex-m33": Costs(),
    "cortex-m7": Costs(load=1, next_load=1, taken=1, pairs=True),
}


def decode(half: int, second: int) -> Instruction:
    """Return the class of a Thumb instruction from its first half-word and the one behind it."""
    return _wide(half, second) if half >> 11 in (0x1D, 0x1E, 0x1F) else _narrow(half)


def _narrow(half: int) -> Instruction:
    top = half >> 12
    if top in (0x6, 0x7, 0x8, 0x9):
        return Instruction("load" if half & 0x800 else "store", 2)
    if top == 0x5:
        return Instruction("store" if (half >> 9) & 7 < 3 else "load", 2)
    if half >> 11 == 0x9:
        return Instruction("load", 2)
    if top == 0xC or half & 0xF600 == 0xB400:
        moved = (half & 0xFF).bit_count() + (half >> 8 & 1 if top == 0xB else 0)
        kind = "loads" if half & 0x800 else "stores"
        returns = half & 0xFF00 == 0xBD00
        return Instruction("return" if returns else kind, 2, moved)
    if half & 0xFF00 == 0x4700 or half & 0xF500 == 0xB100 or top in (0xD, 0xE):
        return Instruction("branch", 2)
    return Instruction("multiply" if half & 0xFFC0 == 0x4340 else "other", 2)


def _wide(half: int, second: int) -> Instruction:
    group = half >> 8
    if half & 0xFE40 == 0xE800:
        moved = second.bit_count()
        if half & 0x10 and second & 0x8000:
            return Instruction("return", 4, moved)
        return Instruction("loads" if half & 0x10 else "stores", 4, moved)
    if half & 0xFE40 == 0xE840:
        if half & 0xFFF0 == 0xE8D0 and second & 0xE0 == 0:
            return Instruction("branch", 4)  # through a table
        return Instruction("loads" if half & 0x10 else "stores", 4, 2)
    if group in (0xF8, 0xF9):
        return Instruction("load" if half & 0x10 else "store", 4)
    if group == 0xED:
        return Instruction("load" if half & 0x10 else "store", 4)
    if group == 0xFB:
        return Instruction(_multiplication(half, second), 4)
    if group & 0xF8 == 0xF0 and second & 0x8000:
        return Instruction("branch", 4)
    return Instruction("other", 4)


def _multiplication(half: int, second: int) -> str:
    if half & 0x80 == 0:
        return "multiply" if second >> 12 == 15 else "accumulate"
    if second & 0xF0 == 0xF0:
        return "divide"
    return "long accumulate" if half & 0x40 else "long"


def block(code: bytes, costs: Costs) -> tuple[float, int]:
    """Return the cycles of a basic block, its last branch not taken, and its instructions."""
    instructions = list(_decoded(code))
    cycles, before = 0.0, ""
    for instruction in instructions:
        cycles += _cycles(instruction, before, costs)
        before = instruction.kind
    return cycles - (_issued_together(instructions) if costs.pairs else 0), len(instructions)


def _decoded(code: bytes) -> Iterator[Instruction]:
    halves = np.frombuffer(code + b"\0\0", "<u2").tolist()
    at = 0
    while at < len(halves) - 1:
        instruction = decode(halves[at], halves[at + 1])
        at += instruction.bytes // 2
        yield instruction


def _cycles(instruction: Instruction, before: str, costs: Costs) -> float:
    kind, moved = instruction.kind, instruction.registers
    if kind in ("loads", "stores", "return"):
        return moved / 2 if costs.pairs else 1 + moved
    if kind == "load":
        return costs.next_load if before in ("load", "store") else costs.load
    found = {
        "store": costs.store,
        "multiply": costs.multiply,
        "accumulate": costs.accumulate,
        "long": costs.long,
        "long accumulate": costs.long_accumulate,
        "divide": costs.divide,
    }
    return found.get(kind, 1)


def _issued_together(instructions: list[Instruction]) -> int:
    """Return how many instructions of a block are the second of a pair."""
    pairs, first = 0, ""
    for kind in (instruction.kind for instruction in instructions):
        clash = any(first in unit and kind in unit for unit in (MEMORY, MULTIPLY, ("branch", "return")))
        if first and not clash:
            pairs, first = pairs + 1, ""
        else:
            first = kind
    return pairs


@dataclass(frozen=True)
class Estimate:
    """One inference: executed instructions and estimated cycles."""

    instructions: int
    cycles: int


def estimate(made: Build, seed: int = 1) -> Estimate | None:
    """Run a build's model once on drawn inputs and add up; None where Unicorn does not know the core."""
    board, graph = made.board, made.graph
    if board.core not in CPUS:
        return None
    elf = Elf((made.path / "firmware.elf").read_bytes())
    core, symbols = _machine(elf, board), elf.symbols()
    _call(core, symbols["ear_model_init"][0], board)
    arena, rng = symbols["ear_arena"][0] + arenas.GUARD_BYTES, np.random.default_rng(seed)
    for tensor in graph.inputs:
        core.mem_write(arena + made.plan.offsets[tensor], rng.bytes(graph.tensors[tensor].bytes))
    entered: Counter[tuple[int, int]] = Counter()
    jumps, last = 0, 0

    def on_block(_core: unicorn.Uc, address: int, size: int, _user: object) -> None:
        nonlocal jumps, last
        entered[address, size] += 1
        jumps += address != last
        last = address + size

    core.hook_add(unicorn.UC_HOOK_BLOCK, on_block)
    _call(core, symbols["ear_model_invoke"][0], board)
    costs = CORES[board.core]
    instructions, cycles = 0, jumps * (costs.taken - 1)
    for (address, size), times in entered.items():
        spent, count = block(bytes(core.mem_read(address, size)), costs)
        instructions, cycles = instructions + times * count, cycles + times * spent
    return Estimate(instructions, round(cycles))


def _machine(elf: Elf, board: Board) -> unicorn.Uc:
    core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
    core.ctl_set_cpu_model(CPUS[board.core])
    for memory in (board.flash_memory, board.ram_memory):
        core.mem_map(memory.origin, memory.size)
    core.mem_map(SYSTEM, 0x1000)
    origin = min(section.address for section in elf.sections() if section.stored)
    core.mem_write(origin, elf.image(origin))
    return core


def _call(core: unicorn.Uc, address: int, board: Board) -> None:
    end = board.flash_memory.origin + board.flash_memory.size - 4
    core.reg_write(arm.UC_ARM_REG_R0, 0)
    core.reg_write(arm.UC_ARM_REG_SP, board.ram_memory.origin + board.ram_memory.size)
    core.reg_write(arm.UC_ARM_REG_LR, end | 1)
    core.emu_start(address | 1, end)
