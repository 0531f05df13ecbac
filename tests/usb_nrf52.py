"""A stand-in of the nRF52840 around its USB controller, from the product specification and the errata.

`wrong` tells what they forbid. Arduino's bootloader lies below, and has started what runs.
"""

from __future__ import annotations

import struct
from typing import Any

import unicorn
from unicorn import arm_const as arm
from usb_chip import RETURN, Chip
from usb_host import Handshake

from boards import Board

USBD, NVMC = 0x40027000, 0x4001E000
FICR = 0x10000000
UNIQUE = bytes.fromhex("A1B2C3D4E5F60718")
USB_IRQ, POWER_IRQ, FOREIGN_IRQ = 39, 0, 11
RESET, DONE, SETUP, DATA = 0x100, 0x128, 0x15C, 0x160
STAY = 0x4E
PAGE = 4096


class Nrf52(Chip):
    """A board with such a chip; as a device on the bus it takes tokens."""

    serial_number = UNIQUE.hex().upper()

    def __init__(self, board: Board, flash: bytes) -> None:
        self.foreign: set[int] = set()  # interrupts that another bootloader has left
        self.kept, self.bootsel = 0, 0  # GPREGRET; how often Arduino's bootloader was asked for
        self.button, self.cable = True, True
        self.erased: list[int] = []
        self.on_erase = lambda: None
        self.told_status = False  # a status stage that was allowed just before the chip left the bus
        self.values: dict[int, int] = {}
        super().__init__(board, flash)

    def entry(self) -> tuple[int, int]:
        stack, handler = struct.unpack_from("<2I", self.flash.raw, 0)
        return stack, handler

    def peripherals_reset(self) -> None:
        self._lost_power()
        self.values = {NVMC + 0x504: 0}
        self.unlocked = False
        if self.kept == STAY:
            self.bootsel += 1
        self.kept = 0

    def _lost_power(self) -> None:
        """Do what the end of a controller's power does."""
        if self.values.get(USBD + 0x504):
            self.pulled(up=False)
        self.values = {a: v for a, v in self.values.items() if not USBD <= a < USBD + 0x1000}
        self.events: dict[int, int] = {}
        self.address, self.next_address = 0, -1
        self.into: dict[int, bytes | None] = {}  # by endpoint: what waits for IN
        self.out_of: dict[int, bytes] = {}  # what OUT brought and EasyDMA has not taken
        self.accepts: set[int] = set()  # endpoints that take an OUT packet
        self.toggles: dict[int, bool] = {}
        self.stalls: set[int] = set()
        self.status = self.receives = self.stalled = False
        self.toggle_control, self.data_status = True, 0
        self.setup = bytes(8)

    def more(self, core: unicorn.Uc) -> None:
        core.mem_write(RETURN, b"\xfe\xe7")
        core.mem_map(FICR, 0x1000)
        core.mem_write(FICR + 0x60, struct.pack("<2I", *struct.unpack(">2I", UNIQUE)[::-1]))
        flash = self.board.flash_memory
        core.hook_add(
            unicorn.UC_HOOK_MEM_WRITE, self._programmed, begin=flash.origin, end=flash.origin + flash.size - 1
        )

    def restart_attached(self) -> None:
        """Start again under a bootloader that stays on the bus: its registers are as it left them."""
        kept = {a: v for a, v in self.values.items() if a & ~0xFFF == USBD}
        self.core_reset()
        self.values |= kept
        self.pulled(up=True)
        self.foreign, self.enabled = {FOREIGN_IRQ}, {FOREIGN_IRQ, USB_IRQ}
        self.core.reg_write(arm.UC_ARM_REG_PRIMASK, 1)
        self.events[USBD + DATA] = 1

    def plug(self, *, cable: bool) -> None:
        """Give the cable or take it away; the board has another supply."""
        self.cable = cable
        self.events[0x11C if cable else 0x120] = 1
        if not cable:
            kept = self.events
            self._lost_power()
            self.events = {a: v for a, v in kept.items() if a in (0x11C, 0x120)}

    # flash: 4.3
    def _programmed(self, core: Any, _kind: int, address: int, size: int, value: int, _user: Any) -> None:
        old = int.from_bytes(core.mem_read(address, size), "little")
        if self.values.get(NVMC + 0x504) != 1 or size != 4 or value & 0xFFFFFFFF & ~old:
            self.wrong.append(f"flash at {address:#x} written")

    # registers
    def read(self, address: int, size: int) -> int:
        if size != 4:
            self.wrong.append(f"{address:#x} read in part")
        if address & ~0xFFF == USBD:
            return self._usb_read(address - USBD)
        special = {
            0x40000100: 1,
            0x40000438: 3 * self.cable,
            0x4000051C: self.kept,
            NVMC + 0x400: 1,
            0x4006EC00: int(self.unlocked),
            0x50000810: self.button << 11,
        }
        if 0x40000104 <= address < 0x40000200:
            return self.events.get(address & 0xFFF, 0)
        return special.get(address, self.values.get(address, 0))

    def write(self, address: int, size: int, value: int) -> None:
        if size != 4:
            self.wrong.append(f"{address:#x} written in part")
        if address & ~0xFFF == USBD:
            self._usb_write(address - USBD, value)
            return
        if 0x40000104 <= address < 0x40000200:
            self.events[address & 0xFFF] = value
        elif address == 0x40000304:
            self.values[address] = self.values.get(address, 0) | value
        elif address == 0x4000051C:
            self.kept = value & 0xFF
        elif address == 0x4006EC00:
            self.unlocked ^= value == 0x9375
        elif address in (0x4006EC14, 0x4006ED14) and not self.unlocked:
            self.wrong.append(f"{address:#x} written without its key")
        elif address == NVMC + 0x508:
            self._erase(value)
        else:
            self.values[address] = value

    def _erase(self, address: int) -> None:
        if self.values.get(NVMC + 0x504) != 2 or address % PAGE:
            self.wrong.append(f"erased {address:#x} in mode {self.values.get(NVMC + 0x504)}")
        at = address - self.board.flash_memory.origin
        self.flash[at : at + PAGE] = b"\xff" * PAGE  # type: ignore[misc]
        self.erased.append(address)
        self.on_erase()

    # the controller: 6.35
    @property
    def _ready(self) -> bool:
        return bool(self.values.get(USBD + 0x500, 0))

    @property
    def attached(self) -> bool:
        """Return whether its pull-up is on the bus."""
        return self.cable and self._ready and bool(self.values.get(USBD + 0x504, 0))

    def _usb_read(self, offset: int) -> int:
        if 0x100 <= offset < 0x200:
            return self.events.get(USBD + offset, 0)
        if 0x480 <= offset < 0x4A0:
            return self.setup[(offset - 0x480) // 4]
        if 0x4A0 <= offset < 0x4C0:
            return len(self.out_of.get((offset - 0x4A0) // 4, b""))
        if offset == 0x46C:
            return self.data_status
        return self.address if offset == 0x470 else self.values.get(USBD + offset, 0)

    def _usb_write(self, offset: int, value: int) -> None:
        if not self._ready and offset not in (0x500, 0x400, 0x504, 0x304, 0xC1C):
            self.wrong.append(f"USBD {offset:#x} written while it was off")
        if offset < 0x100:
            self._task(offset)
        elif offset < 0x200:
            self.events[USBD + offset] = value
        elif offset == 0x304:
            self.values[USBD + 0x304] = self.values.get(USBD + 0x304, 0) | value
        elif offset == 0x400:
            self.values[USBD + 0x400] = self.values.get(USBD + 0x400, 0) & ~value
        elif offset == 0x46C:
            self.data_status &= ~value
        elif 0x4A0 <= offset < 0x4C0:
            self.out_of.pop((offset - 0x4A0) // 4, None)
            self.accepts.add((offset - 0x4A0) // 4)
        else:
            self._configured(offset, value)

    def _configured(self, offset: int, value: int) -> None:
        before = self.values.get(USBD + offset, 0)
        self.values[USBD + offset] = value
        endpoint = (value & 7) | (value & 0x80)
        if offset == 0x500 and value:
            held = self.values.get(0x4006ED14) == 3 and self.values.get(0x4006EC14) == 0xC0
            if held and self.cable:
                self.values[USBD + 0x400] = self.values.get(USBD + 0x400, 0) | 1 << 11
            else:
                self.wrong.append("enabled without power, or against errata 171 and 187")
        elif offset == 0x504 and bool(before) != bool(value):
            if value and (self.values.get(0x4006ED14) or not self.values.get(0x40000000)):
                self.wrong.append("pulled up before it was ready")
            self.pulled(up=bool(value))
        elif offset == 0x50C and value >> 8 & 3:
            self.toggles[endpoint] = value >> 8 & 3 == 2
        elif offset == 0x518:
            (self.stalls.add if value >> 8 & 1 else self.stalls.discard)(endpoint)

    def _task(self, offset: int) -> None:
        runs = self.values.get(USBD + 0xC1C) == 0x82
        if runs != (offset < 0x4C):
            self.wrong.append(f"erratum 199: task {offset:#x} while EasyDMA {'runs' if runs else 'rests'}")
        if offset == 0x4C:
            self.receives = True
        elif offset == 0x50:
            self.status = True
        elif offset == 0x54:
            self.stalled = True
        else:
            self._move((offset - 4) // 4 if offset < 0x28 else (offset - 0x28) // 4, to_host=offset < 0x28)

    def _move(self, number: int, *, to_host: bool) -> None:
        base = USBD + (0x600 if to_host else 0x700) + 0x14 * number
        place, count = self.values[base], self.values[base + 4]
        ram = self.board.ram_memory
        if not ram.origin <= place <= ram.origin + ram.size - count:
            self.wrong.append(f"EasyDMA of {count} bytes at {place:#x}")
        if to_host:
            if self.into.get(number) is not None:
                self.wrong.append(f"endpoint {number}: a packet over one that waits")
            self.into[number] = bytes(self.core.mem_read(place, count))
        else:
            data = self.out_of.pop(number, b"")
            if len(data) != count:
                self.wrong.append(f"EasyDMA of {count} bytes of {len(data)}")
            self.core.mem_write(place, data)
            if number:
                self.accepts.add(number)
        self.events[USBD + (0x108 if to_host else 0x130) + 4 * number] = 1

    def lines(self) -> set[int]:
        enabled, power = self.values.get(USBD + 0x304, 0), self.values.get(0x40000304, 0)
        found = set(self.foreign)
        if any(
            enabled >> (at - 0x100) // 4 & 1 and self.events.get(USBD + at) for at in range(0x100, 0x164, 4)
        ):
            found.add(USB_IRQ)
        if (power >> 7 & 1 and self.events.get(0x11C)) or (power >> 8 & 1 and self.events.get(0x120)):
            found.add(POWER_IRQ)
        return found

    def bus_reset(self) -> None:
        """Reset the bus: the controller forgets all but what the program has set up."""
        self.events[USBD + RESET] = 1
        self.address, self.next_address = 0, -1
        self.into, self.out_of, self.accepts, self.stalls = {}, {}, set(), set()
        self.status = self.receives = self.stalled = self.told_status = False
        self.values[USBD + 0x510] = self.values[USBD + 0x514] = 1

    def _answers(self, address: int, endpoint: int, to_host: bool) -> bool:
        enabled = self.values.get(USBD + (0x510 if to_host else 0x514), 1)
        return self.attached and address == self.address and bool(enabled >> endpoint & 1)

    def token_setup(self, address: int, data: bytes) -> bool:
        """Take a setup packet; False: nobody answers."""
        self.told_status = False
        if not self._answers(address, 0, False):
            return False
        self.setup = data
        self.into.pop(0, None)
        self.out_of.pop(0, None)
        self.receives = self.stalled = False
        self.toggle_control = True
        self.status = data[:2] == b"\0\5"
        self.next_address = data[2] if self.status else -1
        self.events[USBD + SETUP] = 1
        return True

    def token_in(self, address: int, endpoint: int) -> Handshake | None:
        """Return what it sends: toggle and data, which are taken; "nak", "stall"; None: nobody answers."""
        if self.told_status and endpoint == 0:
            self.told_status = False
            return True, b""
        if not self._answers(address, endpoint, True):
            return None
        if endpoint | 0x80 in self.stalls or (endpoint == 0 and self.stalled):
            return "stall"
        data = self.into.get(endpoint)
        if endpoint == 0:
            return self._control_in(data)
        if data is None:
            return "nak"
        self.into[endpoint] = None
        toggle = self.toggles.get(endpoint | 0x80, False)
        self.toggles[endpoint | 0x80] = not toggle
        self.data_status |= 1 << endpoint
        self.events[USBD + DATA] = 1
        return toggle, data

    def _control_in(self, data: bytes | None) -> Handshake:
        if data is not None:
            self.into[0] = None
            toggle, self.toggle_control = self.toggle_control, not self.toggle_control
            self.events[USBD + DONE] = 1
            return toggle, data
        if not self.status:
            return "nak"
        self.status = False
        if self.next_address >= 0:
            self.address, self.next_address = self.next_address, -1
        return True, b""

    def token_out(self, address: int, endpoint: int, toggle: bool, data: bytes) -> Handshake | None:
        """Take a packet: "ack", "nak", "stall"; None: nobody answers."""
        if not self._answers(address, endpoint, False):
            return None
        if endpoint in self.stalls or (endpoint == 0 and self.stalled):
            return "stall"
        if endpoint == 0:
            return self._control_out(data)
        if endpoint not in self.accepts:
            return "nak"
        if self.toggles.get(endpoint, False) != toggle:
            return "ack"  # it has had that packet, and its answer got lost
        self.toggles[endpoint] = not toggle
        self.accepts.discard(endpoint)
        self.out_of[endpoint] = data
        self.data_status |= 1 << 16 + endpoint
        self.events[USBD + DATA] = 1
        return "ack"

    def _control_out(self, data: bytes) -> Handshake:
        if self.setup[0] & 0x80:
            taken, self.status = self.status, False
            return "ack" if taken and not data else "nak"
        if not self.receives:
            return "nak"
        self.receives = False
        self.out_of[0] = data
        self.events[USBD + DONE] = 1
        return "ack"

    def asks_for_reset(self) -> None:
        """Reset once the instruction has ended; a host has long taken what was allowed 2 ms before."""
        self.told_status = self.told_status or self.status
        super().asks_for_reset()
