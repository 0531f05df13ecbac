"""`earkit flash`: write the firmware to the board, or the program to the computer."""

from __future__ import annotations

import re
import shlex
import sys
from argparse import Namespace

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "write the firmware to the board, or the program to the computer"
EXAMPLE = "earkit flash build/model --port /dev/ttyACM0"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    arguments.build(parser)
    parser.add_argument(
        "--method", metavar="NAME", help="flash by this method only (default: the board's, in their order)"
    )
    parser.add_argument(
        "--service", action="store_true", help="on a computer: listen whenever the computer runs"
    )
    parser.add_argument(
        "--listening",
        metavar="OPTIONS",
        default="--source mic",
        help="of the service, as '--source plughw:1 --mqtt mqtt://HOST/TOPIC --websocket 0.0.0.0:8765'",
    )


def run(args: Namespace) -> int:
    """Write the firmware to the board."""
    from kit import pipeline, shelf

    with shown() as progress:
        record = pipeline.flash(
            shelf.built(args.build, args.board, progress),
            port=args.port,
            method=args.method,
            service=args.listening if args.service else None,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
            progress=progress,
        )
    if args.json:
        terminal.json_object(record)
        return 0
    if args.port and re.search(r"[/\\]", args.port):
        args.port = record["port"]  # on its own USB a board may have another name now
    next_step = f"earkit listen {' '.join(_again(args))}"
    if record["method"] == "ssh":
        files = f"{record['sent']} of {record['files']} files, {record['bytes']:,} bytes, were sent"
        listens = ""
        if record["service"]:
            listens = f"; its service {record['service']} listens from now on"
            next_step = f"ssh {record['port']} journalctl --user -f -u {record['service']}"
        print(f"{record['board']} at {record['port']}: release {record['release']} runs: {files}{listens}")
    else:
        fits = record["fallback"] or record["method"] == "adb"
        alone = "" if fits else "; no room for two images: there is no old one to fall back to"
        runs = f"build {record['build_id']} runs{alone}"
        print(f"{record['board']}: {record['bytes']:,} bytes verified, {runs}")
    print(f"next: {next_step}")
    return 0


def _again(args: Namespace) -> list[str]:
    """Return the words that name the same build and board to another verb."""
    asked = {"--board": args.board, "--port": args.port}
    words = (args.build, *(word for name, value in asked.items() if value for word in (name, value)))
    return [shlex.quote(word) for word in words]
