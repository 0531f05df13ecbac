"""The ROM of an ESP32 over its UART or USB, through the program esptool."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit import serial_port
from kit.flash import program, whole
from kit.progress import Progress

if TYPE_CHECKING:
    from firmware.compiler.build import Build


def flash(build: Build, port: str | None, progress: Progress) -> str:
    """Write bootloader and application, which esptool verifies; return the port that answers then.

    Raises:
        UserError: esptool is missing or fails, or the board does not answer afterwards.
    """
    board, table = build.board, build.board.esptool
    assert table is not None  # boards.parse: a listed method has its table
    tool = program.find(["esptool", "esptool.py"], "pip install esptool")
    name, data = port or serial_port.find(board), whole.contents(build)
    with program.holding(data) as file:
        progress("write", 0, len(data))
        line = ["--chip", table.chip, "--port", name, "--baud", str(board.serial.baud)]
        program.run(tool, [*line, "write_flash", f"{table.offset:#x}", str(file)])
        progress("write", len(data), len(data))
    return whole.see(build, name)
