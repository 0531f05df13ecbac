"""What a verb prints on stdout: one JSON object, or tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WIDE = 200  # columns when stdout is not a terminal: nothing is cut


def text_of(record: Mapping[str, Any]) -> str:
    """Return `record` as JSON with numpy numbers as plain ones; NaN and infinity are refused."""
    return json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} does not go into JSON")


def json_object(record: Mapping[str, Any]) -> None:
    """Print `record` as the only JSON object of this run."""
    print(text_of(record))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print `rows` under `columns`; numbers stand at the right, None is a dash.

    On a terminal too narrow for their words each row is its first cell and a paragraph of the others.
    """
    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    rows = [tuple(row) for row in rows]
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        numbers = any(isinstance(row[index], int | float) for row in rows)
        shown.add_column(name, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell(value)) for value in row))
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    if console.measure(shown, options=console.options.update_width(10 * WIDE)).minimum <= console.width:
        console.print(shown)
        return
    for first, *others in rows:
        named = zip(columns[1:], others, strict=True)
        told = ", ".join(f"{name} {cell(value)}" for name, value in named if value is not None)
        console.print(Text(cell(first)), Padding(Text(told), (0, 0, 0, 2)), sep="\n")


def cell(value: object) -> str:
    """Return how a table shows `value`: thousands apart, ratios with three places, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def kilobytes(count: int) -> str:
    """Return bytes as KB of 1,024 with one place."""
    return f"{count / 1024:,.1f} KB"
