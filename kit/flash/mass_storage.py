"""Drag and drop: the drive of an ST-LINK or DAPLink writes the file that is copied to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boards.errors import UserError
from kit.flash import drives, intel_hex, whole
from kit.flash.drives import Drive
from kit.progress import Progress

if TYPE_CHECKING:
    from boards import Board
    from firmware.compiler.build import Build

FAILURE = "FAIL.TXT"
CODES = (("DETAILS.TXT", r"Unique ID:\s*([0-9A-Fa-f]{4})"), ("MBED.HTM", r"[?&]code=([0-9A-Fa-f]{4})"))


def flash(build: Build, port: str | None, progress: Progress) -> str:
    """Copy bootloader and application to the probe's drive; return the port that answers then.

    Raises:
        UserError: there is no such drive, the probe says that it failed, or the board does not answer.
    """
    board, table = build.board, build.board.mass_storage
    assert table is not None  # boards.parse: a listed method has its table
    drive = _drive(board, table.labels, table.codes)
    before, data = drive.text(FAILURE), whole.contents(build)
    if table.format == "hex":
        data = intel_hex.pack(data, board.flash_memory.origin)

    def watch() -> None:
        said = drive.text(FAILURE)
        if said is not None and said != before:
            raise UserError(
                f"{drive.path}: the probe failed: {' '.join(said.split())[:200]}; "
                "unplug the board, plug it in, and run the same command again"
            )

    drives.copy(drive, f"earkit.{table.format}", data, progress)
    return whole.see(build, port, watch=watch)


def _drive(board: Board, labels: tuple[str, ...], codes: tuple[str, ...]) -> Drive:
    """Return the only mounted drive of such a probe.

    Raises:
        UserError: there is none, it is not mounted, or there are several.
    """
    named = [drive for drive in drives.mounted() if drive.label in labels]
    found = [drive for drive in named if not codes or _code(drive) in (*codes, "")]
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(str(drive.path) for drive in found)
        raise UserError(f"{len(found)} drives may be {board.name} ({places}): unplug all but one")
    if named:
        raise UserError(
            f"{named[0].path} belongs to a board with code {_code(named[0])}, {board.name} has "
            f"{' or '.join(codes)}: plug that one in"
        )
    for link in filter(None, map(drives.unmounted, labels)):
        raise UserError(f"the drive {link.name} is not mounted: udisksctl mount -b {link.resolve()}")
    raise UserError(f"no drive called {' or '.join(labels)}: plug the {board.title} in by its debug port")


def _code(drive: Drive) -> str:
    """Return the code of the board that a probe's drive belongs to, "" where it does not tell."""
    for name, pattern in CODES:
        if code := re.search(pattern, drive.text(name) or ""):
            return code[1].lower()
    return ""
