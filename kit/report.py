"""The report: runs as one HTML page with pictures, without scripts and without a request to anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

from boards import atomic
from boards.errors import UserError
from kit import beside, engine, figures, latency, sections
from kit.markup import Html, join, tag
from kit.records import Detection, Listening, Record, Run

__all__ = ["Detection", "Listening", "Run", "page", "write"]

TEMPLATE = Path(__file__).with_name("report.html")


def write(runs: Sequence[Run], out: Path) -> None:
    """Write the page to `out`; an old one stays whole until the new one is.

    Raises:
        UserError: no runs, or `out` cannot be written.
    """
    if not runs:
        raise UserError("no runs to report: give the directories that `earkit profile` wrote")
    text = page(runs).encode()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(out, text)
    except OSError as error:
        raise UserError(f"{out}: the report cannot be written: {error.strerror}") from None


def page(runs: Sequence[Run]) -> str:
    """Return the page as text.

    Raises:
        UserError: a record is not one that this earkit writes.
    """
    articles = [_checked(run, index) for index, run in enumerate(runs)]
    overview = [_overview(runs)] if len(runs) > 1 else []
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=join(title), body=join(*overview, *articles))


def _checked(run: Run, index: int) -> Html:
    try:
        return _run(run, index)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        detail = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(
            f"run {run.name!r}: its record is damaged or of another version ({detail}): profile it again"
        ) from error


def _run(run: Run, index: int) -> Html:
    parts = [
        sections.tiles(run),
        tag("div", sections.stages(run), sections.against(run), class_="pair"),
        tag("div", sections.confusion(run), latency.drawn(run) or sections.ops(run), class_="pair"),
        beside.drawn(run),
        engine.drawn(run),
        sections.memory(run),
        sections.listening(run),
        sections.provenance(run),
    ]
    return tag("article", tag("h2", run.name), *parts, id=f"run-{index}")


def _scored(profile: Record, key: str) -> str:
    measure = figures.measure_of(profile)
    return measure.text((profile.get(measure.key) or {}).get(key))


def _overview(runs: Sequence[Run]) -> Html:
    """Return one line a run, side by side."""
    columns: dict[str, Callable[[Record], str]] = {
        "Board": lambda p: str(p.get("board", "–")),
        "Proof": lambda p: str(p.get("proof", "–")),
        "Device": lambda p: _scored(p, "device"),
        "Host float": lambda p: _scored(p, "host_float"),
        "Reference": lambda p: _scored(p, "full"),
        "Instructions": lambda p: figures.short(figures.counted(p)[1]),
        "RAM": lambda p: figures.kilobytes(figures.total_of(p.get("ram_bytes"))),
        "Flash": lambda p: figures.kilobytes(figures.total_of(p.get("flash_bytes"))),
        "Origin": sections.origin,
    }
    rows = [
        tag(
            "tr",
            tag("th", tag("a", run.name, href=f"#run-{i}"), scope="row"),
            *[tag("td", show(run.profile or {}), class_="n") for show in columns.values()],
        )
        for i, run in enumerate(runs)
    ]
    head = tag("tr", *[tag("th", name, scope="col") for name in ("Run", *columns)])
    table = tag(
        "table",
        tag("caption", "All runs side by side"),
        tag("thead", head),
        tag("tbody", *rows),
        class_="plain",
    )
    return sections.card(
        "Side by side", tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="All runs")
    )
