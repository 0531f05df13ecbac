"""`earkit record`: collect labelled sound through the board's own microphone."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "collect labelled sound through the board's own microphone"
EXAMPLE = "earkit record build/mine --label yes --seconds 1 --clips 10 -o data/mine"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    arguments.build(parser)
    parser.add_argument("--label", required=True, help="what is heard: the clips go to DIR/LABEL")
    parser.add_argument(
        "--seconds", type=arguments.number(0.01, 3600), default=1.0, help="of a clip (default: 1)"
    )
    parser.add_argument("--clips", type=arguments.whole(1), default=1, help="how many (default: 1)")
    parser.add_argument(
        "--source", type=arguments.path, help="what a virtual board hears: mic, or a sound file"
    )
    parser.add_argument(
        "-o", "--output", type=arguments.path, required=True, metavar="DIR", help="a data set for --data"
    )


def run(args: Namespace) -> int:
    """Record clips into a folder per class."""
    from kit import pipeline, shelf
    from kit.outputs import room_for

    with shown() as progress:
        made = pipeline.record(
            shelf.built(args.build, args.board, progress),
            args.label,
            args.seconds,
            room_for(Path(args.output), folder=True),
            clips=args.clips,
            port=args.port,
            source=args.source,
            progress=progress,
        )
    if args.json:
        terminal.json_object(made)
    else:
        clips = f"{len(made['files'])} clips of {args.label}"
        print(f"{args.output}: {clips}; next: earkit compress … --data {args.output}")
    return 0
