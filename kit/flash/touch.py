"""The 1200-baud touch, and knowing a board again by its USB serial number when its port has another name."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

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
    return serial_port.serial_numbers().get(port or "") or None


def port_of(number: str) -> str:
    """Return the port of the board with that USB serial number; PortError while there is none."""
    for port, found in sorted(serial_port.serial_numbers().items()):
        if found == number:
            return port
    raise PortError(f"no port with USB serial number {number}: plug the board in again and press its reset")


def port_after(port: str, number: str | None) -> str:
    """Return the port of a touched board's bootloader: by its serial number, else the same name as before.

    Raises:
        PortError: it does not appear.
    """
    deadline = time.monotonic() + APPEARS
    while True:
        if number is not None:
            with suppress(PortError):
                return port_of(number)
        elif Path(port).exists():
            return port
        if time.monotonic() > deadline:
            raise PortError(
                f"{port} did not come back within {APPEARS:.0f} s of the 1200-baud touch: "
                "press the board's reset twice, and name the port that appears with --port"
            )
        time.sleep(LOOKS)
