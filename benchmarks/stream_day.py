"""A day of sound through the link with faults on the line: what was lost, repeated or spoilt of it.

`python -m benchmarks.stream_day [HOURS]` writes results/stream_day.md. The board's end is firmware/link.c,
built for the host (stream_day.c); the other end is kit/link.py; the line between them lies in memory.
"""

from __future__ import annotations

import ctypes
import resource
import struct
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from random import Random

import firmware
from firmware.compiler import toolchain
from kit import link
from kit.device import PIECE, STREAM_DATA
from kit.fake_link import Faults, FaultyWire

RESULT = Path(__file__).parent / "results" / "stream_day.md"
RATE = 16_000
SAMPLES = PIECE // 2  # of a message
FAULTS = Faults(loss=0.001, damage=0.001, repeat=0.001, noise=0.001)
MOST_SECONDS = 300.0  # of processor time
SOUND = Random(1).randbytes(1 << 20)
EARLY = 0.05  # of the way, where memory is looked at first


class Board:
    """The C end as a wire."""

    name, live = "C end", False

    def __init__(self, folder: Path) -> None:
        source = Path(__file__).with_suffix(".c")
        toolchain.host_library(source, (firmware.ROOT,), folder / "day.so", toolchain.FAST)
        self.c = ctypes.CDLL(str(folder / "day.so"))
        self.c.day_begin(SOUND, len(SOUND))
        self._said = ctypes.create_string_buffer(1 << 16)

    def read(self, timeout: float) -> bytes:
        """Return what it has said."""
        return self._said.raw[:length] if (length := self.c.day_said(self._said)) else b""

    def write(self, data: bytes) -> None:
        """Let it hear."""
        self.c.day_feed(data, len(data))

    def close(self) -> None:
        """Nothing to give back."""

    def told(self) -> list[int]:
        """Return samples heard, lost, repeated, wrong; results; frames damaged, frames that came twice."""
        values = (ctypes.c_uint64 * 7)()
        self.c.day_told(values)
        return list(values)


def memory() -> int:
    """Return the most memory that this process has held so far, in KB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def stream(near: link.Link, hours: float) -> tuple[int, int, int]:
    """Stream so many hours of sound, or for MOST_SECONDS; return messages, results, KB of memory at first."""
    total, results, early = round(hours * 3600 * RATE / SAMPLES), 0, 0
    head, body = struct.Struct("<BBBBI"), SOUND + SOUND[: 2 * SAMPLES]
    for number in range(total):
        at = number * SAMPLES
        place = 2 * at % len(SOUND)
        near.send(head.pack(STREAM_DATA, 0, 0, 0, at % 2**32) + body[place : place + 2 * SAMPLES])
        while near.poll():
            results += 1
        if number == int(total * EARLY):
            early = memory()
        if number % 10_000 == 0 and time.process_time() > MOST_SECONDS:
            total = number + 1
            break
    near.flush()
    while near.poll():
        results += 1
    return total, results, early


def main() -> None:
    """Write what came of it."""
    hours = float(sys.argv[1]) if len(sys.argv) > 1 else 24.0
    with tempfile.TemporaryDirectory() as folder:
        board = Board(Path(folder))
        line = FaultyWire(board, FAULTS, 7)
        near = link.Link(line)
        near.connect()
        sent, results, early = stream(near, hours)
        heard, lost, repeated, wrong, said, damaged, twice = board.told()
    injected = ", ".join(f"{count:,} {name}" for name, count in sorted(line.injected.items()))
    rows = {
        "sound": f"{sent * SAMPLES / RATE / 3600:.1f} hours at 16 kHz, 16 bits: {sent:,} messages",
        "faults put on the line, both ways": injected,
        "damaged frames refused by the board, by the host": f"{damaged:,}, {near.damaged:,}",
        "frames that the board had already": f"{twice:,}",
        "samples lost, repeated, wrong": f"{sent * SAMPLES - heard + lost:,}, {repeated:,}, {wrong:,}",
        "results sent, received": f"{said:,}, {results:,}",
        "most memory held until 5 % of the way, until the end": f"{early:,} KB, {memory():,} KB",
        "processor time": f"{time.process_time():.0f} s",
    }
    lines = ["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows.items()), ""]
    lines.append(
        f"Measured on a host, {date.today():%Y-%m-%d}: firmware/link.c and kit/link.py, a line in memory; "
        "neither front end nor model ran."
    )
    RESULT.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
