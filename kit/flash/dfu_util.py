"""USB DFU with addresses (DfuSe), as in the ROM of many STM32, through the program dfu-util."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards.errors import UserError
from kit import serial_port
from kit.flash import program, touch, whole
from kit.progress import Progress

if TYPE_CHECKING:
    from firmware.compiler.build import Build

WRITTEN = "File downloaded successfully"


def flash(build: Build, port: str | None, progress: Progress) -> str:
    """Write bootloader and application, read them back, start them; return the port that answers then.

    Raises:
        UserError: dfu-util is missing or fails, or the board does not answer afterwards.
    """
    board, table = build.board, build.board.dfu_util
    assert table is not None  # boards.parse: a listed method has its table
    tool = program.find(["dfu-util"], "sudo apt install dfu-util")
    number = None
    if table.touch:
        name = port or serial_port.find(board)
        number = touch.serial_number(name)
        touch.touch(name)
    data, origin = whole.contents(build), f"{board.flash_memory.origin:#010x}"
    which = [*(["--wait"] if table.touch else []), "--device", f",{table.vid_pid}", "--alt", str(table.alt)]
    with program.holding(data) as file:
        progress("write", 0, len(data))
        program.run(tool, [*which, "--dfuse-address", origin, "--download", str(file)], WRITTEN)
        progress("write", len(data), len(data))
        back = file.with_name("back.bin")
        program.run(tool, [*which, "--dfuse-address", f"{origin}:{len(data)}:leave", "--upload", str(back)])
        if not back.exists() or back.read_bytes() != data:
            raise UserError(f"{board.name}: what dfu-util wrote does not read back: flash it again")
        progress("verify", len(data), len(data))
    return whole.see(build, port, number)
