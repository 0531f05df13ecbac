"""Stand-ins shipped for tests: a board in a few lines of Python, a line with faults, one of a given speed."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kit import link


class FakeLink:
    """A wire whose far end is a Python function: request message in, answer messages out."""

    live = False

    def __init__(self, answer: Callable[[bytes], Iterable[bytes]], *, mode: int = 1, slots: int = 4) -> None:
        self.name = "fake board"
        self.mode, self.slots = mode, slots
        self._answer = answer
        self._decoder = link.Decoder()
        self._out = bytearray()
        self._pending: deque[bytes] = deque()
        self._session = 0
        self._begin()

    def _begin(self) -> None:
        self._expected = self._next = 0
        self._unacked: bytes | None = None
        self._pending.clear()

    def read(self, timeout: float) -> bytes:
        """Return what the fake board has said."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def write(self, data: bytes) -> None:
        """Let the fake board hear `data`."""
        for frame in self._decoder.feed(data):
            self._handle(frame)

    def close(self) -> None:
        """Do nothing: there is no line."""

    def _frame(self, kind: int, sequence: int, body: bytes = b"") -> None:
        session = 0 if kind == link.HELLO else self._session
        self._out += link.encode(kind, sequence % 256, self._expected % 256, self.slots, body, session)

    def _handle(self, frame: link.Frame) -> None:
        if frame.kind == link.HELLO:
            _, session = struct.unpack("<II", frame.body)
            if session != self._session:
                self._session = self._decoder.session = session
                self._begin()
            self._frame(link.HELLO, 0, struct.pack("<4I", link.VERSION, session, link.BODY, self.mode))
        if not self._session:
            return
        if self._unacked is not None and frame.acknowledge == self._next % 256:
            self._unacked = None
            self._speak()
        if frame.kind == link.DATA:
            if frame.sequence == self._expected % 256:
                self._expected += 1
                self._pending.extend(self._answer(frame.body))
                self._speak()
            self._frame(link.ACK, 0)
        if frame.kind == link.PROBE:
            if self._unacked is not None:
                self._frame(link.DATA, self._next - 1, self._unacked)
            self._frame(link.ECHO, frame.sequence)

    def _speak(self) -> None:
        if self._pending and self._unacked is None:
            self._unacked = self._pending.popleft()
            self._next += 1
            self._frame(link.DATA, self._next - 1, self._unacked)


@dataclass(frozen=True)
class Faults:
    """How often, of 1.0, a piece that crosses the line is lost, damaged, repeated or preceded by noise."""

    loss: float = 0.0
    damage: float = 0.0
    repeat: float = 0.0
    noise: float = 0.0
    cut_after: int | None = None  # bytes written until the line breaks for good


class FaultyWire:
    """Another wire, with faults in both directions drawn from `seed` and counted in `injected`."""

    def __init__(self, wire: link.Wire, faults: Faults, seed: int) -> None:
        self.name, self.live = wire.name, wire.live
        self.injected: Counter[str] = Counter()
        self._wire, self._faults, self._random = wire, faults, random.Random(seed)
        self._written = 0

    def read(self, timeout: float) -> bytes:
        """Return what the wire gives, frame by frame with faults."""
        return self._spoil(self._wire.read(timeout))

    def write(self, data: bytes) -> None:
        """Send `data` with faults; LinkError once the line is cut."""
        cut = self._faults.cut_after
        if cut is not None and self._written + len(data) > cut:
            self._wire.write(data[: max(cut - self._written, 0)])
            self._written = cut
            raise link.GoneError(
                f"{self.name} went away after {cut} bytes: plug it in again and repeat the command"
            )
        self._written += len(data)
        self._wire.write(self._spoil(data))

    def close(self) -> None:
        """Give the line back."""
        self._wire.close()

    def _spoil(self, data: bytes) -> bytes:
        return (
            b"".join(self._piece(piece + b"\0") for piece in data.split(b"\0")[:-1])
            + data[data.rfind(b"\0") + 1 :]
        )

    def _piece(self, piece: bytes) -> bytes:
        draw, faults = self._random, self._faults
        if draw.random() < faults.loss:
            self.injected["lost"] += 1
            return b""
        if draw.random() < faults.damage:
            self.injected["damaged"] += 1
            at = draw.randrange(len(piece))
            piece = piece[:at] + bytes([draw.randrange(256)]) + piece[at + 1 :]
        if draw.random() < faults.noise:
            self.injected["noise"] += 1
            piece = draw.randbytes(draw.randrange(1, 40)) + piece
        if draw.random() < faults.repeat:
            self.injected["repeated"] += 1
            piece *= 2
        return piece


class PacedWire:
    """Another wire behind a line of `baud` (8N1, both ways at once), in a time of its own: `seconds`.

    The host takes no time; the far end takes what `work` says, the seconds that it has computed so far.
    """

    live = False

    def __init__(self, wire: link.Wire, baud: int, work: Callable[[], float] = lambda: 0.0) -> None:
        self.name, self.baud, self.seconds = wire.name, baud, 0.0
        self._wire, self._work = wire, work
        self._out: deque[tuple[float, bytes]] = deque()  # (when it has arrived, a frame)
        self._in: deque[tuple[float, bytes]] = deque()
        self._out_free = self._in_free = self._far_free = 0.0  # when lines and far end have nothing to do

    def read(self, timeout: float) -> bytes:
        """Let time pass until something has come, and return it; b"" when nothing is on its way."""
        while self._out and self._out[0][0] < (self._in[0][0] if self._in else math.inf):
            self._deliver()
        if not self._in:
            return b""
        self.seconds = max(self.seconds, self._in[0][0])
        return self._in.popleft()[1]

    def write(self, data: bytes) -> None:
        """Put `data` on the line behind what is on it."""
        for frame in _frames(data):
            self._out_free = max(self._out_free, self.seconds) + self._takes(frame)
            self._out.append((self._out_free, frame))

    def close(self) -> None:
        """Give the line back."""
        self._wire.close()

    def _takes(self, frame: bytes) -> float:
        return len(frame) * 10 / self.baud

    def _deliver(self) -> None:
        arrived, frame = self._out.popleft()
        before = self._work()
        self._wire.write(frame)
        said = self._wire.read(0)
        self._far_free = max(arrived, self._far_free) + self._work() - before
        for answer in _frames(said):
            self._in_free = max(self._in_free, self._far_free) + self._takes(answer)
            self._in.append((self._in_free, answer))


def _frames(data: bytes) -> list[bytes]:
    return [part + b"\0" for part in data.split(b"\0")[:-1]]
