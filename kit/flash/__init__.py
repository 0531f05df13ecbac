"""Flashing: the board's methods in their order; each is a module here with one function `flash`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from boards.errors import UserError

if TYPE_CHECKING:
    from firmware.compiler.build import Build

Progress = Callable[[str, int, int], None]


def flash(build: Build, port: str | None, progress: Progress = lambda *_: None) -> None:
    """Put `build` on its board and see it start: by the first of the board's flash methods that works.

    A virtual board is flashed over the same link; what its flash holds lives in the build directory.

    Raises:
        UserError: what each method failed of, with the cure.
    """
    failures: list[UserError] = []
    for method in build.board.flash:
        try:
            import_module(f"kit.flash.{method}").flash(build, port, progress)
        except UserError as error:
            failures.append(error)
        else:
            return
    if len(failures) == 1:
        raise failures[0]
    raise UserError(
        "; ".join(f"{way}: {error}" for way, error in zip(build.board.flash, failures, strict=True))
    )
