"""Flashing: the board's methods in their order; each is a module here with one function `flash`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from boards.errors import UserError
from kit import serial_port

if TYPE_CHECKING:
    from firmware.compiler.build import Build

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Flashed:
    """How a board was flashed: the method that worked, and the port on which it answers now."""

    method: str
    port: str | None


def flash(
    build: Build,
    port: str | None,
    progress: Progress = lambda *_: None,
    *,
    method: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Flashed:
    """Put `build` on its board and see it start: by the first of the board's flash methods that works.

    A virtual board is flashed over the same link; what its flash holds lives in the build directory. `method`
    tries that one only. `tell` hears, a line each, which of several methods is tried and what it failed of.

    Raises:
        UserError: what each method failed of, with the cure.
    """
    ways = build.board.flash
    if method is not None:
        if method not in ways:
            raise UserError(f"{build.board.name} is not flashed by {method!r}; it knows: {', '.join(ways)}")
        ways = tuple(way for way in ways if way == method)
    port = port and serial_port.which(port)
    failures: list[UserError] = []
    for number, way in enumerate(ways, 1):
        if len(ways) > 1:
            tell(f"trying {way} ({number} of {len(ways)})")
        try:
            found: str | None = import_module(f"kit.flash.{way}").flash(build, port, progress)
        except UserError as error:
            failures.append(error)
            if number < len(ways):
                tell(f"{way} failed: {error}")
        else:
            return Flashed(way, found or port)
    if len(failures) == 1:
        raise failures[0]
    raise UserError("; ".join(f"{way}: {error}" for way, error in zip(ways, failures, strict=True)))
