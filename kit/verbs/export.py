"""`earkit export`: write a model as C that builds alone, or as a project for others and for phones."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser

ABOUT = "write a model as C that builds alone, or as a CMake, Arduino, Zephyr, Android or Core ML project"
EXAMPLE = "earkit export model.tflite --as cmake --board virtual-m4 -o model-c"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument(
        "model",
        type=arguments.path,
        metavar="MODEL",
        help="a bundle, a model of `earkit zoo`, or an int8 .tflite of your own",
    )
    parser.add_argument(
        "--as",
        dest="form",
        required=True,
        choices=("c", "cmake", "arduino", "zephyr", "android", "coreml", "eim"),
    )
    parser.add_argument("--board", help="kernels for its core; default: portable C; eim: the computer")
    arguments.hop(parser)
    parser.add_argument(
        "-o", "--output", type=arguments.path, metavar="DIR", help="default: export/NAME-FORM"
    )


def run(args: Namespace) -> int:
    """Write a model as C sources."""
    from kit import pipeline, shelf

    model = shelf.find(args.model)
    name = model.absolute().name.removesuffix(".zip").removesuffix(".tflite")
    ending = {"coreml": ".mlpackage", "eim": ".eim"}.get(args.form, f"-{args.form}")
    out = Path(args.output or f"export/{name}{ending}")
    record = pipeline.export(model, args.form, out, board=args.board, hop=args.hop)
    if args.json:
        terminal.json_object({"export": str(out), **record})
    elif args.form == "android":
        print(f"{out}: {len(record['files'])} files; an Android Studio project with two engines")
        print(record["note"])
    elif args.form == "coreml":
        from kit.coreml.package import agreement

        print(
            f"{out}: {record['int8_constants']} int8 constants and {record['int8_values']} int8 values "
            "read back equal"
        )
        print(f"in numpy, on {record['evaluated']['clips']} inputs: {agreement(record['evaluated'])}")
        print(f"{record['swift']}: a Swift package that listens with it; {record['note']}")
    elif args.form == "eim":
        print(
            f"{out}: {record['bytes']:,} bytes for {record['machine']}; Edge Impulse's Linux clients run it"
        )
    else:
        ram = record["arena_bytes"] + record["state_bytes"]
        core = f"for the core of {args.board}" if args.board else "of portable C"
        print(f"{out}: {len(record['files'])} files {core}; {ram:,} bytes of RAM, no heap")
    return 0
