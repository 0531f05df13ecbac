"""A stand-in for the bootloader in an STM32's ROM, on a pty: strict protocol, flash like the real one."""

from __future__ import annotations

import os
import pty
import select
import threading
import time
import tty
from collections.abc import Callable
from functools import reduce
from operator import xor
from types import TracebackType
from typing import Any

from boards import Board
from kit.virtual import VirtualBoard

ORIGIN = 0x08000000
ACK, NACK = 0x79, 0x1F


class Line:
    """Bytes in one direction; each goes through `fault(index, byte)`, which returns those that arrive.

    None stands for a byte that comes `late` seconds after its turn, behind those that follow meanwhile.
    """

    def __init__(self) -> None:
        self.count = 0
        self.fault: Callable[[int, int], bytes | None] = lambda _, byte: bytes((byte,))
        self.late = 0.6
        self._delayed: list[tuple[float, bytes]] = []

    def carry(self, data: bytes) -> bytes:
        """Return what arrives of `data` now, and what was delayed until now."""
        out = bytearray()
        for byte in data:
            came = self.fault(self.count, byte)
            self.count += 1
            if came is None:
                self._delayed.append((time.monotonic() + self.late, bytes((byte,))))
            else:
                out += came
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            out += self._delayed.pop(0)[1]
        return bytes(out)


class StandIn:
    """The chip: memory, ROM and, once it was told to GO, the emulated board that runs what it holds.

    `pages` are runs of (how many, bytes of each). Flash is programmed by clearing bits only and erased by
    pages; addresses, lengths, complements and checksums are checked and refused as AN3155 says.
    """

    def __init__(
        self,
        board: Board,
        pages: list[tuple[int, int]],
        *,
        chip_id: int = 0x415,
        extended: bool = True,
        mass_erase: bool = True,
        block: int = 256,
        protected: bool = False,
        write_protected: bool = False,
    ) -> None:
        self.board, self.chip_id, self.extended = board, chip_id, extended
        self.mass_erase, self.block = mass_erase, block
        self.protected, self.write_protected = protected, write_protected
        self.pages = [size for count, size in pages for _ in range(count)]
        self.memory = bytearray(b"\xa5" * sum(self.pages))  # something old
        self.memory = self.memory[: board.flash_memory.size]
        self.refused: list[str] = []
        self.erased: list[int] = []
        self.running = False
        self.to_chip, self.to_host = Line(), Line()
        self._waiting = bytearray()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(20)
        os.close(self._master)
        os.close(self._slave)
        if self._failed is not None and error is None:
            raise self._failed

    def _live(self) -> None:
        try:
            self._rom()
        except Stopped:
            pass
        except BaseException as error:  # shown by __exit__
            self._failed = error

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        while len(self._waiting) < count:
            if self._stop.is_set():
                raise Stopped
            if select.select([self._master], [], [], 0.01)[0]:
                self._waiting += self.to_chip.carry(os.read(self._master, 4096))
            else:
                self._waiting += self.to_chip.carry(b"")
                self._say(b"")
        data = bytes(self._waiting[:count])
        del self._waiting[:count]
        return data

    def _say(self, data: bytes) -> None:
        if out := self.to_host.carry(data):
            os.write(self._master, out)

    def _answer(self, right: bool, why: str = "") -> bool:
        self._say(bytes((ACK if right else NACK,)))
        if not right:
            self.refused.append(why)
        return right

    def _rom(self) -> None:
        while self._byte() != 0x7F:
            pass
        self._say(bytes((ACK,)))
        commands = {0x00: self._get, 0x01: self._version, 0x02: self._id, 0x11: self._read, 0x21: self._go}
        commands |= {0x31: self._write, 0x44 if self.extended else 0x43: self._erase}
        while True:
            code, complement = self._byte(), self._byte()
            known = code in commands and code ^ 0xFF == complement
            guarded = self.protected and code not in (0x00, 0x01, 0x02)
            if self._answer(known and not guarded, f"command {code:02x} {complement:02x}"):
                commands[code]()
                if self.running:
                    return self._run()

    def _get(self) -> None:
        codes = bytes((0x00, 0x01, 0x02, 0x11, 0x21, 0x31, 0x44 if self.extended else 0x43))
        self._say(bytes((len(codes), 0x31)) + codes + bytes((ACK,)))

    def _version(self) -> None:
        self._say(bytes((0x31, 0, 0, ACK)))

    def _id(self) -> None:
        self._say(b"\x01" + self.chip_id.to_bytes(2, "big") + bytes((ACK,)))

    def _address(self) -> int | None:
        data = self._bytes(5)
        address = int.from_bytes(data[:4], "big")
        inside = ORIGIN <= address < ORIGIN + len(self.memory)
        if self._answer(reduce(xor, data) == 0 and inside and address % 4 == 0, f"address {data.hex()}"):
            return address - ORIGIN
        return None

    def _read(self) -> None:
        if (at := self._address()) is None:
            return
        count, complement = self._byte(), self._byte()
        right = count ^ 0xFF == complement and at + count < len(self.memory)
        if self._answer(right, f"read of {count} and {complement}"):
            self._say(bytes(self.memory[at : at + count + 1]))

    def _write(self) -> None:
        if (at := self._address()) is None:
            return
        length = self._byte()
        data, check = self._bytes(length + 1), self._byte()
        right = check == reduce(xor, data, length) and len(data) <= self.block and len(data) % 4 == 0
        right = right and at + len(data) <= len(self.memory) and not self.write_protected
        if right:
            for offset, byte in enumerate(data):
                self.memory[at + offset] &= byte  # programming clears bits
        self._answer(right, f"write of {len(data)} at {at:#x}")

    def _erase(self) -> None:
        width = 2 if self.extended else 1
        count = int.from_bytes(head := self._bytes(width), "big")
        if count >= (0xFFF0 if self.extended else 0xFF):
            check = self._byte()
            right = self.mass_erase and check == 0 and count == 256**width - 1
            if right and not self.write_protected:
                self.memory[:] = b"\xff" * len(self.memory)
            self._answer(right, f"mass erase {head.hex()} {check:02x}")
            return
        body = self._bytes(width * (count + 1))
        numbers = [int.from_bytes(body[at : at + width], "big") for at in range(0, len(body), width)]
        right = reduce(xor, head + body) == self._byte() and max(numbers) < len(self.pages)
        if self._answer(right, f"erase of {len(numbers)} pages"):
            for number in numbers:
                self.erased.append(number)
                start = sum(self.pages[:number])
                self.memory[start : start + self.pages[number]] = b"\xff" * len(
                    self.memory[start : start + self.pages[number]]
                )

    def _go(self) -> None:
        self.running = self._address() is not None

    def _run(self) -> None:
        """Let the emulated board talk on the same line."""
        with VirtualBoard(self.board, bytes(self.memory)) as machine:
            while not self._stop.is_set():
                if select.select([self._master], [], [], 0.01)[0]:
                    machine.write(self.to_chip.carry(os.read(self._master, 4096)))
                if out := machine.read(0):
                    self._say(out)


class Stopped(Exception):  # noqa: N818
    """The test is over."""
