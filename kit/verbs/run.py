"""`earkit run`: run inputs on the board."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "run inputs on the board"
EXAMPLE = "earkit run build/model --input x.npy --output y.npy"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    arguments.build(parser)
    parser.add_argument(
        "--input",
        type=arguments.path,
        required=True,
        nargs="+",
        metavar="X.npy",
        help="one each input: its type or float32, or a batch; a model with states takes its rows as steps",
    )
    parser.add_argument(
        "--output",
        type=arguments.path,
        required=True,
        nargs="+",
        metavar="Y.npy",
        help="one each output: float32 if the input was",
    )


def run(args: Namespace) -> int:
    """Run the inputs of a .npy on the board."""
    from kit import pipeline, shelf
    from kit.outputs import room_for

    with shown() as progress:
        record = pipeline.run(
            shelf.built(args.build, args.board, progress),
            [Path(name) for name in args.input],
            [room_for(Path(name)) for name in args.output],
            port=args.port,
            progress=progress,
        )
    if args.json:
        terminal.json_object(record)
    else:
        names = ", ".join(one["output"] for one in record["outputs"])
        print(f"{names}: {record['inputs']} outputs of {record['board']}, {record['origin']}")
    return 0
