"""A chip around a Cortex-M in Unicorn: interrupts, counters, resets; what hangs on the bus is the chip's own.

Time passes with the looks at a counter. Interrupts come between two runs of the core, where it rests, and
where a test asks for it, in the middle of anything.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from typing import Any

import unicorn
from core_runner import CORES
from unicorn import arm_const as arm

from boards import Board

RETURN = 0x3F00  # where handlers return to: two bytes that only the stand-in knows
SYSTEM, TRACE = 0xE000E000, 0xE0001000
LOOK = 2000  # cycles that pass from one look at a counter to the next
MASK = 0xFFFFFF  # of SysTick
SLICE = 200_000  # instructions that a chip runs at a time while a host may speak
PATIENCE = 400_000_000  # instructions without rest: it hangs
WFI = b"\x30\xbf"


class StuckError(AssertionError):
    """The firmware neither rests nor ends."""


class Chip(ABC):
    """Core, flash, RAM and system registers; `read` and `write` are the peripherals from 0x40000000 on."""

    def __init__(self, board: Board, flash: bytes) -> None:
        self.board, self.wrong = board, list[str]()
        self.flash = ctypes.create_string_buffer(flash.ljust(board.flash_memory.size, b"\xff"), None)
        self.ram = ctypes.create_string_buffer(0x80000 + 0x2000)
        self.resets, self.cycles = 0, 0
        self.attached_from = 0  # the address of the code that last pulled up
        self.attaches, self.gaps = 0, list[int]()  # of the pull-up; cycles without it between two
        self._let_go: int | None = None
        self.halted = False  # by a reset that the program asked for
        self.rests = False
        self.power_on()

    # what a chip says of itself
    @abstractmethod
    def read(self, address: int, size: int) -> int:
        """Return what a register of a peripheral holds."""

    @abstractmethod
    def write(self, address: int, size: int, value: int) -> None:
        """Take what the program writes to a register of a peripheral."""

    @abstractmethod
    def lines(self) -> set[int]:
        """Return the interrupts that peripherals ask for."""

    @abstractmethod
    def entry(self) -> tuple[int, int]:
        """Return stack pointer and address with which the core starts."""

    @abstractmethod
    def peripherals_reset(self) -> None:
        """Do to the peripherals what a reset does."""

    @abstractmethod
    def more(self, core: unicorn.Uc) -> None:
        """Map what else there is."""

    def pulled(self, *, up: bool) -> None:
        """Note that the pull-up went on or off."""
        if up:
            self.attaches += 1
            self.attached_from = self.core.reg_read(arm.UC_ARM_REG_PC)
            if self._let_go is not None:
                self.gaps.append(self.cycles - self._let_go)
        self._let_go = None if up else self.cycles

    # the core
    def power_on(self) -> None:
        """Take the power away and give it back."""
        ctypes.memset(self.ram, 0xA7, len(self.ram))
        self.core_reset()

    def core_reset(self) -> None:
        """Reset everything but the contents of flash and RAM."""
        self.system: dict[int, int] = {}
        self.enabled: set[int] = set()
        self.wrapped = self.halted = self.rests = False
        self.core = core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        core.ctl_set_cpu_model(CORES[self.board.core])
        flash = self.board.flash_memory
        start = flash.origin & ~0xFFFFF
        before = flash.origin - start
        if before:
            core.mem_map(start, before)
        core.mem_map_ptr(flash.origin, flash.size, unicorn.UC_PROT_ALL, ctypes.addressof(self.flash))
        core.mem_map_ptr(0x20000000, len(self.ram), unicorn.UC_PROT_ALL, ctypes.addressof(self.ram))
        core.mmio_map(0x40000000, 0x20000000, self._peripheral_read, None, self._peripheral_write, None)
        core.mmio_map(SYSTEM, 0x1000, self._system_read, None, self._system_write, None)
        core.mmio_map(TRACE, 0x1000, self._trace_read, None, lambda *_: None, None)
        self.more(core)
        self.peripherals_reset()
        stack, address = self.entry()
        core.reg_write(arm.UC_ARM_REG_SP, stack)
        core.reg_write(arm.UC_ARM_REG_PC, address | 1)

    def asks_for_reset(self) -> None:
        """Reset once the instruction has ended."""
        self.halted = True
        self.core.emu_stop()

    def work(self, most: int = 0) -> None:
        """Let the core run until it rests; at most `most` instructions, 0: as many as it takes."""
        left = most or PATIENCE
        while left > 0:
            if self.rests and not self._pending():
                return
            self.only_interrupts()
            count = min(left, SLICE)
            self._start(count)
            left -= count
            pc = self.core.reg_read(arm.UC_ARM_REG_PC)
            if self.halted:
                self.resets += 1
                self.core_reset()
            else:
                self.rests = bytes(self.core.mem_read(pc - 2, 2)) == WFI
        if not most:
            raise StuckError(f"no rest within {PATIENCE} instructions, at {pc:#x}")
        self.rests = self.rests and not self._pending()

    def _start(self, count: int, until: int = 0xFFFFFFFE) -> None:
        try:
            self.core.emu_start(self.core.reg_read(arm.UC_ARM_REG_PC) | 1, until, count=count)
        except unicorn.UcError as error:
            raise StuckError(f"{error} at {self.core.reg_read(arm.UC_ARM_REG_PC):#x}") from None

    def _pending(self) -> set[int]:
        return self.lines() & self.enabled | ({-1} if self.wrapped else set())

    def _masked(self) -> bool:
        return bool(self.core.reg_read(arm.UC_ARM_REG_PRIMASK) & 1)

    def only_interrupts(self) -> None:
        """Run the handlers of what is pending, and no more of the program than leads to where they may."""
        for _ in range(100):
            if self._pending() and self._masked():
                self._start(1)
        for _ in range(1000):
            pending = self._pending()
            if not pending or self._masked() or self.halted:
                return
            self.rests = False
            number = min(pending)
            if number < 0:
                self.wrapped = False
            self._handle(15 if number < 0 else 16 + number)
        raise StuckError(f"the handlers of {pending} do not end what asked for them")

    def _handle(self, exception: int) -> None:
        core = self.core
        kept = core.context_save()
        table = self.system.get(0xD08, 0)
        handler = int.from_bytes(core.mem_read(table + 4 * exception, 4), "little")
        if not handler & 1:
            raise StuckError(f"no handler for exception {exception}")
        core.reg_write(arm.UC_ARM_REG_SP, (core.reg_read(arm.UC_ARM_REG_SP) - 104) & ~7)
        core.reg_write(arm.UC_ARM_REG_LR, RETURN | 1)
        core.reg_write(arm.UC_ARM_REG_IPSR, exception)
        core.reg_write(arm.UC_ARM_REG_PC, handler)
        self._start(50_000_000, RETURN)
        if self.halted:
            self.resets += 1
            self.core_reset()
        elif core.reg_read(arm.UC_ARM_REG_PC) & ~1 != RETURN:
            raise StuckError(f"the handler of exception {exception} does not return")
        else:
            core.context_restore(kept)

    def says(self, address: int, data: bytes) -> None:
        """Let the program call its port_uart_write, which is at `address`, with `data`, out of its rest."""
        core, kept = self.core, self.core.context_save()
        place = (core.reg_read(arm.UC_ARM_REG_SP) - len(data) - 64) & ~7
        core.mem_write(place, data)
        for register, value in (("SP", place), ("R0", place), ("R1", len(data)), ("LR", RETURN | 1)):
            core.reg_write(getattr(arm, f"UC_ARM_REG_{register}"), value)
        core.reg_write(arm.UC_ARM_REG_PC, address)
        self._start(50_000_000, RETURN)
        core.context_restore(kept)

    # the core's own registers
    def _passes(self) -> int:
        before = self.cycles
        self.cycles += LOOK
        if self.system.get(0x10, 0) & 1 and before // (MASK + 1) != self.cycles // (MASK + 1):
            self.wrapped = bool(self.system[0x10] & 2)
        return self.cycles

    def _system_read(self, _core: Any, offset: int, _size: int, _user: Any) -> int:
        if offset == 0x18:
            return MASK - self._passes() % (MASK + 1)
        if offset == 0xD04:
            return self.wrapped << 26
        if 0x100 <= offset < 0x140:
            return sum(1 << bit for bit in range(32) if (offset - 0x100) * 8 + bit in self.enabled)
        return self.system.get(offset, 0)

    def _system_write(self, _core: Any, offset: int, _size: int, value: int, _user: Any) -> None:
        numbers = {(offset & 0x3F) * 8 + bit for bit in range(32) if value >> bit & 1}
        if 0x100 <= offset < 0x140:
            self.enabled |= numbers
        elif 0x180 <= offset < 0x1C0:
            self.enabled -= numbers
        elif offset == 0xD0C:
            if value >> 16 == 0x05FA and value & 4:
                self.asks_for_reset()
        else:
            self.system[offset] = value

    def _trace_read(self, _core: Any, offset: int, _size: int, _user: Any) -> int:
        return self._passes() & 0xFFFFFFFF if offset == 4 else 0

    def _peripheral_read(self, _core: Any, offset: int, size: int, _user: Any) -> int:
        return self.read(0x40000000 + offset, size)

    def _peripheral_write(self, _core: Any, offset: int, size: int, value: int, _user: Any) -> None:
        self.write(0x40000000 + offset, size, value)
