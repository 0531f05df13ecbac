"""`earkit report`: make one HTML page of profiles."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser

ABOUT = "make one HTML page of profiles"
EXAMPLE = "earkit report runs/panns -o report.html"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument(
        "runs", type=arguments.path, nargs="+", metavar="RUN", help="what `earkit profile` made"
    )
    parser.add_argument(
        "-o", "--output", type=arguments.path, default="report.html", help="default: report.html"
    )


def run(args: Namespace) -> int:
    """Make one page of profiles."""
    from kit import pipeline
    from kit.figures import several
    from kit.outputs import room_for

    out = room_for(Path(args.output))
    pipeline.report([Path(run) for run in args.runs], out)
    if args.json:
        terminal.json_object({"report": str(out), "runs": args.runs, "bytes": out.stat().st_size})
    else:
        print(f"{out}: {several(len(args.runs), 'run')}; open it in a browser")
    return 0
