"""The 1200-baud touch, and knowing a board again by its USB serial number when its port has another name."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from kit import serial_port
from kit.serial_port import PortError

BAUD = 1200
PAUSE = 0.5  # seconds: whoever looks at the ports within 250 ms cancels the reset
APPEARS = 10.0  # seconds until the bootloader's port is there
LOOKS = 0.25  # seconds between two looks


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


def serial_number(port: str | None) -> str | None:
    """Return the USB serial number of what is at `port`, None if it has none."""
    return next((found.serial_number or None for found in _ports() if found.device == port), None)


def port_of(number: str) -> str:
    """Return the port of the board with that USB serial number; PortError while there is none."""
    for found in _ports():
        if found.serial_number == number:
            return str(found.device)
    raise PortError(f"no port with USB serial number {number}: plug the board in again and press its reset")


def port_after(port: str, number: str | None) -> str:
    """Return the port of a touched board's bootloader: by its serial number, else the same name as before.

    Raises:
        PortError: it does not appear.
    """
    deadline = time.monotonic() + APPEARS
    while True:
        if number is None and Path(port).exists():
            return port
        try:
            return port_of(number or "")
        except PortError:
            if time.monotonic() > deadline:
                raise PortError(
                    f"{port} did not come back within {APPEARS:.0f} s of the 1200-baud touch: "
                    "press the board's reset twice, and name the port that appears with --port"
                ) from None
        time.sleep(LOOKS)


def _ports() -> list[Any]:
    from serial.tools import list_ports

    return sorted(list_ports.comports(), key=lambda found: str(found.device))
