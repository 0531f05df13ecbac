"""A desk of emulated boards whose serial port is their own USB: at a reset the port goes and comes again."""

from __future__ import annotations

import os
import select
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

from kit import device, link
from kit.virtual import VirtualBoard

AWAY = 0.15  # seconds that a port is away


class Desk:
    """What pyserial's list of ports shows: `comports` takes its place."""

    def __init__(self) -> None:
        self.plugs: list[Plug] = []
        self.others: list[Any] = []

    def comports(self) -> list[Any]:
        """Return the ports that are there now."""
        shown = [
            SimpleNamespace(device=plug.name, vid=0x1209, pid=1, serial_number=plug.number, description="")
            for plug in self.plugs
            if plug.name
        ]
        return [*shown, *self.others]

    @contextmanager
    def plugged(self, board: VirtualBoard, number: str | None) -> Iterator[Plug]:
        """Plug a board in."""
        plug = Plug(board, number)
        self.plugs.append(plug)
        try:
            yield plug
        finally:
            self.plugs.remove(plug)
            plug.pull()


class Plug:
    """One board: its port has the name `name`, "" while it is away.

    `comes`: how often its port goes and comes with a reset; 0: it stays away. `tells`: the answer to the
    reset still gets through.
    """

    comes, tells = 1, True

    def __init__(self, board: VirtualBoard, number: str | None) -> None:
        self.number, self.name, self.resets = number, "", 0
        self.names: list[str] = []
        self._board = board
        self._decoder, self._over = link.Decoder(), threading.Event()
        self._held: list[int] = []  # that no port of before gives its name to the next
        self._come()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def pull(self) -> None:
        """Unplug the board for good."""
        self._over.set()
        self._thread.join(10)
        self._go()
        for number in self._held:
            os.close(number)

    def _come(self) -> None:
        self._master, self._other = os.openpty()
        tty.setraw(self._other)
        self.name = os.ttyname(self._other)
        self.names.append(self.name)

    def _go(self) -> None:
        if not self.name:
            return
        self.name = ""
        os.close(self._master)
        self._held.append(self._other)

    def _live(self) -> None:
        while not self._over.is_set():
            if not self.name:
                time.sleep(0.01)
            elif select.select([self._master], [], [], 0.02)[0]:
                self._hear(os.read(self._master, 4096))

    def _hear(self, data: bytes) -> None:
        was_reset = any(map(self._is_reset, self._decoder.feed(data)))
        self._board.write(data)
        said = b"".join(iter(lambda: self._board.read(0), b""))
        if not was_reset:
            self._say(said)
            return
        self.resets += 1
        if self.tells:
            self._say(said)
            time.sleep(0.02)
        self._go()
        for _ in range(self.comes):
            self._go()
            time.sleep(AWAY)
            self._decoder = link.Decoder()
            self._come()
            time.sleep(AWAY if self.comes > 1 else 0)

    def _say(self, data: bytes) -> None:
        while data:
            with suppress(BlockingIOError):
                data = data[os.write(self._master, data) :]

    def _is_reset(self, frame: link.Frame) -> bool:
        if frame.kind == link.HELLO:
            self._decoder.session = int.from_bytes(frame.body[4:8], "little")
        return frame.kind == link.DATA and frame.body[0] == device.RESET
