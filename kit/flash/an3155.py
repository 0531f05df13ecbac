"""The host's end of AN3155, the UART protocol in every STM32's ROM: each exchange whole, or done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import reduce
from operator import xor
from typing import Protocol, TypeVar

from boards.errors import UserError

ACK, NACK, SYNC = b"\x79", b"\x1f", b"\x7f"
GET, GET_ID, READ, GO, WRITE, ERASE, EXTENDED_ERASE = 0x00, 0x02, 0x11, 0x21, 0x31, 0x43, 0x44
NO_COMMAND = b"\xff\x00"  # rightly complemented: NACK whatever went before
LONGEST = 300  # bytes that a command may still wait for: 256 of a write, with room
LIST = 2 * 0x10000  # bytes of pages that an erase may wait for when its count came wrong
PAGES = 64  # that one erase names
ERASED = ({0xFF}, {0x00})  # what erased flash reads as: 0 on STM32L0 and L1
TRIES, ERASES = 4, 2
ANSWER = 1.0  # seconds
ERASING = 30.0  # seconds
QUIET = 0.05  # seconds
BITS = 12  # of a byte on the line: start, data, parity, stop, and some slack
BABBLE = 1.5  # seconds of bytes that nobody asked for
FILL = 20.0  # seconds

T = TypeVar("T")


class LostError(UserError):
    """No answer, or none that the protocol knows."""


class RefusedError(UserError):
    """A NACK; `stage` tells to what: command, address or data."""

    def __init__(self, stage: str) -> None:
        super().__init__(f"the bootloader refuses the {stage}")
        self.stage = stage


class SpoiledError(UserError):
    """A write that went wrong halfway: the flash holds neither the data nor its erased state."""


class Port(Protocol):
    """What of a pyserial port is used: its reads return soon, whether or not all has come."""

    @property
    def in_waiting(self) -> int:
        """Bytes that have come."""

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes."""

    def write(self, data: bytes) -> object:
        """Send all of `data`."""


