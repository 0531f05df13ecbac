"""Types of arguments: what argparse calls for a number, a name or a pair, with an error in one line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
