"""`earkit profile`: measure instructions, memory and accuracy on the board against the host."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "measure instructions, memory and accuracy on the board against the host"
EXAMPLE = "earkit profile build/panns -o runs/panns"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    arguments.build(parser)
    arguments.data(parser, None)
    parser.add_argument(
        "--against",
        type=arguments.path,
        default="full",
        metavar="full|FILE",
        help="the bundle's teacher, a .keras, .onnx or .tflite, or the .npz of `earkit reference`",
    )
    parser.add_argument(
        "--samples", type=arguments.whole(1), help="most clips (default: all that were held out)"
    )
    parser.add_argument(
        "--seed", type=arguments.whole(0), default=0, help="of random inputs, for a model without a bundle"
    )
    parser.add_argument(
        "--energy", type=arguments.path, metavar="FILE.csv", help="of a power analyser, see the README"
    )
    parser.add_argument(
        "--volts", type=arguments.number(0.1, 60), help="of the supply, for a csv of current alone"
    )
    parser.add_argument(
        "--inferences", type=arguments.whole(1), help="in the csv, where no marker column shows them"
    )
    parser.add_argument(
        "-o", "--output", type=arguments.path, metavar="RUN", help="default: runs/NAME of the build"
    )


def run(args: Namespace) -> int:
    """Measure instructions, memory and accuracy on the board against the host."""
    from kit import beside, pipeline, runs, shelf
    from kit.outputs import room_for

    out = room_for(Path(args.output or f"runs/{Path(args.build).absolute().name}"), folder=True)
    spent = _energy(args)
    with shown() as progress:
        made = pipeline.profile(
            shelf.built(args.build, args.board, progress),
            data=args.data,
            held_out=args.held_out,
            against=args.against,
            samples=args.samples,
            seed=args.seed,
            port=args.port,
            progress=progress,
        )
    assert made.profile is not None
    record = dict(made.profile)
    if spent:
        record |= {"energy": spent, "origins": {**record["origins"], "energy": "measured"}}
    record["beside"] = beside.plain(record)
    runs.save(replace(made, profile=record), out)
    if args.json:
        terminal.json_object(record)
    else:
        tables(record)
        print(f"{out}/{runs.PROFILE}; next: earkit report {shlex.quote(str(out))}")
    return 0


def _energy(args: Namespace) -> dict[str, Any] | None:
    """Read the csv of --energy before the board is asked."""
    from boards.errors import UserError
    from kit import energy

    if args.energy is None:
        if args.volts is not None or args.inferences is not None:
            raise UserError("--volts and --inferences are for --energy: name its csv")
        return None
    return energy.read(Path(args.energy), args.volts, args.inferences)


def tables(record: Mapping[str, Any]) -> None:
    """Print a profile: the work of each node, the figures, and what is to be said about them."""
    from kit import beside, engine
    from kit.figures import single, unit_of

    unit = unit_of(record)
    rows = [(row["name"], row["op"], row["macs"], row[unit], _per_mac(row, unit)) for row in record["per_op"]]
    terminal.table(("node", "op", "MACs", unit, f"{unit} per MAC"), rows)
    terminal.table(("figure", "value", "origin"), single(record))
    if found := engine.rows(record):
        terminal.table(engine.HEAD, found)
        print(engine.words(record))
    if compared := beside.table(record):
        terminal.table(beside.HEAD, compared)
        full = record["reference"]
        print(f"reference: {full['name']} on {full['device']}")
    print(f"firmware of {record['board']}: {record['proof']}")
    if record["first_mismatch"]:
        print(
            "first difference: {sample}, {what} {index}: device {device}, host {host}".format(
                **record["first_mismatch"]
            )
        )
        if op := record["first_mismatch"].get("op"):
            print("first op that differs: {name} ({op}), node {node}, run {run}".format(**op))
    for note in record["notes"]:
        print(f"note: {note}")


def _per_mac(row: Mapping[str, Any], unit: str) -> float | None:
    return row[unit] / row["macs"] if row["macs"] and row[unit] is not None else None
