"""`earkit compile`: turn a bundle or an int8 .tflite into firmware or a program."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "turn a bundle or an int8 .tflite into firmware for a board"
EXAMPLE = "earkit compile model.tflite --board virtual-m4 -o build/model"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument(
        "model",
        type=arguments.path,
        metavar="MODEL",
        help="a bundle, a model of `earkit zoo`, or an int8 .tflite of your own",
    )
    parser.add_argument("--board", required=True, help="see `earkit boards`")
    arguments.hop(parser)
    parser.add_argument("--toolchain", choices=("zig", "gcc"), default="zig", help="default: zig")
    parser.add_argument(
        "--dialect",
        metavar="NAME",
        help="mlperf or edge-impulse, what its clients speak, beside the link; NAME=ID: the model's id",
    )
    parser.add_argument(
        "-o", "--output", type=arguments.path, metavar="BUILD", help="default: build/NAME-BOARD"
    )


def run(args: Namespace) -> int:
    """Turn a bundle or an int8 .tflite into firmware."""
    from boards import computers
    from kit import pipeline, shelf

    with shown() as progress:
        build = pipeline.compile(
            shelf.find(args.model),
            args.board,
            Path(args.output) if args.output else None,
            hop=args.hop,
            toolchain=args.toolchain,
            dialect=args.dialect,
            progress=progress,
        )
    if args.json:
        terminal.json_object(build.sizes)
        return 0
    _table(build.sizes)
    if build.stream:
        print(_streams(build.stream))
    what = "program" if build.board.name in computers.names() else "firmware"
    board = f"{build.board.name}, {build.board.proven}"
    host = " --host user@name" if build.board.kind in ("linux", "jetson") else ""
    print(f"{build.path}: {what} for {board}; next: earkit flash {shlex.quote(str(build.path))}{host}")
    return 0


def _streams(stream: Mapping[str, Any]) -> str:
    steps = stream["window"] / stream["rows"]
    cost = f"{stream['macs'] * steps:,.0f} MACs for a window of new sound"
    text = f"streams {stream['rows']} of {stream['window']} rows at a time: {cost}"
    text += f", {stream['window_macs'] * steps:,.0f} when each hop runs the whole window"
    return text + (f"; whole from here on: {stream['stopped_by']}" if stream["stopped_by"] else "")


def _table(sizes: Mapping[str, Any]) -> None:
    rows = [(f"flash, {name}", count) for name, count in sizes["flash_bytes"].items()]
    rows += [(f"RAM, {name}", count) for name, count in sizes["ram_bytes"].items()]
    rows += [("RAM, least arena any plan could have", sizes["lower_bound_bytes"])]
    terminal.table(("", "bytes"), rows)
    print(f"{sizes['macs']:,} MACs in {len(sizes['ops'])} ops; compiled in {sizes['seconds']:.2f} s")
