"""Stand-ins of RP2040 and RP2350 around their USB controller; `wrong`: what their data sheets forbid."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import unicorn
from unicorn import arm_const as arm
from usb_chip import LOOK, RETURN, Chip
from usb_host import Handshake

from boards import Board

DPRAM, USB = 0x50100000, 0x50110000
CONTROLLER_RAM = 4096
FULL, DATA1, STALL, AVAILABLE = 1 << 15, 1 << 13, 1 << 11, 1 << 10
ROM_TABLE, ROM_FIND, ROM_FIRST = 0x80, 0x100, 0x200  # addresses in the ROM, all of our choice
SSI = 0x18000000
SECOND_STAGE = 0x20041F00
UNIQUE = bytes.fromhex("E6614C311B7A8C2D")
NAMES = ("IF", "EX", "RE", "RP", "FC", "CX", "UB", "GS", "RB")


@dataclass(frozen=True)
class Places:
    """Base addresses and reset bits of what the two chips have alike."""

    resets: int
    clocks: int
    xosc: int
    plls: tuple[int, int]  # of the system, of USB
    watchdog: int
    usb_irq: int
    reset_usb: int
    reset_pll: int
    clock_usb: int
    isolated: bool  # the PHY, after a reset


PLACES = {
    "rp2040": Places(
        0x4000C000, 0x40008000, 0x40024000, (0x40028000, 0x4002C000), 0x40058000, 5, 24, 13, 0x54, False
    ),
    "rp2350": Places(
        0x40020000, 0x40010000, 0x40048000, (0x40050000, 0x40058000), 0x400D8000, 14, 28, 15, 0x60, True
    ),
}


class Rp2(Chip):
    """A board with such a chip; as a device on the bus it takes tokens."""

    serial_number = UNIQUE.hex().upper()

    def __init__(self, board: Board, flash: bytes) -> None:
        self.places = PLACES[board.port]
        self.values: dict[int, int] = {}
        self.revision = 2  # of the RP2040: B2; 1 is B0 or B1
        self.connected, self.shown_at = True, 0
        self.button = True  # not held
        self.erased: list[int] = []
        self.bootsel = 0  # how often the program went to the ROM's own bootloader
        self.on_erase = lambda: None
        super().__init__(board, flash)

    def entry(self) -> tuple[int, int]:
        if self.board.port == "rp2350":
            stack, handler = struct.unpack_from("<2I", self.flash.raw, 0)
            return stack, handler
        self.core.mem_write(SECOND_STAGE, self.flash.raw[:256])  # 2.8.1.2: it runs in RAM
        return SECOND_STAGE, SECOND_STAGE

    def peripherals_reset(self) -> None:
        self._usb_reset()
        self.values = {self.places.resets: 0xFFFFFFFF}
        self.ram_usb = bytearray(CONTROLLER_RAM)
        self.xip = True
        self.to_flash: list[int] = []
        self.from_flash: list[int] = []
        self._usb_reset()

    def _usb_reset(self) -> None:
        if self.values.get(USB + 0x4C, 0) >> 16 & 1:
            self.pulled(up=False)
        for address in [address for address in self.values if USB <= address < USB + 0x1000]:
            del self.values[address]
        self.values[USB + 0x40] = 4 if self.places.isolated else 0
        self.done = self.status = 0
        self.frame, self.frame_at = False, self.cycles  # one began, and when

    def more(self, core: unicorn.Uc) -> None:
        core.mem_map(0, 0x4000)
        core.mem_write(RETURN, b"\xfe\xe7")
        if self.places.isolated:
            core.mem_write(0x16, struct.pack("<H", ROM_FIND | 1))
        else:
            core.mem_write(0x14, struct.pack("<3H", ROM_TABLE, 0, ROM_FIND | 1))
        core.mem_write(ROM_FIND, b"\x70\x47" * 0x200)
        core.hook_add(unicorn.UC_HOOK_CODE, self._rom, begin=ROM_FIND, end=ROM_FIND + 0x3FF)
        core.mmio_map(SSI, 0x1000, self._ssi_read, None, self._ssi_write, None)
        core.mmio_map(0xD0000000, 0x1000, self._sio_read, None, lambda *_: None, None)
        self._see(unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)

    def restart_attached(self) -> None:
        """Start again under a bootloader that stays on the bus: its registers are as it left them."""
        kept = {address: value for address, value in self.values.items() if address & ~0xFFF == USB}
        self.core_reset()
        self.values[self.places.resets] &= ~(1 << self.places.reset_usb)
        self.values |= kept
        self.pulled(up=True)

    # the ROM, 2.8.3
    def _rom(self, core: unicorn.Uc, address: int, _size: int, _user: Any) -> None:
        r = [core.reg_read(arm.UC_ARM_REG_R0 + i) for i in range(4)]
        if address == ROM_FIND:
            code = r[0] if self.places.isolated else r[1]
            name = bytes([code & 0xFF, code >> 8]).decode()
            if self.places.isolated and r[1] != 4:
                self.wrong.append(f"the ROM was asked for {name} with flags {r[1]}")
            core.reg_write(arm.UC_ARM_REG_R0, ROM_FIRST + 16 * NAMES.index(name) | 1)
            return
        name = NAMES[(address - ROM_FIRST) // 16]
        if name == "EX":
            self._see(unicorn.UC_PROT_NONE)
        elif name == "CX":
            self._see(unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        elif name in ("RE", "RP"):
            self._change(name, r)
        elif name == "GS":
            words = (1, 2, *struct.unpack(">2I", UNIQUE)[::-1])
            core.mem_write(r[0], struct.pack("<4I", *words))
            if r[1:3] != [4, 1]:
                self.wrong.append(f"get_sys_info({r[1]}, {r[2]})")
        elif name == "UB" or (name == "RB" and r[0] == 0x102):
            self.bootsel += 1
            self.asks_for_reset()

    def _see(self, rights: int) -> None:
        """Let the flash be read and run, or not: a look at it is then a fault."""
        self.xip = rights != unicorn.UC_PROT_NONE
        self.core.mem_protect(self.board.flash_memory.origin, self.board.flash_memory.size, rights)
        self.core.ctl_flush_tb()

    def _change(self, name: str, r: list[int]) -> None:
        if self.xip:
            self.wrong.append("flash changed without leaving execution in place")
        if name == "RE":
            self.flash[r[0] : r[0] + r[1]] = b"\xff" * r[1]  # type: ignore[misc]
            self.erased.append(r[0])
            self.on_erase()
        else:
            data = bytes(self.core.mem_read(r[1], r[2]))
            old = self.flash[r[0] : r[0] + r[2]]
            self.flash[r[0] : r[0] + r[2]] = bytes(  # type: ignore[misc]
                a & b for a, b in zip(old, data, strict=True)
            )

    def _ssi_read(self, _core: Any, offset: int, _size: int, _user: Any) -> int:
        if offset == 0x28:
            return 1 << 1 | bool(self.from_flash) << 3
        if offset == 0x60:
            return self.from_flash.pop(0)
        return 0

    def _ssi_write(self, _core: Any, offset: int, _size: int, value: int, _user: Any) -> None:
        if offset != 0x60:
            return
        if self.xip or self.values.get(0x4001800C, 0) >> 8 & 3 != 2:
            self.wrong.append("the flash was talked to while not selected")
        self.to_flash.append(value)
        at = len(self.to_flash) - 6
        known = self.to_flash[0] == 0x4B and 0 <= at < 8
        self.from_flash.append(UNIQUE[at] if known else 0xFF)

    def _sio_read(self, _core: Any, offset: int, _size: int, _user: Any) -> int:
        return (1 << 22 if self.button else 0) if offset == 4 else 0

    # registers
    def read(self, address: int, size: int) -> int:
        places = self.places
        if DPRAM <= address < DPRAM + CONTROLLER_RAM:
            self._alive("its RAM was read")
            self._owned(address - DPRAM, "read")
            return int.from_bytes(self.ram_usb[address - DPRAM : address - DPRAM + size], "little")
        if address & ~0xFFF == USB:
            self._alive("a register was read")
            if size != 4:
                self.wrong.append(f"{address:#x} read in part")
            return self._usb_read(address - USB)
        value = self.values.get(address, 0)
        if address == places.resets + 8:
            return ~self.values[places.resets] & 0xFFFFFFFF
        if address == places.xosc + 4:
            return 1 << 31
        if address in places.plls:
            power = self.values.get(address + 4, 0x2D)
            return value | (0 if power & 0x21 else 1 << 31)
        if address == places.clocks + 0x38:
            return 1 << (self.values.get(places.clocks + 0x30, 0) & 3)
        if address == places.clocks + 0x44:
            return 1 << (self.values.get(places.clocks + 0x3C, 0) & 1)
        if address == 0x40000000:
            return self.revision << 28
        return value

    def write(self, address: int, size: int, value: int) -> None:
        if DPRAM <= address < DPRAM + CONTROLLER_RAM:
            self._alive("its RAM was written")
            self._ram_write(address - DPRAM, size, value)
            return
        if size != 4:
            self.wrong.append(f"{address:#x} written in part")
        how, place = address >> 12 & 3, address & ~0x3000
        old = self.values.get(place, 0x2D if place - 4 in self.places.plls else 0)
        new = (value, old ^ value, old | value, old & ~value)[how]
        if place & ~0xFFF == USB:
            self._alive("a register was written")
            self._usb_write(place - USB, how, value, new)
            return
        self.values[place] = new
        if place == self.places.resets and new >> self.places.reset_usb & 1:
            self._usb_reset()
        if place == self.places.watchdog and value >> 31:
            self.asks_for_reset()

    def _alive(self, what: str) -> None:
        if self.values[self.places.resets] >> self.places.reset_usb & 1:
            self.wrong.append(f"USB: {what} while it was in reset")

    def hertz(self) -> float:
        """Return the frequency of its clock."""
        pll = self.places.plls[1]
        on = self.values.get(self.places.clocks + self.places.clock_usb, 0)
        if self.values[self.places.resets] >> self.places.reset_pll & 1 or on & 0xFE0 != 0x800:
            return 0
        if self.values.get(pll + 4, 0x2D) & 0x29:
            return 0
        vco = 12e6 / (self.values[pll] & 63) * self.values[pll + 8]
        if not 750e6 <= vco <= 1600e6:
            self.wrong.append(f"the PLL's oscillator at {vco / 1e6:.0f} MHz")
        dividers = self.values[pll + 0xC]
        return vco / (dividers >> 16 & 7) / (dividers >> 12 & 7)

    # the controller: 4.1
    @property
    def attached(self) -> bool:
        """Return whether its pull-up is on the bus."""
        get = self.values.get
        if not get(USB + 0x4C, 0) >> 16 & 1:
            return False
        if self.hertz() != 48e6:
            self.wrong.append(f"attached with a clock of {self.hertz() / 1e6} MHz")
        powered = get(USB + 0x78, 0) & 0xC == 0xC
        return get(USB + 0x40, 0) == 1 and get(USB + 0x74, 0) & 9 == 9 and powered

    def _usb_read(self, offset: int) -> int:
        if offset == 0x48:
            self.frame = False
        if offset == 0x50:
            return self.status | self.connected << 16 | 1 << 2
        if offset == 0x58:
            return self.done
        if offset == 0x98:
            return self._asks() & self.values.get(USB + 0x90, 0)
        return self.values.get(USB + offset, 0)

    def _usb_write(self, offset: int, how: int, value: int, new: int) -> None:
        if offset in (0x50, 0x58):
            if how != 3:
                self.wrong.append(f"flags at {offset:#x} written, not cleared")
            if offset == 0x50:
                self.status &= ~value
            else:
                self.done &= ~value
            return
        if offset == 0x74:
            self._shown(new)
        before = self.values.get(USB + 0x4C, 0)
        self.values[USB + offset] = new
        if offset == 0x4C and (before ^ new) >> 16 & 1:
            self.pulled(up=bool(new >> 16 & 1))

    def _asks(self) -> int:
        told = bool(self.done) << 4 | (self.status >> 19 & 1) << 12 | (self.status >> 17 & 1) << 16
        return self.frame << 17 | told

    def lines(self) -> set[int]:
        return {self.places.usb_irq} if self._asks() & self.values.get(USB + 0x90, 0) else set()

    def _word(self, offset: int) -> int:
        return int.from_bytes(self.ram_usb[offset : offset + 4], "little")

    def _buffer(self, endpoint: int, to_host: bool) -> int:
        return 0x80 + 8 * endpoint + 4 * (not to_host)

    def _place(self, endpoint: int, to_host: bool) -> int:
        return 0x100 if endpoint == 0 else self._word(8 * endpoint + 4 * (not to_host)) & 0xFFC0

    def _owned(self, offset: int, what: str) -> None:
        """Note a look at a buffer that is the controller's."""
        if offset < 0x100:
            return
        for endpoint in range(16):
            for to_host in (True, False):
                control = self._word(self._buffer(endpoint, to_host))
                if control & AVAILABLE and 0 <= offset - self._place(endpoint, to_host) < 64:
                    self.wrong.append(f"buffer of endpoint {endpoint} {what} while the controller had it")

    def _ram_write(self, offset: int, size: int, value: int) -> None:
        self._owned(offset, "written")
        if 0x80 <= offset < 0x100:
            if size != 4:
                self.wrong.append("a buffer control written in part")
            if value & AVAILABLE and self._word(offset) != value & ~AVAILABLE:
                self.wrong.append(f"buffer control {offset:#x} available with what it says: {value:#x}")
            late = self.cycles - self.frame_at > self.board.clock_hz * 8 // 10_000 + 2 * LOOK
            if value & AVAILABLE and offset == self._buffer(2, True) and late and not self.places.isolated:
                self.wrong.append("RP2040-E15: a packet for the end of a frame")
        self.ram_usb[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def bus_reset(self) -> None:
        """Reset the bus; an old RP2040 waits then for 0.8 ms of rest, and the bus is busy."""
        self.status |= 1 << 19
        self.connected = self.board.port != "rp2040" or self.revision > 1

    def work(self, most: int = 0) -> None:
        """Let the core run; a frame begins with it."""
        self.frame, self.frame_at = True, self.cycles
        super().work(most)

    def _shown(self, muxing: int) -> None:
        """RP2040-E5: note how long the input of GPIO 15 was given for D+."""
        pin = self.values.get(0x4001407C, 0)
        if muxing & 0xC == 0xC and pin & 0x1F == 8 and pin >> 16 & 3 == 3 and pin >> 12 & 3 == 2:
            if self.values.get(USB + 0x80, 0) != 4 or not self.values.get(USB + 0x7C, 0) & 2:
                self.wrong.append("the pull-up goes while D+ is shown over a pin")
            self.shown_at = self.cycles
        elif self.shown_at:
            rested = self.cycles - self.shown_at
            self.connected = self.connected or rested >= self.board.clock_hz * 8 // 10_000
            self.shown_at = 0

    def _answers(self, address: int, endpoint: int, to_host: bool) -> bool:
        if not (self.attached and self.connected) or address != self.values.get(USB, 0) & 0x7F:
            return False
        return endpoint == 0 or bool(self._word(8 * endpoint + 4 * (not to_host)) >> 31)

    def token_setup(self, address: int, data: bytes) -> bool:
        """Take a setup packet; False: nobody answers."""
        if not self._answers(address, 0, False):
            return False
        self.ram_usb[0:8] = data
        self.status |= 1 << 17
        self.values[USB + 0x68] = 0
        return True

    def _refuses(self, endpoint: int, to_host: bool) -> str | None:
        control = self._word(self._buffer(endpoint, to_host))
        armed = endpoint or self.values.get(USB + 0x68, 0) >> (not to_host) & 1
        if control & STALL and armed:
            return "stall"
        return None if control & AVAILABLE and bool(control & FULL) == to_host else "nak"

    def _finish(self, endpoint: int, to_host: bool, control: int) -> None:
        at = self._buffer(endpoint, to_host)
        self.ram_usb[at : at + 4] = control.to_bytes(4, "little")
        if endpoint == 0:
            told = self.values.get(USB + 0x4C, 0) >> 29 & 1
        else:
            told = self._word(8 * endpoint + 4 * (not to_host)) >> 29 & 1
        if told:
            self.done |= 1 << 2 * endpoint + (not to_host)

    def token_in(self, address: int, endpoint: int) -> Handshake | None:
        """Return what it sends: toggle and data, which are taken; "nak", "stall"; None: nobody answers."""
        if not self._answers(address, endpoint, True):
            return None
        if refusal := self._refuses(endpoint, True):
            return refusal
        control, place = self._word(self._buffer(endpoint, True)), self._place(endpoint, True)
        length = control & 0x3FF
        self._finish(endpoint, True, control & ~(AVAILABLE | FULL))
        return bool(control & DATA1), bytes(self.ram_usb[place : place + length])

    def token_out(self, address: int, endpoint: int, toggle: bool, data: bytes) -> Handshake | None:
        """Take a packet: "ack", "nak", "stall"; None: nobody answers."""
        if not self._answers(address, endpoint, False):
            return None
        if refusal := self._refuses(endpoint, False):
            return refusal
        control, place = self._word(self._buffer(endpoint, False)), self._place(endpoint, False)
        if bool(control & DATA1) != toggle:
            return "ack"  # it has had that packet, and its answer got lost
        if len(data) > control & 0x3FF:
            return None  # overflow
        self.ram_usb[place : place + len(data)] = data
        self._finish(endpoint, False, control & ~(AVAILABLE | 0x3FF) | FULL | len(data))
        return "ack"
