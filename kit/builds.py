"""What `earkit compile` made, read back: firmware for a microcontroller, or a program for a computer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from boards import computers

if TYPE_CHECKING:
    from firmware.compiler.build import Build
    from firmware.compiler.program import Program


def load(path: Path) -> Build | Program:
    """Return the build in a directory.

    Raises:
        UserError: there is none, it is damaged, or another release made it; the cure is to compile again.
    """
    from firmware.compiler import build, folder, program

    return program.load(path) if folder.board(path) in computers.names() else build.load(path)
