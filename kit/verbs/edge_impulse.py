"""`earkit edge-impulse`: estimates and deployments of Edge Impulse's cloud, through its SDK."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser

ABOUT = "let Edge Impulse's cloud estimate a model, or make its library of it"
EXAMPLE = "earkit edge-impulse profile bundles/esc10 --device cortex-m4f-80mhz"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.mixed = True
    parser.add_argument("action", choices=("profile", "deploy"))
    parser.add_argument("model", type=arguments.path, metavar="BUNDLE", help="or an int8 .tflite")
    parser.add_argument("--device", help="of profile: one of the cloud's devices, such as cortex-m4f-80mhz")
    parser.add_argument("--target", default="zip", help="of deploy: zip is its C++ library (default)")
    parser.add_argument("--engine", choices=("tflite", "tflite-eon"), default="tflite", help="of deploy")
    parser.add_argument(
        "-o", "--output", type=arguments.path, metavar="FILE", help="of deploy (default: NAME-TARGET.zip)"
    )


def run(args: Namespace) -> int:
    """Let the cloud estimate a model, or make its library of it."""
    from kit import edge_impulse
    from kit.outputs import room_for

    if args.action == "profile":
        record = edge_impulse.profile(args.model, args.device)
        if args.json:
            terminal.json_object(record)
        else:
            terminal.table(("figure", "value", "origin"), edge_impulse.figures(record))
        return 0
    name = Path(args.model).absolute().name.removesuffix(".zip").removesuffix(".tflite")
    out = room_for(Path(args.output or f"{name}-{args.target}.zip"))
    record = edge_impulse.deploy(args.model, out, args.target, args.engine)
    if args.json:
        terminal.json_object(record)
    else:
        print(f"{out}: {record['bytes']:,} bytes, target {args.target}; it takes the model's features")
    return 0
