"""A virtual board on a pseudo terminal, for any program that talks to a serial port."""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from boards.errors import UserError
from kit import audio
from kit.audio import Samples
from kit.progress import Progress, silent

if TYPE_CHECKING:
    from firmware.compiler.build import Build
    from kit.link import Wire

PAUSE = 0.02  # seconds between two looks at a line on which nothing happens
LATENCY = 0.005  # seconds, an adapter's: some clients begin to listen only after they have spoken
CHUNK = 4096
AIR = 1 << 16  # samples, as in kit/virtual_board.c
PENDING = 1 << 20  # bytes that a client may leave unread before the board's newest are lost


def serve(
    build: Build,
    *,
    ready: Callable[[str], None],
    stop: threading.Event,
    source: str | None = None,
    progress: Progress = silent,
) -> None:
    """Run the virtual board of `build` behind a pseudo terminal until `stop` is set.

    `ready` gets the path of the terminal. What the board says while no program has it open is lost, as on a
    serial port. `source` (a sound file) is what its microphone hears, over and over, about in real time.

    Raises:
        UserError: the board is a real one, this system has no pseudo terminals, or the firmware crashed.
    """
    from firmware.compiler.dialects import RATE
    from kit import device
    from kit.virtual import VirtualBoard

    if build.board.kind != "virtual":
        raise UserError(f"{build.board.name} is a real board: its own port serves any program")
    with device.open(build, None, progress) as board, _terminal() as (master, path):
        wire = board.restart()
        assert isinstance(wire, VirtualBoard)
        sound = None
        if source is not None:
            rate = build.frontend["sample_rate"] if build.frontend else RATE
            sound = _Sound(source, rate)
            wire.air(rate, sound)
        ready(path)
        _pass(wire, master, stop, sound)


@contextmanager
def _terminal() -> Iterator[tuple[int, str]]:
    """Yield the master of a raw pseudo terminal and the path of its other end, which nobody has open."""
    try:
        master, other = os.openpty()
    except OSError as error:
        raise UserError(f"no pseudo terminal to be had ({error.strerror}): see /dev/pts") from None
    tty.setraw(other)
    path = os.ttyname(other)
    os.close(other)
    os.set_blocking(master, False)
    try:
        yield master, path
    finally:
        os.close(master)


class _Sound:
    """A file over and over; how far the board is ahead of the clock with it. An emulator takes AIR at once.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, name: str, rate: int) -> None:
        self._path, self._rate = Path(name), rate
        self._blocks: Iterator[Samples] = audio.file_blocks(self._path, rate)
        self._start, self._given = time.monotonic(), 0

    def __iter__(self) -> _Sound:
        return self

    def __next__(self) -> Samples:
        if self.ahead() < -AIR / self._rate:  # the microphone was off meanwhile
            self._start, self._given = time.monotonic(), 0
        block = next(self._blocks, None)
        if block is None:
            self._blocks = audio.file_blocks(self._path, self._rate)
            block = next(self._blocks)
        self._given += block.size
        return block

    def ahead(self) -> float:
        """Return for how many seconds the board has heard more than time has passed, at least."""
        return (self._given - AIR) / self._rate - (time.monotonic() - self._start)


def _pass(wire: Wire, master: int, stop: threading.Event, sound: _Sound | None) -> None:
    """Carry bytes both ways until `stop` is set; a board ahead of the clock waits, unless it is spoken to."""
    poll, pending, spoken = select.poll(), bytearray(), False
    while not stop.is_set():
        if spoken or sound is None or sound.ahead() <= 0:
            pending += wire.read(PAUSE if wire.live else 0)
        spoken = False
        poll.register(master, select.POLLIN | (select.POLLOUT if pending else 0))
        ((_, events),) = poll.poll(0 if wire.live else 1000 * PAUSE) or [(master, 0)]
        if events & select.POLLHUP:
            pending.clear()
            time.sleep(PAUSE)
            continue
        if events & select.POLLIN:
            with suppress(BlockingIOError):
                wire.write(os.read(master, CHUNK))
                spoken = True
            time.sleep(LATENCY)
        if events & select.POLLOUT:
            with suppress(BlockingIOError):
                del pending[: os.write(master, pending[:CHUNK])]
        del pending[PENDING:]