class Rom:
    """The bootloader at the other end of `port`; its answers are checked and every exchange is retried."""

    def __init__(self, port: Port, name: str, baud: int) -> None:
        self._port, self._name, self._last = port, name, SYNC[0]
        self._pad = LONGEST * BITS / baud  # seconds that the longest command takes

    def greet(self) -> bool:
        """Tell whether a bootloader answers to the byte by which it measures the baud rate."""
        for _ in range(TRIES):
            self._drain(0)
            self._port.write(SYNC)
            if self._read(1, ANSWER / 2) in (ACK, NACK):  # NACK: it had measured before
                try:
                    self._resynchronise()
                except LostError:
                    return False
                return True
        return False

    def commands(self) -> frozenset[int]:
        """Return the codes of the commands that it knows."""
        answer = self._agreed(lambda: self._ask(GET))
        return frozenset(answer[1:])

    def chip_id(self) -> int:
        """Return the chip's number (AN2606)."""
        return int.from_bytes(self._agreed(lambda: self._ask(GET_ID)), "big")

    def read(self, address: int, count: int) -> bytes:
        """Return `count` (1 to 256) bytes of memory."""
        return self._tried(lambda: self._read_once(address, count))

    def write(self, address: int, data: bytes) -> None:
        """Program `data` (at most 256 bytes, a multiple of 4) into erased flash.

        Raises:
            SpoiledError: part of it was written and it must be erased first.
        """
        for _ in range(TRIES):
            try:
                return self._write_once(address, data)
            except (LostError, RefusedError) as error:
                failure = error
            self._resynchronise()
            found = self.read(address, len(data))
            if found == data:
                return None
            if isinstance(failure, LostError) and set(found) not in ERASED:  # refused: nothing was written
                raise SpoiledError(f"{address:#010x} was written halfway")
        raise failure

    def erase_all(self, code: int) -> None:
        """Erase the whole flash by the command `code`, ERASE or EXTENDED_ERASE."""
        every = b"\xff\x00" if code == ERASE else b"\xff\xff\x00"
        self._tried(lambda: self._erase_once(code, every), ERASES)

    def erase(self, code: int, pages: Sequence[int]) -> None:
        """Erase at most PAGES pages by the command `code`, ERASE (pages below 256) or EXTENDED_ERASE."""
        width = 1 if code == ERASE else 2
        named = b"".join(number.to_bytes(width, "big") for number in (len(pages) - 1, *pages))
        self._tried(lambda: self._erase_once(code, named + checksum(named)), ERASES)

    def go(self, address: int) -> None:
        """Start the program whose vector table lies at `address`."""
        with suppress(LostError):  # it may have left before its answer came; the link will tell
            self._tried(lambda: self._command(GO, address))

    def _command(self, code: int, address: int | None = None) -> None:
        if self._port.in_waiting:
            raise LostError("an answer came late")
        self._last = code
        self._send(bytes((code, code ^ 0xFF)), "command")
        if address is not None:
            self._send(address.to_bytes(4, "big") + checksum(address.to_bytes(4, "big")), "address")

    def _send(self, data: bytes, stage: str, patience: float | None = None) -> None:
        self._port.write(data)
        self._acknowledged(stage, patience)

    def _acknowledged(self, stage: str, patience: float | None = None) -> None:
        answer = self._read(1, self._pad + (ANSWER if patience is None else patience))
        if answer == NACK:
            raise RefusedError(stage)
        if answer != ACK:
            raise LostError(f"{self._name}: {answer.hex() or 'nothing'} came instead of an answer")

    def _ask(self, code: int) -> bytes:
        self._command(code)
        length = self._exactly(1)[0] + 1
        answer = self._exactly(length)
        self._acknowledged("command")
        return answer

    def _read_once(self, address: int, count: int) -> bytes:
        self._command(READ, address)
        self._send(bytes((count - 1, (count - 1) ^ 0xFF)), "data")
        return self._exactly(count)

    def _write_once(self, address: int, data: bytes) -> None:
        self._command(WRITE, address)
        block = bytes((len(data) - 1,)) + data
        self._send(block + checksum(block), "data")

    def _erase_once(self, code: int, pages: bytes) -> None:
        self._command(code)
        self._send(pages, "data", ERASING)

    def _exactly(self, count: int) -> bytes:
        data = self._read(count, self._pad + ANSWER)
        if len(data) != count:
            raise LostError(f"{self._name}: {len(data)} of {count} bytes came")
        return data

    def _tried(self, exchange: Callable[[], T], tries: int = TRIES) -> T:
        """Return what `exchange` gives; after a lost or refused one, synchronise and do it again."""
        for _ in range(tries):
            try:
                return exchange()
            except (LostError, RefusedError) as error:
                failure = error
            self._resynchronise()
        raise failure

    def _agreed(self, question: Callable[[], bytes]) -> bytes:
        """Return an answer that came twice: it has no checksum."""
        seen: list[bytes] = []
        for _ in range(TRIES):
            answer = self._tried(question)
            if answer in seen:
                return answer
            seen.append(answer)
        raise LostError(f"{self._name} answers {len(seen)} times differently: is the baud rate right?")

    def _resynchronise(self) -> None:
        """Bring the bootloader back to where it waits for a command, and forget answers still on the way.

        Raises:
            LostError: it no longer answers.
        """
        much = LIST if self._last == EXTENDED_ERASE else LONGEST
        for owed in (LONGEST, LONGEST, much, LONGEST, LONGEST, 0):
            self._drain(QUIET)
            answer = b""
            for byte in NO_COMMAND:  # when the first is refused, it was taken for the end of a command
                if not answer:
                    self._port.write(bytes((byte,)))
                    answer = self._read(1, ANSWER / 4)
            if answer == NACK and not self._drain(QUIET):
                return
            self._fill(owed)
        raise LostError(f"{self._name} stopped answering")

    def _fill(self, owed: int) -> None:
        """Send a command that still waits for bytes as many as it may lack, or until it answers."""
        deadline = time.monotonic() + FILL
        while owed > 0 and not self._port.in_waiting and time.monotonic() < deadline:
            self._port.write(NO_COMMAND * (LONGEST // 2))
            time.sleep(self._pad)  # not ahead of the line: each pair too many would be refused
            owed -= LONGEST
        self._read(1, self._pad + ANSWER)

    def _read(self, count: int, patience: float) -> bytes:
        data, deadline = b"", time.monotonic() + patience
        while len(data) < count and time.monotonic() < deadline:
            data += self._port.read(count - len(data))
        return data

    def _drain(self, quiet: float) -> bytes:
        """Return what comes until nothing has come for `quiet` seconds; LostError if it never ends."""
        dropped, start = b"", time.monotonic()
        end = start + quiet
        while self._port.in_waiting or time.monotonic() < end:
            if data := self._port.read(max(self._port.in_waiting, 1)):
                dropped, end = dropped + data, time.monotonic() + quiet
            if time.monotonic() > start + BABBLE:
                raise LostError(f"{self._name} never falls silent: another program runs there")
        return dropped


def checksum(data: bytes) -> bytes:
    """Return the XOR of all bytes, as one."""
    return bytes((reduce(xor, data),))
