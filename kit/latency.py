"""Times of a run, measured by quantize.speed in milliseconds: the report's card, and a line of text."""

from __future__ import annotations

from kit import plots, sections
from kit.markup import Html, tag
from kit.records import Record, Run

NAMES = {"min": "Least", "median": "Median", "p90": "90 %", "p95": "95 %", "p99": "99 %", "max": "Most"}


def words(times: Record) -> str:
    """Return median and tails as text."""
    shown = ", ".join(f"{NAMES[key].lower()} {times[key]:.3f} ms" for key in ("median", "p95", "p99"))
    return f"{times['of']}: {shown} (measured)"


def drawn(run: Run) -> Html:
    """Return the card of the times; nothing where none were measured."""
    times = (run.profile or {}).get("latency")
    if run.profile is None or not times:
        return Html()
    kinds = {"median": "strong"}
    rows = [
        plots.Bar(name, "", float(times[key]), f"{times[key]:.3g} ms", kinds.get(key, "plain"))
        for key, name in NAMES.items()
    ]
    note = f"{times['count']:,} were timed after {times['warm_up']} others; a step of the clock is "
    note += f"{1000 * times['resolution_ms']:.3g} µs."
    if features := run.profile.get("frontend"):
        note += f" The features before it: {features['milliseconds']:.3g} ms an input (median)."
    caption = f"Time of {times['of']}"
    table = plots.bars(rows, max(row.value for row in rows), caption, ("", "Milliseconds"))
    return sections.card(caption, tag("p", sections.origin(run.profile), class_="lead"), table, note=note)
