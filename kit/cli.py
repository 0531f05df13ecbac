"""The command line: one row a verb, arguments checked here, the work found in kit/verbs.py."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kit.arguments import named, number, path, whole

ABOUT = "Modern audio models on small devices: compress, compile, flash, listen, profile."


class Parser(argparse.ArgumentParser):
    """argparse with one line for an error, and no guessing of abbreviated options.

    `mixed`: options may stand between two positional arguments of which the second may be left out.
    """

    mixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, or positional arguments after all options."""
        if not self.mixed:
            return super().parse_known_args(args, namespace)
        self.mixed = False  # argparse comes back here, twice
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.mixed = True

    def error(self, message: str) -> NoReturn:
        """Print `message` as one line and exit with 2."""
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: {line} (see {self.prog} --help)\n")


@dataclass(frozen=True)
class Verb:
    """One verb: its line of help, an example that works, and what it takes."""

    about: str
    example: str
    arguments: Callable[[Parser], None]


def _models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", nargs="?", help="show one family only")


def _boards(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", nargs="?", help="show one board only")


def _doctor(_parser: argparse.ArgumentParser) -> None:
    pass


def _data(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--data",
        type=path,
        default=default,
        metavar="DIR",
        help="folder of clips (ESC-50, Speech Commands or FSDD layout, a folder per class, manifest.csv) "
        "'synthetic', or 'synthetic-affect' for values instead of classes"
        + (f" (default: {default})" if default else " (default: what the bundle was made with)"),
    )
    parser.add_argument("--held-out", metavar="NAME", help="fold, speaker or source kept for testing")


def _compress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("family", metavar="FAMILY", help="see `earkit models`")
    parser.add_argument("--size", default="micro", help="size of the family (default: micro)")
    _data(parser, "synthetic")
    parser.add_argument("--board", help="say so if the model does not fit this board")
    parser.add_argument(
        "--teacher",
        type=path,
        metavar="FILE|SIZE",
        help=".keras, .onnx, .tflite, .npz, a larger size, FAMILY/SIZE[*SEEDS], or none",
    )
    parser.add_argument(
        "--seconds",
        type=number(0.1, 60),
        help="of sound in one input (default: the recipe's, or the clips' median)",
    )
    parser.add_argument("--epochs", type=whole(1), help="most epochs of each training stage")
    parser.add_argument(
        "--keep", type=number(0.01, 1), default=0.7, help="share of units kept by pruning (default: 0.7)"
    )
    parser.add_argument("--scratch", action="store_true", help="also train without the teacher, to compare")
    parser.add_argument(
        "--cross-validate",
        action="store_true",
        help="hold out every fold or speaker once; with --board, hear each on the board",
    )
    parser.add_argument("--clips-per-class", type=whole(2), metavar="N", help="of the synthetic set")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("-o", "--output", type=path, metavar="BUNDLE", help="default: bundles/FAMILY-SIZE")


def _compile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=path, metavar="MODEL", help="a bundle, or an int8 .tflite of your own")
    parser.add_argument("--board", required=True, help="see `earkit boards`")
    _hop(parser)
    parser.add_argument("--toolchain", choices=("zig", "gcc"), default="zig", help="default: zig")
    parser.add_argument("-o", "--output", type=path, metavar="BUILD", help="default: build/NAME-BOARD")


def _hop(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hop",
        metavar="TIME",
        help="stream: take this much sound at a time, such as 20ms, or 2 rows of the input",
    )


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=path, metavar="MODEL", help="a bundle, or an int8 .tflite of your own")
    parser.add_argument("--as", dest="form", required=True, choices=("c", "cmake", "arduino", "zephyr"))
    parser.add_argument("--board", help="kernels for its core; default: portable C")
    _hop(parser)
    parser.add_argument("-o", "--output", type=path, metavar="DIR", help="default: export/NAME-FORM")


def _build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "build", type=path, metavar="BUILD", help="what `earkit compile` made, or a model of `earkit zoo`"
    )
    parser.add_argument("--port", help="serial port of the board (default: found by its USB id)")
    parser.add_argument("--board", help="for a model that comes with the kit: see `earkit zoo`")


