"""A stand-in for the clock tree, the flash controller and the USART of an STM32, written from its manual.

It runs a real bootloader image in Unicorn and notes what the manual forbids: a key out of order, a write to
flash that is locked or not erased, code fetched from flash while it is busy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import unicorn
from core_runner import CORES
from unicorn import arm_const as arm

from firmware.compiler.build import Build
from firmware.compiler.elf import Elf

FLASH, RETURN, BUSY_READS = 0x08000000, 0x20007F00, 3
KEYS = [0x45670123, 0xCDEF89AB]
APB = {0: 1, 4: 2, 5: 4, 6: 8, 7: 16}


@dataclass
class Family:
    """Where things lie: offsets of flash registers from `flash`, and bits of its control word."""

    flash: int
    key: int
    status: int
    control: int
    busy: int
    start: int
    program: int
    erase: int
    lock: int
    unit: int  # bytes programmed at once
    rcc: int
    usart: dict[str, int]


OLD = {"status": 0x00, "receive": 0x04, "baud": 0x08}
NEW = {"status": 0x1C, "receive": 0x24, "baud": 0x0C}
FAMILIES = {
    "stm32f4": Family(
        0x40023C00, 4, 0xC, 0x10, 1 << 16, 1 << 16, 1, 2, 1 << 31, unit=4, rcc=0x40023800, usart=OLD
    ),
    "stm32f7": Family(
        0x40023C00, 4, 0xC, 0x10, 1 << 16, 1 << 16, 1, 2, 1 << 31, unit=4, rcc=0x40023800, usart=NEW
    ),
    "stm32l4": Family(
        0x40022000, 8, 0x10, 0x14, 1 << 16, 1 << 16, 1, 2, 1 << 31, unit=8, rcc=0x40021000, usart=NEW
    ),
    "stm32h7": Family(0x52002000, 4, 0x10, 0xC, 5, 1 << 7, 2, 4, 1, unit=32, rcc=0x58024400, usart=NEW),
}


@dataclass
class Chip:
    """A chip that runs `build.boot`; `crystal` and `pll` say whether these ever get ready."""

    build: Build
    usart: int  # base address
    crystal: bool = True
    pll: bool = True
    wrong: list[str] = field(default_factory=list)
    erased: list[int] = field(default_factory=list)
    incoming: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.family = FAMILIES[self.build.board.port]
        self.elf = Elf((self.build.path / "boot.elf").read_bytes())
        self.symbols = self.elf.symbols()
        self.values: dict[int, int] = {}
        self.banks = {bank: [self.family.lock, 0] for bank in range(2 if self.family.unit == 32 else 1)}
        self.keys: dict[int, list[int]] = {bank: [] for bank in self.banks}
        self.busy = 0
        self.core = core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        core.ctl_set_cpu_model(CORES[self.build.board.core])
        core.mem_map(0, 0x4000)
        core.mem_map(FLASH, self.build.board.flash_memory.size)
        core.mem_write(FLASH, self.build.boot.ljust(self.build.board.flash_memory.size, b"\xff"))
        core.mem_map(0x20000000, 0x100000)
        core.mem_map(0xE0000000, 0x100000)
        core.mmio_map(0x40000000, 0x20000000, self._read, None, self._write, None)
        core.hook_add(unicorn.UC_HOOK_MEM_WRITE, self._programmed, begin=FLASH, end=FLASH + (4 << 20))
        core.hook_add(unicorn.UC_HOOK_BLOCK, self._fetched, begin=FLASH, end=FLASH + (4 << 20))
        core.reg_write(arm.UC_ARM_REG_SP, self.symbols["ear_stack_top"][0])
        core.emu_start(self.symbols["Reset_Handler"][0] | 1, self.symbols["main"][0] & ~1, count=60_000_000)

    def call(self, name: str, *arguments: int) -> int:
        """Return what a function of the port returns."""
        for number, value in enumerate(arguments):
            self.core.reg_write(arm.UC_ARM_REG_R0 + number, value)
        self.core.reg_write(arm.UC_ARM_REG_LR, RETURN | 1)
        self.core.emu_start(self.symbols[name][0] | 1, RETURN, count=60_000_000)
        return int(self.core.reg_read(arm.UC_ARM_REG_R0))

    def rcc(self, offset: int) -> int:
        """Return what was written to a register of the RCC."""
        return self.values.get(self.family.rcc + offset, 0)

    def _read(self, _core: Any, offset: int, _size: int, _user: Any) -> int:
        address, family = 0x40000000 + offset, self.family
        value = self.values.get(address, 0)
        if address == family.rcc:
            return self._clocks(value)
        if address == family.rcc + (0x10 if family.unit == 32 else 8):
            return value | (value & 7) << 3 if family.unit == 32 else value | (value & 3) << 2
        if address in (0x40007004, 0x58024804, 0x58024818):  # the voltage is always there
            return 0xFFFFFFFF if address != 0x58024818 else value | 1 << 13
        for bank in self.banks:
            if address == family.flash + family.control + 0x100 * bank:
                return sum(self.banks[bank])
            if address == family.flash + family.status + 0x100 * bank:
                self.busy = max(self.busy - 1, 0)
                return family.busy if self.busy else 0
        if address == self.usart + family.usart["status"]:
            return 0xC0 | (0x20 if self.incoming and (self.busy or not self.keys) else 0)
        if address == self.usart + family.usart["receive"]:
            return self.incoming.pop(0)
        return value

    def _clocks(self, control: int) -> int:
        ready = (control & 1 << 24) << 1 if self.pll else 0
        ready |= (control & 1 << 16) << 1 if self.crystal else 0
        return control | ready | (control & 1 << 8) << 2 & (1 << 10)

    def _write(self, _core: Any, offset: int, _size: int, value: int, _user: Any) -> None:
        address, family = 0x40000000 + offset, self.family
        self.values[address] = value
        for bank, state in self.banks.items():
            base = family.flash + 0x100 * bank
            if address == base + family.key:
                self.keys[bank].append(value)
                if self.keys[bank] == KEYS[: len(self.keys[bank])] and state[0]:
                    state[0] = 0 if len(self.keys[bank]) == 2 else state[0]
                else:
                    self.wrong.append("key out of order")
            elif address == base + family.control:
                self._control(bank, value)

    def _control(self, bank: int, value: int) -> None:
        family, state = self.family, self.banks[bank]
        if state[0]:
            self.wrong.append("control written while locked")
        if value & family.lock:
            self.banks[bank] = [family.lock, 0]
            self.keys[bank] = []
            return
        state[1] = value & ~family.start
        if value & family.start and value & family.erase:
            start, size = self._named(bank, value)
            self.core.mem_write(start, b"\xff" * size)
            self.erased.append(start)
            self.busy = BUSY_READS

    def _named(self, bank: int, value: int) -> tuple[int, int]:
        """Return start and size of what a control word says to erase."""
        if self.family.unit == 32:
            return FLASH + (bank << 20) + (value >> 8 & 7) * 0x20000, 0x20000
        if self.family.unit == 8:
            return FLASH + (value >> 11 & 1) * 0x100000 + (value >> 3 & 255) * 4096, 4096
        small = 0x4000 if self.build.board.port == "stm32f4" else 0x8000
        sizes = [small] * 4 + [4 * small] + [8 * small] * 7
        number = value >> 3 & 15
        return FLASH + sum(sizes[:number]), sizes[number]

    def _programmed(self, core: Any, _kind: int, address: int, size: int, value: int, _user: Any) -> None:
        bank = (address - FLASH) >> 20 if len(self.banks) == 2 else 0
        old = int.from_bytes(core.mem_read(address, size), "little")
        if self.banks[bank][0] or not self.banks[bank][1] & self.family.program:
            self.wrong.append(f"{address:#x} written without leave")
        if size != 4 or (old != 0xFFFFFFFF and (self.family.unit > 4 or value & 0xFFFFFFFF & ~old)):
            self.wrong.append(f"{address:#x} written over {old:#x}")
        if address % self.family.unit == self.family.unit - 4:  # its last word: the unit is programmed
            self.busy = BUSY_READS

    def _fetched(self, _core: Any, address: int, _size: int, _user: Any) -> None:
        if self.busy:
            self.wrong.append(f"code at {address:#x} run while the flash is busy")
