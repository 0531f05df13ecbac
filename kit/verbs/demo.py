"""`earkit demo`: walk the whole road on synthetic sounds."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "walk the whole road on synthetic sounds"
EXAMPLE = "earkit demo"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument("--family", default="panns", help="default: panns")
    parser.add_argument("--board", default="virtual-m4", help="default: virtual-m4")
    parser.add_argument("--seed", type=arguments.whole(0), default=0)
    parser.add_argument("-o", "--output", type=arguments.path, default="runs/demo", help="default: runs/demo")


def run(args: Namespace) -> int:
    """Walk the whole road on synthetic sounds."""
    from kit.demo import demo as walk
    from kit.verbs.profile import tables

    with shown() as progress:
        record = walk(args.family, args.board, Path(args.output), seed=args.seed, progress=progress)
    if args.json:
        terminal.json_object(record)
        return 0
    tables(record["profile"])
    terminal.table(("stage", "seconds"), record["seconds"].items())
    print(f"report: {record['report']}")
    return 0
