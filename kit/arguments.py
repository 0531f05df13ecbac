"""Arguments: the parser, its types for numbers, names and pairs, and the options that verbs share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any, NoReturn

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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


def whole(low: int) -> Callable[[str], int]:
    """Return a type for argparse: a whole number of at least `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if not low <= value < 2**31:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {2**31 - 1}")
        return value

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a type for argparse: a number from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not low <= value <= high:  # false for NaN too
            raise argparse.ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    return parse


def path(text: str) -> str:
    """Return `text` if it can name a file, for argparse."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("an empty name")
    return text


def named(text: str) -> tuple[str, str]:
    """Return name and place of NAME=DIR, for argparse; a place alone is its own name."""
    name, equals, place = text.partition("=")
    place = path(place if equals else text)
    name = name if equals else place.rstrip("/").rpartition("/")[2]
    if not NAME.fullmatch(name):
        raise argparse.ArgumentTypeError(f"{name!r} names no data set: letters, digits, dots and dashes do")
    return name, place


def data(parser: Parser, default: str | None) -> None:
    """Take a data set, and what of it is held out."""
    parser.add_argument(
        "--data",
        type=path,
        default=default,
        metavar="DIR",
        help="folder of clips (ESC-50, Speech Commands or FSDD layout, a folder per class, manifest.csv, an "
        "Edge Impulse export), "
        "'synthetic', or 'synthetic-affect' for values instead of classes"
        + (f" (default: {default})" if default else " (default: what the bundle was made with)"),
    )
    parser.add_argument("--held-out", metavar="NAME", help="fold, speaker or source kept for testing")


def hop(parser: Parser) -> None:
    """Take the hop of a streaming build."""
    parser.add_argument(
        "--hop",
        metavar="TIME",
        help="stream: take this much sound at a time, such as 20ms, or 2 rows of the input",
    )


def build(parser: Parser) -> None:
    """Take a build and the board that it runs on."""
    parser.add_argument(
        "build",
        type=path,
        metavar="BUILD",
        help="what `earkit compile` made; or a bundle or a model of `earkit zoo`, with --board",
    )
    parser.add_argument(
        "--port",
        "--host",
        help="serial port of the board, by path, URL, USB serial number or vvvv:pppp "
        "(default: where it answered last, or by its USB id), or `emulator`; "
        "of a computer user@name, of a phone its adb serial number, or `local`",
    )
    parser.add_argument("--board", help="for what is not compiled yet: see `earkit boards`")
