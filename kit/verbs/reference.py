"""`earkit reference`: hear sounds with a full-size model and its official weights, to teach small ones."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from kit import arguments, terminal
from kit.arguments import Parser
from kit.progress import shown

ABOUT = "hear sounds with a full-size model and its official weights, to teach small ones"
EXAMPLE = "earkit reference panns --weights cnn14.pth clips/ -o teacher.npz"


def add(parser: Parser) -> None:
    """Declare what it takes."""
    parser.mixed = True
    parser.add_argument(
        "model", type=arguments.path, metavar="MODEL", help="a family, or a .keras, .onnx or .tflite"
    )
    parser.add_argument(
        "data", type=arguments.path, nargs="?", metavar="DATA", help="folder of clips, as of compress --data"
    )
    parser.add_argument("--size", default="full", help="published size of the family (default: full)")
    parser.add_argument(
        "--weights",
        type=arguments.path,
        metavar="FILE",
        help="official weights of the family: .safetensors, .npz, .pt, .pth, .ckpt or .bin",
    )
    parser.add_argument(
        "--input",
        type=arguments.path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="sound files, or .npy: features (N, frames, bands), waveforms (N, samples) at the model's rate",
    )
    parser.add_argument(
        "--seconds",
        type=arguments.number(0.01, 600),
        help="of sound in one window (default: as the longest clip, at most as published)",
    )
    parser.add_argument(
        "--rate",
        type=arguments.whole(1000),
        default=16_000,
        help="Hz, of a model file that takes waveforms (default: 16000)",
    )
    parser.add_argument(
        "--batch", type=arguments.whole(1), default=16, metavar="N", help="windows at once (default: 16)"
    )
    parser.add_argument("--frames", action="store_true", help="also store the sequence before pooling")
    parser.add_argument("-o", "--output", type=arguments.path, metavar="NPZ", help="default: MODEL-SIZE.npz")


def run(args: Namespace) -> int:
    """Let a full-size model hear sounds, and store what it says as a teacher."""
    from kit import beside, pipeline

    out = Path(args.output or f"{Path(args.model).stem}-{args.size}.npz")
    with shown() as progress:
        record = pipeline.reference(
            args.model,
            out if out.suffix == ".npz" else out.with_name(out.name + ".npz"),
            data=args.data,
            inputs=[Path(name) for name in args.input],
            size=args.size,
            weights=Path(args.weights) if args.weights else None,
            seconds=args.seconds,
            rate=args.rate,
            batch=args.batch,
            frames=args.frames,
            progress=progress,
        )
    if args.json:
        terminal.json_object(record)
        return 0
    terminal.table(("output", "shape"), [(name, str(shape)) for name, shape in record["outputs"].items()])
    print(f"{record['teacher']} on {record['device']} ({record['backend']}, {record['dtype']}), measured:")
    terminal.table(("figure", "value"), beside.speed(record))
    if record["licence"]:
        print(f"licence of the weights: {record['licence']}")
    print(f"{record['output']}: a teacher; next: earkit compress FAMILY --teacher {record['output']}")
    return 0
