"""UF2 drives: RP2040, RP2350, nRF52840, SAMD; the board restarts by itself once the file is copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from boards.errors import UserError
from boards.flashing import UF2_FAMILIES
from kit import serial_port
from kit.flash import drives, touch, uf2_file, whole
from kit.flash.drives import Drive
from kit.progress import Progress
from kit.serial_port import PortError

if TYPE_CHECKING:
    from boards import Board
    from firmware.compiler.build import Build

INFO = "INFO_UF2.TXT"
RESTARTS = 15.0  # seconds until the drive of a flashed board goes away


def flash(build: Build, port: str | None, progress: Progress) -> str:
    """Copy bootloader and application as UF2 to the board's drive; return the port that answers then.

    The board is put into its UF2 bootloader by the 1200-baud touch, unless its drive is there already.

    Raises:
        UserError: there is no such drive, it does not take the file, or the board does not answer afterwards.
    """
    board, table = build.board, build.board.uf2
    assert table is not None  # boards.parse: a listed method has its table
    family, data, origin = UF2_FAMILIES[table.family], whole.contents(build), board.flash_memory.origin
    file = uf2_file.pack(data, origin, family)
    assert b"".join(uf2_file.unpack(file, family).values()).startswith(data)
    drive, number = _drive(board, table.board_id), None
    if drive is None and table.touch:
        drive, number = _touched(board, table.board_id, port)
    if drive is None:
        raise UserError(f"no drive with {INFO} of {table.board_id}: {_by_hand(board)}")
    drives.copy(drive, "earkit.uf2", file, progress)
    if not drives.wait_until_gone(drive, RESTARTS):
        raise UserError(
            f"{drive.path} is still there {RESTARTS:.0f} s after the copy: it did not take a file for "
            f"{table.family}; is this a {board.title}? Unplug it, plug it in again and try once more"
        )
    return whole.see(build, port, number)


def _touched(board: Board, board_id: str, port: str | None) -> tuple[Drive | None, str | None]:
    """Return the drive that appears after a touch of the board's port, and the board's serial number."""
    try:
        name = port or serial_port.find(board)
        number = touch.serial_number(name)
        return touch.until(board, name, lambda: _drive(board, board_id)), number
    except PortError as error:
        raise UserError(f"no drive with {INFO} of {board_id}, and {error}; or {_by_hand(board)}") from None


def _by_hand(board: Board) -> str:
    return (
        f"hold the boot button of the {board.title} while plugging it in, or press its reset twice; "
        "mount the drive that appears, and run the same command again"
    )


def _drive(board: Board, board_id: str) -> Drive | None:
    """Return the only mounted UF2 drive of such a board, None without one.

    Raises:
        UserError: there are several.
    """
    found = [drive for drive in drives.mounted() if _id(drive).startswith(board_id)]
    if len(found) > 1:
        places = ", ".join(str(drive.path) for drive in found)
        raise UserError(f"{len(found)} drives may be {board.name} ({places}): unplug all but one")
    return found[0] if found else None


def _id(drive: Drive) -> str:
    lines = (drive.text(INFO) or "").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Board-ID:")), "")
