"""`earkit listen`: stream sound to the board and show what it hears."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser

ABOUT = "stream sound to the board and show what it hears"
EXAMPLE = "earkit listen build/panns --source clip.wav --fast"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    arguments.build(parser)
    parser.add_argument(
        "--source",
        type=arguments.path,
        default="mic",
        help="mic (the host's), board (its own microphone), or a sound file (default: mic)",
    )
    parser.add_argument(
        "--air",
        type=arguments.path,
        metavar="FILE",
        help="with --source board: the sound that the microphone of an emulated board hears",
    )
    parser.add_argument("--fast", action="store_true", help="as fast as possible instead of real time")
    parser.add_argument(
        "--threshold", type=arguments.number(0, 1), help="probability that makes an event, 0 to 1"
    )
    parser.add_argument(
        "-o", "--output", type=arguments.path, metavar="RUN", help="keep what was heard, for the report"
    )


def run(args: Namespace) -> int:
    """Stream sound to the board and show what it hears."""
    from boards.errors import UserError
    from kit import ears, listen_view, pipeline, runs, shelf
    from kit.outputs import room_for
    from kit.progress import shown

    if args.source == ears.BOARD:
        return _by_itself(args)
    if args.air is not None:
        raise UserError(f"--air {args.air} is for --source board; --source {args.air} streams a file")
    out = room_for(Path(args.output), folder=True) if args.output else None
    with shown() as progress:
        build = shelf.built(args.build, args.board, progress)
    heard = pipeline.listen(
        build,
        args.source,
        fast=args.fast,
        threshold=args.threshold,
        port=args.port,
        show=None if args.json else listen_view.view,
    )
    if out is not None:
        runs.save_listening(heard.listening, out)
    if args.json:
        terminal.json_object(heard.record())
    return 0


def _by_itself(args: Namespace) -> int:
    """Let the board listen through its own microphone."""
    from boards.errors import UserError
    from kit import ears, listen_view, shelf
    from kit.progress import shown

    if args.output is not None:
        raise UserError("-o keeps sound, which the board does not send: --source mic or a file does")
    with shown() as progress:
        build = shelf.built(args.build, args.board, progress)
    heard = ears.hear(
        build,
        air=args.air,
        threshold=args.threshold,
        port=args.port,
        tell=lambda event: None if args.json else print(listen_view.line(event), flush=True),
    )
    if args.json:
        terminal.json_object(heard.record())
    else:
        print(heard.summary())
    return 0
