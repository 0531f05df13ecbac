"""How much sound a streaming model takes at a time, as users say it: "20ms", or a number of rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from boards.errors import UserError

if TYPE_CHECKING:
    from models.frontend import FrontEnd

FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|)")


def rows(text: str, frontend: FrontEnd | None = None) -> int:
    """Return the rows of the model's input in one hop.

    Args:
        text: milliseconds, such as "20ms", where there is a front end; else rows, such as "2".
        frontend: of the bundle; None for a bare model, whose rows have no length in time.

    Raises:
        UserError: another form, milliseconds without a front end, or no whole number of its frames.
    """
    found = FORM.fullmatch(text.strip())
    if found is None:
        raise UserError(f"--hop {text}: give milliseconds such as 20ms, or rows of the input such as 2")
    number, unit = float(found[1]), found[2]
    if not unit:
        if number < 1 or number != int(number):
            raise UserError(
                f"--hop {text}: rows are whole numbers from 1 on; for milliseconds write {text}ms"
            )
        return int(number)
    if frontend is None:
        raise UserError(
            f"--hop {text}: a bare .tflite says nothing of time: give rows of its input, such as 2"
        )
    frame = 1000 * frontend.hop / frontend.sample_rate
    count = number / frame
    if count < 1 or abs(count - round(count)) > 1e-6:
        nearest = max(1, round(count)) * frame
        raise UserError(
            f"--hop {text}: frames come every {frame:g} ms: use a multiple, such as {nearest:g}ms"
        )
    return round(count)
