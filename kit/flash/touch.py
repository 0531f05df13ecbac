"""The 1200-baud touch, and knowing a board again by its USB serial number when its port has another name."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from boards import Board
from kit import serial_port
from kit.serial_port import PortError

BAUD = 1200
PAUSE = 0.5  # seconds: whoever looks at the ports within 250 ms cancels the reset
APPEARS = 10.0  # seconds until the bootloader's port is there
LOOKS = 0.25  # seconds between two looks
TOUCHES = 3  # the application's, our own bootloader's, and one for a port that was slow to go

Found = TypeVar("Found")


def touch(port: str) -> None:
    """Ask the board at `port` to start its bootloader; it may go away before the port is closed.

    Raises:
        PortError: the port cannot be opened.
    """
    line = serial_port.opened(port, {"dtr": True}, baudrate=BAUD, timeout=0)
    with suppress(OSError):  # no such line, or gone already
        line.dtr = False
    with suppress(OSError):
        line.close()
    time.sleep(PAUSE)


def until(board: Board, port: str, found: Callable[[], Found | None]) -> Found | None:
    """Touch the board at `port` until `found` sees the chip's own bootloader; None if it does not appear.

    On a board with USB of ours the application goes to our bootloader first, and that to the chip's: where
    our port comes back it is touched again.

    Raises:
        PortError: the port cannot be opened.
    """
    number = serial_number(port)
    for left in reversed(range(TOUCHES)):
        touch(port)
        deadline = time.monotonic() + APPEARS
        while (there := found()) is None and time.monotonic() < deadline:
            if left and (ours := _ours(board, port, number)):
                port = ours
                break
            time.sleep(LOOKS)
        else:
            return there
    return None


def _ours(board: Board, port: str, number: str | None) -> str | None:
    """Return the port of a touched board where firmware of ours answers the USB, None while there is none."""
    with suppress(PortError):
        name = serial_port.again(port, number or "")
        if board.usb is not None and serial_port.ports().get(name) == board.usb.id:
            return name
    return None


def serial_number(port: str | None) -> str | None:
    """Return the USB serial number of what is at `port`, None if it has none."""
    return serial_port.serial_numbers().get(port or "") or None


def bootloader_port(board: Board, port: str) -> str:
    """Touch the board at `port` until the chip's own bootloader has a port, and return that.

    It is known by the board's USB serial number, or as a port that was not there before; on a board without
    a number by the name of before. Our own bootloader's is none.

    Raises:
        PortError: it does not appear.
    """
    before, number = set(serial_port.ports()), serial_number(port)

    def found() -> str | None:
        ids, numbers = serial_port.ports(), serial_port.serial_numbers()
        ours = {name for name, usb in ids.items() if board.usb is not None and usb == board.usb.id}
        if number is None:
            return port if port not in ours and (port in ids or Path(port).exists()) else None
        others = sorted(ids.keys() - ours)
        fresh = [name for name in others if name not in before]
        return next((name for name in others if numbers.get(name) == number), fresh[0] if fresh else None)

    if (name := until(board, port, found)) is not None:
        return name
    raise PortError(
        f"{port} did not come back within {APPEARS:.0f} s of the 1200-baud touch: "
        "press the board's reset twice, and name the port that appears with --port"
    )
