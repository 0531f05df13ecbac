"""What the whole flash shall hold, and whether the board then answers: for methods below our own link."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from boards.errors import UserError
from kit import serial_port
from kit.device import Device
from kit.serial_port import PortError, SerialWire

if TYPE_CHECKING:
    from firmware.compiler.build import Build

APPEARS = 10.0  # seconds that a port may take to come back
LOOKS = 0.25  # seconds between two looks


def contents(build: Build) -> bytes:
    """Return the bootloader and the application behind it, from `board.flash_memory.origin` on."""
    board = build.board
    return build.boot.ljust(board.app_origin - board.flash_memory.origin, b"\xff") + build.image


def see(
    build: Build, port: str | None, number: str | None = None, watch: Callable[[], None] = lambda: None
) -> str:
    """Return the port on which the board answers with the build's id, once it does.

    `number`: the board's USB serial number, by which its port is found whatever its name is now. `watch` is
    called while waiting, and may raise what it sees.

    Raises:
        UserError: nothing answers, or something else runs.
    """
    deadline = time.monotonic() + APPEARS
    while True:
        watch()
        try:
            return _seen(build, _place(port, number))
        except UserError:
            if time.monotonic() > deadline:
                watch()
                raise
        time.sleep(LOOKS)


def _place(port: str | None, number: str | None) -> str | None:
    if number is not None:
        with suppress(PortError):
            return serial_port.again(port or "", number)
    return port


def _seen(build: Build, port: str | None) -> str:
    wire = SerialWire(port, build.board)
    try:
        info = Device(wire).info()
    finally:
        wire.close()
    if info.mode == "boot":
        raise UserError(
            f"{wire.name} stays in its bootloader after flashing {build.build_id}: "
            "let go of the boot button or BOOT0, press reset, or flash it again"
        )
    if info.build_id != build.build_id:
        raise UserError(
            f"{wire.name} runs build {info.build_id} after flashing {build.build_id}: "
            "is this that board's port? Flash it again"
        )
    return wire.name