def _run(parser: argparse.ArgumentParser) -> None:
    _build(parser)
    parser.add_argument(
        "--input",
        type=path,
        required=True,
        nargs="+",
        metavar="X.npy",
        help="one each input: its type or float32, or a batch; a model with states takes its rows as steps",
    )
    parser.add_argument(
        "--output",
        type=path,
        required=True,
        nargs="+",
        metavar="Y.npy",
        help="one each output: float32 if the input was",
    )


def _listen(parser: argparse.ArgumentParser) -> None:
    _build(parser)
    parser.add_argument("--source", type=path, default="mic", help="mic, or a sound file (default: mic)")
    parser.add_argument("--fast", action="store_true", help="as fast as possible instead of real time")
    parser.add_argument("--threshold", type=number(0, 1), help="probability that makes an event, 0 to 1")
    parser.add_argument(
        "-o", "--output", type=path, metavar="RUN", help="keep what was heard, for the report"
    )


def _profile(parser: argparse.ArgumentParser) -> None:
    _build(parser)
    _data(parser, None)
    parser.add_argument(
        "--against",
        type=path,
        default="full",
        metavar="full|FILE",
        help="the teacher, or a .keras/.onnx/.tflite",
    )
    parser.add_argument("--samples", type=whole(1), help="most clips (default: all that were held out)")
    parser.add_argument(
        "--seed", type=whole(0), default=0, help="of random inputs, for a model without a bundle"
    )
    parser.add_argument("-o", "--output", type=path, metavar="RUN", help="default: runs/NAME of the build")


def _reference(parser: Parser) -> None:
    parser.mixed = True
    parser.add_argument("model", type=path, metavar="MODEL", help="a family, or a .keras, .onnx or .tflite")
    parser.add_argument(
        "data", type=path, nargs="?", metavar="DATA", help="folder of clips, as of compress --data"
    )
    parser.add_argument("--size", default="full", help="published size of the family (default: full)")
    parser.add_argument(
        "--weights",
        type=path,
        metavar="FILE",
        help="official weights of the family: .safetensors, .npz, .pt, .pth, .ckpt or .bin",
    )
    parser.add_argument(
        "--input",
        type=path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="sound files, or .npy: features (N, frames, bands), waveforms (N, samples) at the model's rate",
    )
    parser.add_argument(
        "--seconds",
        type=number(0.01, 600),
        help="of sound in one window (default: as the longest clip, at most as published)",
    )
    parser.add_argument(
        "--rate",
        type=whole(1000),
        default=16_000,
        help="Hz, of a model file that takes waveforms (default: 16000)",
    )
    parser.add_argument(
        "--batch", type=whole(1), default=16, metavar="N", help="windows at once (default: 16)"
    )
    parser.add_argument("--frames", action="store_true", help="also store the sequence before pooling")
    parser.add_argument("-o", "--output", type=path, metavar="NPZ", help="default: MODEL-SIZE.npz")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=path, nargs="+", metavar="RUN", help="what `earkit profile` made")
    parser.add_argument("-o", "--output", type=path, default="report.html", help="default: report.html")


def _zoo(parser: Parser) -> None:
    parser.mixed = True
    parser.add_argument("action", nargs="?", default="list", choices=("list", "build"))
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="default: all that have a micro")
    parser.add_argument(
        "--data",
        type=named,
        action="append",
        metavar="NAME=DIR",
        help="as of compress, any number of times (default: synthetic and synthetic-affect)",
    )
    parser.add_argument("--teacher", metavar="SIZE", help="as of compress, of all (default: the recipes')")
    parser.add_argument("--seeds", type=whole(1), default=3, help="of each student (default: 3)")
    parser.add_argument("--folds", type=whole(2), default=5, help="of each data set, at most (default: 5)")
    parser.add_argument(
        "--held-out", type=named, action="append", metavar="NAME=FOLD", help="the only fold of a data set"
    )
    parser.add_argument("--epochs", type=whole(1), help="most epochs of each training stage")
    parser.add_argument("--board", default="virtual-m7", help="default: virtual-m7")
    parser.add_argument("--jobs", type=whole(1), metavar="N", help="processes (default: one a core)")
    parser.add_argument(
        "--table", type=path, metavar="FILE.md", help="write the table there too, json beside"
    )
    parser.add_argument(
        "--keep", action="store_true", help="put small bundles on the kit's shelf, models/zoo"
    )
    parser.add_argument("-o", "--output", type=path, default="runs/zoo", help="default: runs/zoo")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", default="panns", help="default: panns")
    parser.add_argument("--board", default="virtual-m4", help="default: virtual-m4")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("-o", "--output", type=path, default="runs/demo", help="default: runs/demo")


