"""Energy per inference from what a power analyser recorded as csv while the board was at work.

The first line names columns with their units in brackets, such as `time (s), current (mA), voltage (V)`; also
`Current [uA]` and `power_mW`. Lines that begin with # are comments, unless the first one names the columns.
Needed are time and one of power, or current with voltage (a column, or given where the supply is fixed, as
the LPM01A's). A column `marker`, `trigger` or `gpi0` is 1 while an inference runs; without one, the whole
file is divided by the number of inferences.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError

Floats = npt.NDArray[np.float64]
MOST_BYTES = 1 << 30
QUANTITIES = {
    "time": ("s", ("time", "timestamp", "t")),
    "current": ("A", ("current", "i")),
    "voltage": ("V", ("voltage", "v", "u")),
    "power": ("W", ("power", "p")),
    "marker": ("", ("marker", "trigger", "gpi0", "gpi")),
}
SCALES = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "n": 1e-9, "k": 1e3}
NAME = re.compile(r"^(?P<name>[a-z0-9]+?)[\s_]*(?:[\[(](?P<bracket>[^\])]*)[\])]|_(?P<tail>[a-zµμ]+))?$")


def read(path: Path, volts: float | None = None, inferences: int | None = None) -> dict[str, Any]:
    """Return joules of an inference, and how they were found.

    Args:
        path: the csv.
        volts: of a supply that the csv does not record.
        inferences: in the whole file; None: its marker tells.

    Raises:
        UserError: a column, a unit, a number or an inference is missing or wrong; the line is named.
    """
    columns = _columns(path)
    time = columns["time"]
    power = _power(path, columns, volts)
    steps = np.diff(time)
    if not (steps > 0).all():
        line = int((steps <= 0).argmax()) + 1
        raise UserError(f"{path}: time stands still or goes back after sample {line}: export it again")
    pieces = (power[1:] + power[:-1]) / 2 * steps  # trapezia
    record = {"source": str(path), "seconds": float(time[-1] - time[0]), "mean_watts": 0.0}
    record["mean_watts"] = float(pieces.sum() / record["seconds"])
    if inferences is not None:
        return {
            **record,
            "by": "count",
            "inferences": inferences,
            "joules_per_inference": float(pieces.sum()) / inferences,
        }
    if "marker" not in columns:
        raise UserError(f"{path}: no marker column: say how many --inferences it holds")
    spent, durations = _marked(path, columns["marker"], pieces, steps)
    return {
        **record,
        "by": "marker",
        "inferences": len(spent),
        "joules_per_inference": float(np.median(spent)),
        "min": float(spent.min()),
        "max": float(spent.max()),
        "milliseconds": float(np.median(durations)) * 1e3,
    }


def _marked(path: Path, marker: Floats, pieces: Floats, steps: Floats) -> tuple[Floats, Floats]:
    """Return joules and seconds of each stretch with the marker set that both begins and ends in the file."""
    high = marker > 0.5 * max(marker.max(), 1.0)
    change = np.diff(high.astype(np.int8))
    begins, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1)
    ends = ends[ends > begins[0]] if len(begins) else ends[:0]
    begins = begins[: len(ends)]
    if not len(begins):
        raise UserError(f"{path}: its marker never rises and falls: say how many --inferences it holds")
    spent = np.array([pieces[a:b].sum() for a, b in zip(begins, ends, strict=True)])
    return spent, np.array([steps[a:b].sum() for a, b in zip(begins, ends, strict=True)])


def _power(path: Path, columns: Mapping[str, Floats], volts: float | None) -> Floats:
    if "power" in columns:
        return columns["power"]
    if "current" not in columns:
        raise UserError(f"{path}: neither power nor current; it has {', '.join(columns)}")
    if "voltage" in columns:
        return columns["current"] * columns["voltage"]
    if volts is None:
        raise UserError(f"{path}: records current alone: say the supply's --volts")
    return columns["current"] * volts


def _columns(path: Path) -> dict[str, Floats]:
    """Return the columns by quantity, in SI units."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: {path.stat().st_size >> 20} MB: record a shorter time or a lower rate")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a csv of a power analyser is needed") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8: export it as csv") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    data = [pair for pair in lines[1:] if not pair[1].lstrip().startswith("#")]
    if len(data) < 2:
        raise UserError(f"{path}: {len(data)} lines of samples: at least two are needed")
    head = lines[0][1].lstrip("# ")
    mark = next((mark for mark in (";", "\t", ",") if mark in head), ",")
    names = [_quantity(path, name) for name in next(csv.reader([head], delimiter=mark))]
    if len(known := [name for name in names if name]) != len({name[0] for name in known}):
        raise UserError(f"{path}: a quantity stands in two columns: {head.strip()}")
    if "time" not in {name[0] for name in known}:
        raise UserError(f"{path}: no time column with a unit, such as `time (s)`: {head.strip()[:80]}")
    rows = np.empty((len(data), len(names)))
    for row, (number, line) in enumerate(data):
        cells = line.split(mark)
        if len(cells) != len(names):
            raise UserError(f"{path} line {number}: {len(cells)} cells, the head has {len(names)}")
        for at, cell in enumerate(cells):
            rows[row, at] = _number(f"{path} line {number}", cell, mark) if names[at] else 0.0
    return {found[0]: rows[:, at] * found[1] for at, name in enumerate(names) if (found := name) is not None}


def _number(where: str, cell: str, mark: str) -> float:
    text = cell.strip().replace(",", ".") if mark == ";" else cell.strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {cell.strip()[:40]!r} is not a number")
    return value


def _quantity(path: Path, title: str) -> tuple[str, float] | None:
    """Return quantity and factor to its SI unit of a column; None for one that is not needed."""
    match = NAME.match(title.strip().strip('"').lower())
    if match is None:
        return None
    unit = match["bracket"] if match["bracket"] is not None else match["tail"] or ""
    for quantity, (base, names) in QUANTITIES.items():
        if match["name"] not in names:
            continue
        if quantity == "marker":
            return quantity, 1.0
        prefix = unit.strip().removesuffix(base.lower())
        if not unit.strip().endswith(base.lower()) or prefix not in SCALES:
            raise UserError(f"{path}: column {title.strip()!r}: a unit of {base} is needed, such as m{base}")
        return quantity, SCALES[prefix]
    return None
