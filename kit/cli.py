"""The command line: the verbs of kit/verbs, their arguments, and the border that errors come to."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Protocol

from kit import verbs
from kit.arguments import Parser

ABOUT = "Modern audio models on small devices: compress, compile, flash, listen, profile."


class Verb(Protocol):
    """One verb: its line of help, an example that works, what it takes, and what it does."""

    ABOUT: str
    EXAMPLE: str

    def add(self, parser: Parser) -> None:
        """Declare the arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work, print what came of it, and return the exit code."""


VERBS: Mapping[str, Verb] = {
    name: import_module(f"kit.verbs.{name.replace('-', '_')}") for name in verbs.NAMES
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
    row = top.add_subparsers(dest="verb", metavar="VERB", parser_class=Parser)
    for name, verb in VERBS.items():
        one = row.add_parser(
            name,
            help=verb.ABOUT,
            description=verb.ABOUT[0].upper() + verb.ABOUT[1:] + ".",
            epilog=f"example:\n  {verb.EXAMPLE}",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add(one)
        one.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        one.set_defaults(parser=one)
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
        args, unknown = top.parse_known_args(argv)
        if unknown:
            (args.parser if args.verb else top).error(f"unrecognized arguments: {' '.join(unknown)}")
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

    return errors.border(args.verb, lambda: VERBS[args.verb].run(args))
