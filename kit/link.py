"""The link's host end: COBS frames with CRC-32, sequence numbers, credits and resend, over any wire.

The board never resends by itself (it has no timer): when nothing comes, the host probes, and what either side
lacks is sent again. See firmware/link.h for the frame.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from boards.errors import UserError

VERSION = 2
BODY = 520  # most bytes of one message
HELLO, DATA, ACK, PROBE, ECHO = 1, 2, 3, 4, 5
HEADER = struct.Struct("<BBBB")  # kind, sequence, acknowledge, credit
PATIENCE = 10.0  # seconds without a frame until a board is called silent
PROBES = 30  # the same for a wire on which nothing more can come
RETURNS = 3  # times that a board may take its wire along after one reset
PAUSES = (0.1, 1.0)  # seconds until the first probe; the pause doubles up to the second figure
RAW_SHOWN = 16  # bytes of garbage kept for the message


class LinkError(UserError):
    """The board cannot be talked to."""


class NoAnswerError(LinkError):
    """Nothing, or nothing in time, came back."""


class GarbageError(LinkError):
    """Bytes came back, but no frames."""


class GoneError(LinkError):
    """The wire broke while it was in use."""


class Wire(Protocol):
    """A byte line to a board. `live` wires may deliver later; others have said all when read returns b""."""

    name: str
    live: bool

    def read(self, timeout: float) -> bytes:
        """Return the bytes that have come, waiting at most `timeout` seconds for the first."""

    def write(self, data: bytes) -> None:
        """Send all of `data`."""

    def close(self) -> None:
        """Give the line back."""


@runtime_checkable
class ReturningWire(Protocol):
    """A wire that goes away with the board's reset: the board's own USB, and nothing between."""

    def come_back(self) -> None:
        """Wait until it is there again; GoneError if it is not."""


def encode(
    kind: int, sequence: int, acknowledge: int, credit: int, body: bytes = b"", session: int = 0
) -> bytes:
    """Return the frame as it goes over the wire, its closing zero included; HELLO is of no session."""
    plain = HEADER.pack(kind, sequence, acknowledge, credit) + body
    return cobs(plain + struct.pack("<I", zlib.crc32(plain, session))) + b"\0"


def cobs(data: bytes) -> bytes:
    """Return `data` without zero bytes (Cheshire and Baker, 1999)."""
    out = bytearray()
    for part in data.split(b"\0"):
        while len(part) >= 254:
            out += b"\xff" + part[:254]
            part = part[254:]
        out.append(len(part) + 1)
        out += part
    return bytes(out)


def uncobs(data: bytes) -> bytes | None:
    """Return what `cobs` was given, or None when `data` is no such thing."""
    out, at = bytearray(), 0
    while at < len(data):
        end = at + data[at]
        if data[at] == 0 or end > len(data):
            return None
        out += data[at + 1 : end]
        if data[at] != 255 and end < len(data):
            out.append(0)
        at = end
    return bytes(out)


@dataclass(frozen=True)
class Frame:
    """A frame that came whole."""

    kind: int
    sequence: int
    acknowledge: int
    credit: int
    body: bytes


class Decoder:
    """Cuts a byte stream into frames of `session`; anything else is counted, and kept for messages."""

    def __init__(self, session: int = 0) -> None:
        self.damaged, self.session = 0, session
        self.garbage = b""
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that `data` completes."""
        *whole, self._rest = (self._rest + data).split(b"\0")
        if len(self._rest) > 4 * BODY:
            self._spoil(self._rest)
            self._rest = b""
        return [frame for frame in map(self._frame, whole) if frame]

    def _frame(self, coded: bytes) -> Frame | None:
        if not coded:
            return None
        plain = uncobs(coded)
        if (
            plain is None
            or not 8 <= len(plain) <= BODY + 8
            or zlib.crc32(plain[:-4], 0 if plain[0] == HELLO else self.session)
            != int.from_bytes(plain[-4:], "little")
        ):
            self._spoil(coded)
            return None
        return Frame(plain[0], plain[1], plain[2], plain[3], plain[4:-4])

    def _spoil(self, data: bytes) -> None:
        self.damaged += 1
        self.garbage = data[:RAW_SHOWN]

    @property
    def leftover(self) -> bytes:
        """Return the start of the last bytes that were no frame, for a message."""
        return self._rest[:RAW_SHOWN] or self.garbage


