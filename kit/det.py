"""The trade-off of a listener as a picture: misses over false accepts per hour, a point a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from boards.errors import UserError
from kit.markup import Html, join, tag

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 616, 40, 340  # of the plot
NONE = 60  # pixels on the left in which there is no false accept at all: a logarithm has no zero
STYLE = """
svg { font: 13px system-ui, sans-serif; background: #fff; color: #1c2430 }
text { fill: currentColor } .axis { stroke: #1c243040 }
.curve { stroke: #2a6fdb; fill: none; stroke-width: 2 }
.point { fill: #2a6fdb } .chosen { fill: #d1495b }
@media (prefers-color-scheme: dark) {
  svg { background: #12161d; color: #e6eaf0 } .axis { stroke: #e6eaf040 }
  .curve { stroke: #6ea8ff } .point { fill: #6ea8ff } .chosen { fill: #ff8090 }
}
"""


def picture(record: Mapping[str, Any]) -> str:
    """Return the SVG of `score --json`'s object: its sweep as a curve, its threshold marked.

    After Martin et al., The DET curve in assessment of detection task performance, 1997; misses on a linear
    scale, because a rate of 0 or 1 has no normal deviate.

    Raises:
        UserError: the recording has no events, of which none can be missed.
    """
    if not record["events"]:
        raise UserError("a recording without events has no misses to draw: leave --plot out")
    rates = [row["false_accepts_per_hour"] for row in record["sweep"]]
    decades = _decades(rates)
    curve = [(_x(row["false_accepts_per_hour"], decades), _y(row["miss_rate"])) for row in record["sweep"]]
    title = f"Misses over false accepts per hour, {record['seconds'] / 3600:.2f} h on {record['on']}"
    return tag(
        "svg",
        tag("title", title),
        Html(f"<style>{STYLE}</style>"),
        tag("text", title, x=LEFT, y=TOP - 18),
        *_across(decades),
        *_up(),
        tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in curve), class_="curve"),
        *(_point(row, at, record["threshold"]) for row, at in zip(record["sweep"], curve, strict=True)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def _decades(rates: Sequence[float]) -> tuple[int, int]:
    """Return the powers of ten between which all rates above 0 lie."""
    above = [rate for rate in rates if rate > 0] or [1.0]
    low = math.floor(math.log10(min(above)))
    return low, max(low + 1, math.ceil(math.log10(max(above))))


def _x(rate: float, decades: tuple[int, int]) -> float:
    if rate == 0:
        return LEFT + NONE / 2
    low, high = decades
    return LEFT + NONE + (RIGHT - LEFT - NONE) * (math.log10(rate) - low) / (high - low)


def _y(missed: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * missed


def _across(decades: tuple[int, int]) -> list[Html]:
    """Return the grid and the words of the false accepts."""
    rates = [0.0, *(10.0**power for power in range(decades[0], decades[1] + 1))]
    lines = [
        join(
            tag("line", x1=_x(rate, decades), x2=_x(rate, decades), y1=TOP, y2=BOTTOM, class_="axis"),
            tag("text", f"{rate:g}", x=_x(rate, decades), y=BOTTOM + 20, text_anchor="middle"),
        )
        for rate in rates
    ]
    centre = (LEFT + RIGHT) / 2
    return [*lines, tag("text", "false accepts per hour", x=centre, y=HEIGHT - 16, text_anchor="middle")]


def _up() -> list[Html]:
    """Return the grid and the words of the misses."""
    return [
        join(
            tag("line", x1=LEFT, x2=RIGHT, y1=_y(share / 100), y2=_y(share / 100), class_="axis"),
            tag("text", f"{share} %", x=LEFT - 8, y=_y(share / 100) + 4, text_anchor="end"),
        )
        for share in range(0, 101, 25)
    ]


def _point(row: Mapping[str, Any], at: tuple[float, float], chosen: float) -> Html:
    """Return the mark of a threshold, which says its figures when it is pointed at."""
    mine = row["threshold"] == chosen
    x, y = (f"{value:.1f}" for value in at)
    words = (
        f"threshold {row['threshold']:g}: {row['misses']} missed, "
        f"{row['false_accepts_per_hour']:.2f} false accepts per hour"
    )
    mark = tag(
        "circle", tag("title", words), cx=x, cy=y, r=6 if mine else 3, class_="chosen" if mine else "point"
    )
    if not mine:
        return mark
    side, away = ("end", 0) if at[0] > RIGHT - 100 else ("start", 8)  # above the curve, which falls
    name = tag("text", f"threshold {chosen:g}", x=at[0] + away, y=at[1] - 12, text_anchor=side)
    return join(mark, name)
