"""`earkit boards`: list the boards and computers."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kit import terminal
from kit.arguments import Parser

if TYPE_CHECKING:
    from boards import Board
    from boards.computers import Computer

ABOUT = "list the boards and computers"
EXAMPLE = "earkit boards virtual-m4"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument("board", nargs="?", help="show one only")


def run(args: Namespace) -> int:
    """List the boards and computers, or show one."""
    import boards
    from boards import computers

    names, others = boards.names(), computers.names()
    if args.board in others:
        names, others = [], [args.board]
    elif args.board is not None:
        names, others = [args.board], []
    found, reached = [boards.load(name) for name in names], [computers.load(name) for name in others]
    if args.json:
        record = {"boards": [board.model_dump(mode="json") for board in found]}
        record["computers"] = [one.model_dump(mode="json") for one in reached]
        terminal.json_object(record)
        return 0
    if found:
        _boards(found)
    if reached:
        _computers(reached)
    return 0


def _boards(found: Sequence[Board]) -> None:
    terminal.table(
        ("board", "core", "MHz", "FPU", "DSP", "MVE", "flash", "RAM", "plug in", "proof"),
        [
            (
                board.name,
                board.core,
                board.clock_hz // 1_000_000,
                board.fpu,
                board.dsp,
                board.mve,
                terminal.kilobytes(board.flash_memory.size),
                " + ".join(terminal.kilobytes(m.size) for m in (board.ram_memory, *board.more_ram.values())),
                board.plug,
                board.proven,
            )
            for board in found
        ],
    )


def _computers(found: Sequence[Computer]) -> None:
    terminal.table(
        ("computer", "kind", "core", "cores", "MHz", "GPU", "RAM", "proof"),
        [
            (
                one.name,
                one.kind,
                one.core,
                one.cores,
                one.clock_hz and one.clock_hz // 1_000_000,
                one.gpu or None,
                one.ram_bytes and f"{one.ram_bytes >> 20:,} MB",
                one.proven,
            )
            for one in found
        ],
    )
