"""`earkit farm`: compile, flash and profile one model on many boards at once."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "compile, flash and profile one model on many boards at once"
EXAMPLE = "earkit farm fleet.toml bundles/esc10 -o runs/farm"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.mixed = True
    parser.add_argument(
        "fleet", type=arguments.path, metavar="FLEET.toml", help="[[boards]] with board, port and name"
    )
    parser.add_argument(
        "model",
        nargs="?",
        type=arguments.path,
        metavar="MODEL",
        help="as of compile, or a build (default: the fleet's `model`, beside its file)",
    )
    arguments.data(parser, None)
    parser.add_argument(
        "--samples", type=arguments.whole(1), help="most clips (default: all that were held out)"
    )
    parser.add_argument(
        "--seed", type=arguments.whole(0), default=0, help="of random inputs, for a model without a bundle"
    )
    parser.add_argument(
        "--jobs", type=arguments.whole(1), metavar="N", help="boards at a time (default: one a core)"
    )
    parser.add_argument("-o", "--output", type=arguments.path, default="runs/farm", help="default: runs/farm")


def run(args: Namespace) -> int:
    """Compile, flash and profile one model on many boards at once."""
    from boards.errors import UserError
    from kit import farm
    from kit.outputs import room_for, write_text

    path, out = Path(args.fleet), room_for(Path(args.output), folder=True)
    fleet = farm.read(path)
    if (model := args.model or fleet.model) is None:
        raise UserError(f"{path}: names no `model`; add one, or name it behind the file")
    if args.model is None and (path.parent / model).exists():
        model = str(path.parent / model)
    with shown() as progress:
        rows = farm.run(
            fleet,
            model,
            out,
            jobs=args.jobs,
            progress=progress,
            data=args.data,
            held_out=args.held_out,
            samples=args.samples,
            seed=args.seed,
        )
    record = {"model": model, "output": str(out), "boards": rows}
    write_text(out / "farm.json", terminal.text_of(record))
    if args.json:
        terminal.json_object(record)
    else:
        terminal.table(*farm.table(rows))
        print(f"{out}/farm.json; next: earkit report {out}/run/*")
    if failed := [row["name"] for row in rows if row["error"]]:
        raise UserError(
            f"{len(failed)} of {len(rows)} boards failed: {', '.join(failed)}; the table says of what"
        )
    return 0
