"""The one error a user can mend: what, the numbers, and the cure, in a line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. Its text is one line: what went wrong, the numbers, the cure.

    The command line prints it on stderr without a traceback and exits with 1. Every package raises it
    (it lives here because imports point one way and `boards` is at the bottom).
    """


def hint(name: str, known: Iterable[str]) -> str:
    """Return the cure for a name that is not known: the one it was meant to be, or all there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
