"""A virtual board on a pseudo terminal, for any program that talks to a serial port."""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from boards.errors import UserError
from kit.progress import Progress, silent

if TYPE_CHECKING:
    from firmware.compiler.build import Build
    from kit.link import Wire

PAUSE = 0.02  # seconds between two looks at a line on which nothing happens
CHUNK = 4096
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
    serial port. `source` ("mic", or a sound file) is what its microphone hears, in real time.

    Raises:
        UserError: the board is a real one, this system has no pseudo terminals, or the firmware crashed.
    """
    from firmware.compiler.dialects import RATE
    from kit import device
    from kit.audio import open_source
    from kit.virtual import VirtualBoard

    if build.board.kind != "virtual":
        raise UserError(f"{build.board.name} is a real board: its own port serves any program")
    with device.open(build, None, progress) as board, _terminal() as (master, path):
        wire = board.restart()
        assert isinstance(wire, VirtualBoard)
        if source is not None:
            rate = build.frontend["sample_rate"] if build.frontend else RATE
            heard = open_source(source, rate, stop=stop)
            wire.air(rate, (block for block in heard if not isinstance(block, int)))
        ready(path)
        _pass(wire, master, stop)


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


def _pass(wire: Wire, master: int, stop: threading.Event) -> None:
    """Carry bytes both ways until `stop` is set."""
    poll, pending = select.poll(), bytearray()
    while not stop.is_set():
        pending += wire.read(PAUSE if wire.live else 0)
        poll.register(master, select.POLLIN | (select.POLLOUT if pending else 0))
        ((_, events),) = poll.poll(0 if wire.live else 1000 * PAUSE) or [(master, 0)]
        if events & select.POLLHUP:
            pending.clear()
            time.sleep(PAUSE)
            continue
        if events & select.POLLIN:
            with suppress(BlockingIOError):
                wire.write(os.read(master, CHUNK))
        if events & select.POLLOUT:
            with suppress(BlockingIOError):
                del pending[: os.write(master, pending[:CHUNK])]
        del pending[PENDING:]
