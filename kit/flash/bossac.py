"""SAM-BA, the bootloader of Arduino's SAM and nRF52840 boards, through the program bossac."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit import serial_port
from kit.flash import program, touch, whole
from kit.progress import Progress

if TYPE_CHECKING:
    from firmware.compiler.build import Build


def flash(build: Build, port: str | None, progress: Progress) -> str:
    """Write bootloader and application, which bossac verifies, and reset; return the port that answers then.

    Raises:
        UserError: bossac is missing or fails, or the board does not answer afterwards.
    """
    board, table = build.board, build.board.bossac
    assert table is not None  # boards.parse: a listed method has its table
    tool = program.find(["bossac"], "sudo apt install bossa-cli")
    name = port or serial_port.find(board)
    number, data = touch.serial_number(name), whole.contents(build)
    if table.touch:
        name = touch.bootloader_port(board, name)
    where = [] if table.offset is None else [f"--offset={table.offset:#x}"]
    with program.holding(data) as file:
        progress("write", 0, len(data))
        steps = ["--erase", "--write", "--verify", "--reset"]
        program.run(tool, [f"--port={name}", "--usb-port=1", *where, *steps, str(file)])
        progress("write", len(data), len(data))
    return whole.see(build, port or name, number)