VERBS: Mapping[str, Verb] = {
    "models": Verb("list the families of models", "earkit models", _models),
    "boards": Verb("list the boards", "earkit boards virtual-m4", _boards),
    "doctor": Verb("check this machine, with a cure for each fault", "earkit doctor", _doctor),
    "compress": Verb(
        "train, distil, prune and quantise a model into a bundle",
        "earkit compress panns --data clips/ --board virtual-m4 -o bundles/panns",
        _compress,
    ),
    "compile": Verb(
        "turn a bundle or an int8 .tflite into firmware for a board",
        "earkit compile model.tflite --board virtual-m4 -o build/model",
        _compile,
    ),
    "export": Verb(
        "write a model as C that builds alone, or as a CMake, Arduino or Zephyr project",
        "earkit export model.tflite --as cmake --board virtual-m4 -o model-c",
        _export,
    ),
    "run": Verb("run inputs on the board", "earkit run build/model --input x.npy --output y.npy", _run),
    "flash": Verb("write the firmware to the board", "earkit flash build/model --port /dev/ttyACM0", _build),
    "listen": Verb(
        "stream sound to the board and show what it hears",
        "earkit listen build/panns --source clip.wav --fast",
        _listen,
    ),
    "profile": Verb(
        "measure instructions, memory and accuracy on the board against the host",
        "earkit profile build/panns -o runs/panns",
        _profile,
    ),
    "reference": Verb(
        "hear sounds with a full-size model and its official weights, to teach small ones",
        "earkit reference panns --weights cnn14.pth clips/ -o teacher.npz",
        _reference,
    ),
    "report": Verb("make one HTML page of profiles", "earkit report runs/panns -o report.html", _report),
    "zoo": Verb(
        "list the models that come with the kit, or build every micro and hear it on a board",
        "earkit zoo build panns --data esc10=clips/esc10 --seeds 3",
        _zoo,
    ),
    "demo": Verb("walk the whole road on synthetic sounds", "earkit demo", _demo),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = Parser(
        prog="earkit",
        description=ABOUT,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.epilog = "start with:\n  earkit demo"
    top.add_argument("--version", action="store_true", help="print the version")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for name, verb in VERBS.items():
        one = verbs.add_parser(
            name,
            help=verb.about,
            description=verb.about[0].upper() + verb.about[1:] + ".",
            epilog=f"example:\n  {verb.example}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.arguments(one)
        one.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return the exit code.

    0 done, 1 the user can mend it (one line on stderr), 2 usage, 70 a bug of ours (traceback),
    130 Ctrl-C, 141 the reader of stdout went away.
    """
    try:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by who started us
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (until the end)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a label may hold anything
        return _main(argv)
    except KeyboardInterrupt:  # while the border itself was being imported
        print("earkit: interrupted", file=sys.stderr)
        return 130


def _main(argv: Sequence[str] | None) -> int:
    top = parser()
    try:
        args = top.parse_args(argv)
    except SystemExit as error:
        return int(error.code or 0)
    if args.version:
        from importlib.metadata import version

        print(f"earkit {version('earkit')}")
        return 0
    if args.verb is None:
        top.print_usage(sys.stderr)
        return 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's chatter would drown our line
    from kit import errors

    return errors.border(args.verb, lambda: _verb(args))


def _verb(args: argparse.Namespace) -> int:
    from kit import verbs

    action: Callable[[argparse.Namespace], int] = getattr(verbs, args.verb)
    return action(args)
