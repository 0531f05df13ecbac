"""`earkit compress`: train, distil, prune and quantise a model into a bundle."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "train, distil, prune and quantise a model into a bundle"
EXAMPLE = "earkit compress panns --data clips/ --board virtual-m4 -o bundles/panns"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.add_argument("family", metavar="FAMILY", help="see `earkit models`")
    parser.add_argument("--size", default="micro", help="size of the family (default: micro)")
    arguments.data(parser, "synthetic")
    parser.add_argument("--board", help="say so if the model does not fit this board")
    parser.add_argument(
        "--teacher",
        type=arguments.path,
        metavar="FILE|SIZE",
        help=".keras, .onnx, .tflite, .npz, a larger size, FAMILY/SIZE[*SEEDS], or none",
    )
    parser.add_argument(
        "--seconds",
        type=arguments.number(0.1, 60),
        help="of sound in one input (default: the recipe's, or the clips' median)",
    )
    parser.add_argument("--epochs", type=arguments.whole(1), help="most epochs of each training stage")
    parser.add_argument(
        "--keep",
        type=arguments.number(0.01, 1),
        default=0.7,
        help="share of units kept by pruning (default: 0.7)",
    )
    parser.add_argument("--scratch", action="store_true", help="also train without the teacher, to compare")
    parser.add_argument(
        "--cross-validate",
        action="store_true",
        help="hold out every fold or speaker once; with --board, hear each on the board",
    )
    parser.add_argument(
        "--clips-per-class", type=arguments.whole(2), metavar="N", help="of the synthetic set"
    )
    parser.add_argument("--seed", type=arguments.whole(0), default=0)
    parser.add_argument(
        "-o", "--output", type=arguments.path, metavar="BUNDLE", help="default: bundles/FAMILY-SIZE"
    )


def run(args: Namespace) -> int:
    """Train, distil, prune and quantise a family into a bundle, or into one a fold."""
    out = Path(args.output or f"bundles/{args.family}-{args.size}")
    chosen = ("teacher", "epochs", "seed", "keep", "clips_per_class", "seconds", "scratch")
    choices = {name: getattr(args, name) for name in chosen}
    return (_folds if args.cross_validate else _bundle)(args, out, choices)


def _bundle(args: Namespace, out: Path, choices: dict[str, Any]) -> int:
    from kit import pipeline

    began = time.monotonic()
    with shown() as progress:
        bundle = pipeline.compress(
            args.family,
            args.size,
            args.data,
            out,
            board=args.board,
            held_out=args.held_out,
            progress=progress,
            **choices,
        )
    evaluation = bundle.evaluation()
    if args.json:
        record = {"bundle": str(out), "family": bundle.family, "size": bundle.size, "evaluation": evaluation}
        terminal.json_object({**record, "seconds": round(time.monotonic() - began, 1)})
        return 0
    metric = evaluation["metric"]
    stages = [(s["name"], s["what"], s[metric], s["parameters"], s["macs"]) for s in evaluation["stages"]]
    terminal.table(("stage", "net", metric, "parameters", "MACs"), stages)
    for note in (*evaluation["data"]["warnings"], *evaluation["notes"]):
        print(f"note: {note}")
    clips = evaluation["data"]["test"]
    print(f"{out}: int8 {len(bundle.model()):,} bytes, {clips} test clips; next: earkit compile {out}")
    return 0


def _folds(args: Namespace, out: Path, choices: dict[str, Any]) -> int:
    from boards.errors import UserError
    from kit.cross_validate import cross_validate

    if args.held_out:
        raise UserError(
            f"--held-out {args.held_out} holds out one fold, --cross-validate each in turn: give one"
        )
    with shown() as progress:
        summary = cross_validate(
            args.family, args.size, args.data, out, board=args.board, progress=progress, **choices
        )
    if args.json:
        terminal.json_object(summary)
        return 0
    rows = [(name, row["what"], row) for name, row in summary["stages"].items()]
    if "device" in summary:
        rows.append(("device", f"on {summary['board']}, {summary['device']['origin']}", summary["device"]))
    terminal.table(
        (
            "stage",
            "net",
            summary.get("metric", "accuracy"),
            "deviation",
            *(f"without {fold}" for fold in summary["folds"]),
        ),
        [(name, what, row["mean"], row["deviation"], *row["by_fold"]) for name, what, row in rows],
    )
    print(f"{out}: a bundle for each of {len(summary['folds'])} folds and cross-validation.json")
    return 0