class Link:
    """Messages in order, each exactly once, over a wire that may lose, damage or repeat bytes."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.mode = -1  # of the board: 0 bootloader, 1 application
        self._decoder = Decoder()
        self._inbox: deque[bytes] = deque()
        self._outstanding: deque[tuple[int, bytes]] = deque()
        self._session = 0
        self._next = self._expected = self._nonce = 0
        self._limit = 0  # first sequence number that the board's credit does not cover, not wrapped
        self._acknowledged = 0  # frames that the board has acknowledged, not wrapped
        self._greeted = False

    @property
    def damaged(self) -> int:
        """Return the number of damaged frames that were received."""
        return self._decoder.damaged

    def connect(self, patience: float = PATIENCE) -> None:
        """Start a session: both sides forget the last one.

        Raises:
            GarbageError: bytes come, but not from our firmware.
            NoAnswerError: nothing comes.
            LinkError: the board speaks another version of the protocol.
        """
        self._inbox.clear()
        self._outstanding.clear()
        self._next = self._expected = self._limit = self._acknowledged = 0
        self._greeted = False
        self._session = self._decoder.session = int.from_bytes(os.urandom(4), "little") | 1
        hello = encode(HELLO, 0, 0, 0, struct.pack("<II", VERSION, self._session))
        self._until(lambda: self._greeted, lambda: b"\0" + hello, patience, at_once=True)

    def reconnect(self) -> None:
        """Start a session with a board that was reset, once its wire is there again.

        Raises:
            LinkError: as `connect`, or the wire did not come back.
        """
        for _ in range(RETURNS):
            try:
                self.connect()
            except GoneError:
                if not isinstance(self.wire, ReturningWire):
                    raise
                self.wire.come_back()
            else:
                return
        self.connect()

    def rest(self, pause: float) -> None:
        """Read away what a board that was reset says, until it says nothing for `pause` seconds.

        Raises:
            GoneError: its wire did not come back.
        """
        for _ in range(RETURNS):
            try:
                while self.wire.read(pause):
                    pass
                return
            except GoneError:
                if not isinstance(self.wire, ReturningWire):
                    raise
                self.wire.come_back()

    def send(self, message: bytes, patience: float = PATIENCE) -> None:
        """Queue `message` (at most BODY bytes); returns once the board has room for it.

        Raises:
            LinkError: the board stopped answering.
        """
        if len(message) > BODY:
            raise ValueError(f"message of {len(message)} bytes, at most {BODY}")
        self._until(lambda: self._next < self._limit, self._probe, patience)
        self._outstanding.append((self._next, message))
        self._transmit(self._next, message)
        self._next += 1

    def receive(self, patience: float = PATIENCE) -> bytes:
        """Return the next message of the board.

        Raises:
            LinkError: none came within `patience` seconds.
        """
        self._until(lambda: bool(self._inbox), self._probe, patience)
        return self._inbox.popleft()

    def flush(self, patience: float = PATIENCE) -> None:
        """Return when the board has acknowledged every message."""
        self._until(lambda: not self._outstanding, self._probe, patience)

    def poll(self) -> bytes | None:
        """Return a message if one has come, without waiting."""
        if not self._inbox:
            self._take(self.wire.read(0))
        return self._inbox.popleft() if self._inbox else None

    def _until(
        self, done: Callable[[], bool], ask: Callable[[], bytes], patience: float, *, at_once: bool = False
    ) -> None:
        """Read until `done`; ask in each pause, give up `patience` seconds (PROBES) after progress."""
        if at_once:
            self.wire.write(ask())
        asked, pause, start = 0, PAUSES[0], time.monotonic()
        ask_at = start + pause
        while not done():
            if self._take(self.wire.read(max(ask_at - time.monotonic(), 0))):
                asked, pause, start = 0, PAUSES[0], time.monotonic()
                ask_at = start + pause
                continue
            now = time.monotonic()
            if self.wire.live and now < ask_at:
                continue
            if (now > start + patience) if self.wire.live else (asked == PROBES):
                raise self._silence(patience)
            self.wire.write(ask())
            asked, pause = asked + 1, min(2 * pause, PAUSES[1])
            ask_at = now + pause

    def _silence(self, patience: float) -> LinkError:
        name, seconds = self.wire.name, f"within {patience:.0f} s" if self.wire.live else "although it rests"
        if self._greeted:
            return NoAnswerError(
                f"{name} stopped answering: no result {seconds}; reset the board and try again"
            )
        if raw := self._decoder.leftover:
            return GarbageError(
                f"{name} answers garbage ({raw.hex(' ')}): is this the board's port, its baud rate right, "
                "and earkit's firmware on it? `earkit flash` puts it there"
            )
        return NoAnswerError(
            f"{name} does not answer {seconds}: is it powered, is this its port, is earkit's firmware on it? "
            "Reset it, or run `earkit flash`"
        )

    def _probe(self) -> bytes:
        self._nonce = (self._nonce + 1) % 256
        return self._frame(PROBE, self._nonce)

    def _frame(self, kind: int, sequence: int, body: bytes = b"") -> bytes:
        return encode(kind, sequence, self._expected % 256, 0, body, self._session)

    def _transmit(self, sequence: int, message: bytes) -> None:
        self.wire.write(self._frame(DATA, sequence % 256, message))

    def _take(self, data: bytes) -> bool:
        """Handle received bytes; tell whether something moved on."""
        return sum(self._handle(frame) for frame in self._decoder.feed(data)) > 0

    def _handle(self, frame: Frame) -> bool:
        if frame.kind == HELLO:
            return self._hello(frame)
        if not self._greeted:
            return False
        moved = self._settle(frame)
        if frame.kind == DATA:
            fresh = frame.sequence == self._expected % 256
            if fresh:
                self._inbox.append(frame.body)
                self._expected += 1
            self.wire.write(self._frame(ACK, 0))
            return fresh
        if frame.kind == ECHO and frame.sequence == self._nonce:
            self._nonce = (self._nonce + 1) % 256  # an echo that comes twice counts once
            for sequence, message in self._outstanding:
                self._transmit(sequence, message)
        return moved

    def _settle(self, frame: Frame) -> bool:
        """Forget what the board has; read its credit."""
        count = (frame.acknowledge - self._acknowledged) % 256
        if count > len(self._outstanding):
            return False  # left over from before
        for _ in range(count):
            self._outstanding.popleft()
        limit = self._acknowledged + count + frame.credit
        moved = count > 0 or limit > self._limit
        self._acknowledged, self._limit = self._acknowledged + count, limit
        return moved

    def _hello(self, frame: Frame) -> bool:
        if len(frame.body) < 16:
            return False
        version, session, _, mode = struct.unpack("<4I", frame.body[:16])
        if session != self._session or self._greeted:
            return False
        if version != VERSION:
            raise LinkError(
                f"{self.wire.name} speaks link version {version}, this earkit {VERSION}: its bootloader is "
                "another release's; put the boot.bin of a build there with a programmer or as a USB drive"
            )
        self._greeted, self.mode, self._limit = True, mode, frame.credit
        return True
