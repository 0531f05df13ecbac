"""`earkit phone`: any phone's browser as the board, by QR code."""

from __future__ import annotations

import sys
import threading
from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "let any phone listen and be measured in its browser, by QR code"
EXAMPLE = "earkit phone panns-micro-esc10"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument(
        "bundle", type=arguments.path, metavar="BUNDLE", help="a bundle, or a model of `earkit zoo`"
    )
    arguments.hop(parser)
    arguments.data(parser, None)
    parser.add_argument(
        "--samples", type=arguments.whole(1), help="most clips of a test (default: all that were held out)"
    )
    parser.add_argument(
        "--host", metavar="ADDR", help="to serve at (default: this machine's in its network); or localhost"
    )
    parser.add_argument("--port", type=arguments.whole(1), default=8443, help="default: 8443")
    parser.add_argument(
        "-o",
        "--output",
        type=arguments.path,
        metavar="RUN",
        help="of the first test; default: runs/NAME-phone",
    )


def run(args: Namespace) -> int:
    """Serve the page until Ctrl-C."""
    from kit import shelf
    from kit.figures import several
    from kit.outputs import room_for
    from kit.targets.phone import address, offer, serve

    place = address.find(args.host, args.port)
    with shown() as progress:
        made = offer.prepare(
            shelf.find(args.bundle),
            hop=args.hop,
            data=args.data,
            held_out=args.held_out,
            samples=args.samples,
            progress=progress,
        )
    out = room_for(Path(args.output or f"runs/{made.name}-phone"), folder=True)
    screen = sys.stderr if args.json else sys.stdout

    def tell(line: str) -> None:
        print(line, file=screen, flush=True)

    def invite(url: str) -> None:
        tell(f"{serve.picture(url) if screen.isatty() else ''}{url}\nscan it with a phone; Ctrl-C ends it")

    for note in made.trial.notes:
        tell(f"note: {note}")
    served = serve.serve(made, place, out, invite=invite, tell=tell, stop=threading.Event())
    if args.json:
        terminal.json_object(served.record())
    else:
        print(f"{several(served.joined, 'phone')} joined, {several(len(served.runs), 'test')}")
    return 0
