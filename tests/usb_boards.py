"""The boards that talk over USB: builds for them, and the stand-in of each chip that runs one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from usb_host import Host
from usb_nrf52 import Nrf52
from usb_rp2 import Rp2

import boards
from boards import Board
from firmware.compiler import build as builds
from firmware.compiler.build import Build

MODEL = Path(__file__).parent / "corpus" / "seed_fully_connected_int8.tflite"
NAMES = [name for name in boards.names() if boards.load(name).usb]
CHIPS = {"nrf52": Nrf52, "rp2040": Rp2, "rp2350": Rp2}


def compiled(board: Board, folder: Path) -> Build:
    """Return a small build for a board."""
    build = builds.compile_model(MODEL.read_bytes(), board, folder / board.name, name="t")
    return replace(build, board=board)


def plugged_in(build: Build, *, application: bool) -> Host:
    """Return the host of a board that has just got power; it has run until it rested."""
    flash = build.boot.ljust(build.board.boot, b"\xff") + (build.image if application else b"")
    chip = CHIPS[build.board.port](build.board, flash)
    chip.work()
    return Host(chip)
