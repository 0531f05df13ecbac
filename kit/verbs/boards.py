"""`earkit boards`: list the boards."""

from __future__ import annotations

from argparse import Namespace

from kit import terminal
from kit.arguments import Parser

ABOUT = "list the boards"
EXAMPLE = "earkit boards virtual-m4"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument("board", nargs="?", help="show one board only")


def run(args: Namespace) -> int:
    """List the boards, or show one."""
    import boards as board_files

    names = [args.board] if args.board else board_files.names()
    found = [board_files.load(name) for name in names]
    if args.json:
        terminal.json_object({"boards": [board.model_dump(mode="json") for board in found]})
        return 0
    terminal.table(
        ("board", "core", "MHz", "FPU", "DSP", "MVE", "flash", "RAM", "proof"),
        [
            (
                board.name,
                board.core,
                board.clock_hz // 1_000_000,
                board.fpu,
                board.dsp,
                board.mve,
                terminal.kilobytes(board.flash_memory.size),
                terminal.kilobytes(board.ram_memory.size),
                board.proven,
            )
            for board in found
        ],
    )
    return 0
