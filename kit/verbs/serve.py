"""`earkit serve`: a virtual board as a serial port for other programs."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "offer a virtual board as a serial port to other programs"
EXAMPLE = "earkit serve build/kws"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument(
        "build",
        type=arguments.path,
        metavar="BUILD",
        help="what `earkit compile` made, or a model of `earkit zoo`",
    )
    parser.add_argument("--board", help="for a model that comes with the kit: see `earkit zoo`")
    parser.add_argument("--source", type=arguments.path, help="sound file that it hears, over and over")


def run(args: Namespace) -> int:
    """Offer a virtual board as a serial port until Ctrl-C."""
    from kit import pipeline, shelf

    stop = threading.Event()

    def ready(port: str) -> None:
        if args.json:
            terminal.json_object({"port": port})
        else:
            print(f"{port}: open it with any program; Ctrl-C ends it")
        sys.stdout.flush()

    with shown() as progress:
        folder = shelf.built(args.build, args.board, progress)
        pipeline.serve(folder, ready=ready, stop=stop, source=args.source, progress=progress)
    return 0
