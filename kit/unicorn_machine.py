"""An emulated Cortex-M0+ to M33: Unicorn is the core, kit/virtual_board.c everything around it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import unicorn
from unicorn import arm_const as arm
from unicorn.unicorn_py3.unicorn import uclib

from boards import BOOT_BYTES, Board
from boards.errors import UserError
from kit import counter

REGISTERS = 0x4000_0000  # as in firmware/ports/virtual.c
SYSTEM = 0xE000_E000  # VTOR and CPACR live here; plain memory suffices
SLICE = 100_000_000  # instructions between two looks at Ctrl-C, about 0.3 s
CHUNK = 1 << 16  # bytes moved at once between the lines and Python
Samples = npt.NDArray[np.int16]
_CORES = {
    "cortex-m0plus": arm.UC_CPU_ARM_CORTEX_M0,
    "cortex-m3": arm.UC_CPU_ARM_CORTEX_M3,
    "cortex-m4": arm.UC_CPU_ARM_CORTEX_M4,
    "cortex-m7": arm.UC_CPU_ARM_CORTEX_M7,
    "cortex-m33": arm.UC_CPU_ARM_CORTEX_M33,
}


class UnicornMachine:
    """Core, memories and lines of one board. RAM and flash outlive a reset, the core does not."""

    live = False

    def __init__(self, board: Board, flash: bytes) -> None:
        self.board = board
        self._c = counter.library()
        self._block = ctypes.create_string_buffer(self._c.ear_machine_bytes())
        self._me = ctypes.addressof(self._block)
        self._flash = ctypes.create_string_buffer(bytes(flash), board.flash_memory.size)
        self._ram = ctypes.create_string_buffer(board.ram_memory.size)
        self._more_ram = {
            memory.origin: ctypes.create_string_buffer(memory.size) for memory in board.more_ram.values()
        }
        self._out = ctypes.create_string_buffer(CHUNK)
        self._state = counter.Machine.from_buffer(self._block)
        self._state.flash, self._state.ram = ctypes.addressof(self._flash), ctypes.addressof(self._ram)
        self._state.flash_origin, self._state.flash_bytes = board.flash_memory.origin, board.flash_memory.size
        self._state.ram_origin, self._state.ram_bytes = board.ram_memory.origin, board.ram_memory.size
        self._state.protected_bytes = BOOT_BYTES
        self._state.clock_hz, self._state.air_over = board.clock_hz, True
        self._air: Iterator[Samples] = iter(())
        self._breath = np.zeros(0, np.int16)
        self._state.stop = ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value
        self._core = self._reset()

    def _reset(self) -> unicorn.Uc:
        """Return a fresh core at the reset vector; nothing translated before is kept."""
        self._fault_address: int | None = None
        state = self._state
        core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        core.ctl_set_cpu_model(_CORES[self.board.core])
        read_execute = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
        core.mem_map_ptr(state.flash_origin, state.flash_bytes, read_execute, state.flash)
        core.mem_map_ptr(state.ram_origin, state.ram_bytes, unicorn.UC_PROT_ALL, state.ram)
        for origin, memory in self._more_ram.items():
            core.mem_map_ptr(origin, len(memory), unicorn.UC_PROT_ALL, ctypes.addressof(memory))
        core.mem_map(SYSTEM, 0x1000)
        handle, hook = core._uch, ctypes.c_size_t()
        on_block, on_read, on_write = (
            ctypes.cast(getattr(self._c, name), ctypes.c_void_p)
            for name in ("ear_on_block", "ear_on_read", "ear_on_write")
        )
        failed = uclib.uc_mmio_map(handle, REGISTERS, 0x1000, on_read, self._me, on_write, self._me)
        failed = failed or uclib.uc_hook_add(
            handle,
            ctypes.byref(hook),
            unicorn.UC_HOOK_BLOCK,
            on_block,
            self._me,
            ctypes.c_uint64(1),
            ctypes.c_uint64(0),
        )
        if failed:
            raise unicorn.UcError(failed)
        core.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._note_address)
        self._c.ear_reset(self._me)
        stack, entry = (int.from_bytes(self._flash.raw[at : at + 4], "little") for at in (0, 4))
        core.reg_write(arm.UC_ARM_REG_SP, stack)
        core.reg_write(arm.UC_ARM_REG_PC, entry | 1)
        return core

    @property
    def instructions(self) -> int:
        """Return the instructions executed since power-on."""
        return int(self._state.instructions)

    @property
    def flash(self) -> bytes:
        """Return what the flash holds."""
        return self._flash.raw

    @property
    def flash_changes(self) -> int:
        """Return how often the flash controller erased or programmed."""
        return int(self._state.flash_changes)

    def boot_pin(self, held: bool) -> None:
        """Hold the boot pin or let it go."""
        self._state.boot_pin = held

    def power_cycle(self) -> None:
        """Clear RAM and reset."""
        ctypes.memset(self._state.ram, 0, self._state.ram_bytes)
        for memory in self._more_ram.values():
            ctypes.memset(memory, 0, len(memory))
        self._state.rx_tail, self._state.tx_tail = self._state.rx_head, self._state.tx_head
        self._core = self._reset()

    def send(self, data: bytes) -> None:
        """Put `data` on the board's receive line."""
        while data:
            taken = self._c.ear_send(self._me, data, len(data))
            if not taken:
                self.run(SLICE)
            data = data[taken:]

    def receive(self) -> bytes:
        """Return what the board has sent."""
        length = self._c.ear_receive(self._me, self._out, CHUNK)
        return self._out.raw[:length]

    def air(self, rate: int, sound: Iterator[Samples]) -> None:
        """Let the microphone hear `sound` at `rate` Hz from its next start on; behind its end, nothing."""
        self._state.air_at = self._state.air_end  # what was in the air before is gone
        self._state.air_rate, self._state.air_over = rate, False
        self._air, self._breath = sound, np.zeros(0, np.int16)

    def _breathe(self) -> None:
        """Fill up the air."""
        taken = 1
        while taken:
            if not self._breath.size:
                self._breath = next((block for block in self._air if block.size), self._breath)
            taken = self._c.ear_breathe(self._me, self._breath.astype("<i2").tobytes(), self._breath.size)
            self._breath = self._breath[taken:]

    def close(self) -> None:
        """Do nothing: memory is all there is."""

    def run(self, limit: int, _timeout: float = 0.0) -> bool:
        """Run until the board rests; False when it had not rested after `limit` instructions.

        Raises:
            UserError: the firmware faulted.
        """
        end = self.instructions + limit
        while True:
            breathless = self._c.ear_breathless(self._me)
            self._state.limit = min(self.instructions + SLICE, end, breathless)
            self._state.state = counter.RUNNING
            try:
                self._core.emu_start(self._core.reg_read(arm.UC_ARM_REG_PC) | 1, 0xFFFF_FFFE)
            except unicorn.UcError:
                raise self._fault() from None
            self._c.ear_settle(self._me, self._core.reg_read(arm.UC_ARM_REG_PC) & ~1)
            if self._state.state == counter.IDLE:
                return True
            if self._state.state == counter.RESET:
                self._core = self._reset()
            elif self._state.state == counter.BREATHLESS:  # while it rested: it does not hang
                self._breathe()
                end = self.instructions + limit
            elif self._state.limit == end:
                return False
            elif self._state.limit == breathless:
                self._breathe()

    def _note_address(self, _core: unicorn.Uc, _access: int, address: int, *_: object) -> bool:
        self._fault_address = address
        return False

    def _holds_code(self, address: int) -> bool:
        regions = (self.board.flash_memory, self.board.ram_memory)
        return any(region.origin <= address < region.origin + region.size for region in regions)

    def _fault(self) -> UserError:
        where = self._core.reg_read(arm.UC_ARM_REG_PC) & ~1
        what = "illegal instruction"
        if not self._holds_code(where):
            what = "no code there"
        elif self._fault_address is not None:
            what = f"no memory or no permission at {self._fault_address:#010x}"
        return UserError(
            f"{self.board.name} crashed at PC {where:#010x}: {what}; "
            "reset it, or compile and flash the model again"
        )
