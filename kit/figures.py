"""Figures as text: shares, counts in three digits, sizes; and where a profile keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Measure:
    """How good a model is: the key in eval.json and profile.json, and how it is said."""

    key: str
    title: str
    caption: str  # of the stages' bars
    gap_title: str
    clips: bool  # a share of clips, so that an interval can be given

    def text(self, value: float | None) -> str:
        """Return a value; a dash for None."""
        if self.clips or value is None:
            return percent(value)
        return f"{value:.3f}"

    def gap(self, value: float) -> str:
        """Return a difference."""
        return f"{100 * value:+.1f}" if self.clips else f"{value:+.3f}"


ACCURACY = Measure(
    "accuracy",
    "Accuracy",
    "Share of held-out clips named rightly, by stage",
    "Points above the device",
    clips=True,
)
CONCORDANCE = Measure(
    "ccc",
    "Concordance",
    "Concordance with the truth (Lin 1989), mean over the targets, by stage",
    "Above the device",
    clips=False,
)


def measure_of(*records: Mapping[str, Any] | None) -> Measure:
    """Return the measure of an eval.json or a profile.json."""
    values = any(record and (record.get("metric") == "ccc" or "ccc" in record) for record in records)
    return CONCORDANCE if values else ACCURACY


def unit_of(profile: Mapping[str, Any]) -> str:
    """Return what a profile counted: instructions, cycles or, of a program, nanoseconds."""
    if "unit" in profile:
        return str(profile["unit"])
    return "instructions" if profile.get("cycles") is None else "cycles"  # a record of before


def several(count: int, noun: str) -> str:
    """Return "1 event" or "2 events"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def work(count: float, unit: str) -> str:
    """Return a count of instructions, cycles or nanoseconds in millions; those of nanoseconds are ms."""
    return f"{count / 1e6:.2f} " + ("ms" if unit == "nanoseconds" else f"million {unit}")


def counted(profile: Mapping[str, Any]) -> tuple[str, int | None]:
    """Return what was counted ("Cycles", say) and how many."""
    unit = unit_of(profile)
    return unit.capitalize(), None if profile.get(unit) is None else int(profile[unit])


def total_of(value: object) -> int | None:
    """Return the bytes of a number or of a mapping with a total; None for neither."""
    if isinstance(value, Mapping):
        return int(value["total"])
    return int(value) if isinstance(value, int | float) else None


def breakdown(value: object) -> str:
    """Return the parts of a mapping of bytes, or the number itself."""
    if not isinstance(value, Mapping):
        return f"{value:,} B"
    return ", ".join(
        f"{key} {kilobytes(int(size))}" for key, size in value.items() if key != "total" and size
    )


def percent(value: float | None) -> str:
    """Return a share 0…1 as percent; a dash for None."""
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def part(value: int, total: int) -> str:
    """Return a count and its share of the total."""
    return f"{short(value)} · {100 * value / total:.1f}\N{NO-BREAK SPACE}%"


def short(value: float | None) -> str:
    """Return a count in three digits: 1,234,567 is 1.23 M; a dash for None."""
    if value is None:
        return "–"
    for size, unit in (
        (1e9, "\N{NO-BREAK SPACE}G"),
        (1e6, "\N{NO-BREAK SPACE}M"),
        (1e3, "\N{NO-BREAK SPACE}k"),
    ):
        if value >= 0.9995 * size:
            digits = 2 - min(2, len(str(round(value / size))) - 1)
            return f"{value / size:.{digits}f}{unit}"
    return f"{value:g}"


def kilobytes(value: int | None) -> str:
    """Return bytes as KB of 1,024 from one KB on; a dash for None."""
    return (
        "–"
        if value is None
        else f"{value / 1_024:.1f}\N{NO-BREAK SPACE}KB"
        if value >= 1_024
        else f"{value}\N{NO-BREAK SPACE}B"
    )


def single(profile: Mapping[str, Any]) -> list[tuple[str, Any, str | None]]:
    """Return name, value and origin of each single figure of a record."""
    from kit import per_second

    origins = profile["origins"]
    unit = unit_of(profile)
    rows: list[tuple[str, Any, str | None]] = []
    if runs := profile["runs"]:
        rows.append((f"{unit} of an inference", profile[unit], origins[unit]))
        rows += [
            (f"{unit}, {name} of {runs['count']} runs", runs[name], origins[unit]) for name in ("min", "max")
        ]
    if profile["frontend"]:
        rows.append((f"{unit} of its features", profile["frontend"][unit], origins[unit]))
    rows += per_second.figures(profile)
    if profile["milliseconds"] is not None:
        rows.append(("milliseconds", profile["milliseconds"], origins["milliseconds"]))
    if spent := profile["energy"]:
        words = f"microjoules of an inference, {spent['inferences']} by {spent['by']}"
        rows.append((words, spent["joules_per_inference"] * 1e6, origins["energy"]))
    if profile["clock"]["checked"]:
        rows.append(("board's counter / host's time", profile["clock"]["checked"]["ratio"], "measured"))
    for group, title in (("ram_bytes", "RAM"), ("flash_bytes", "flash")):
        for name, value in profile[group].items():
            origin = origins.get(f"{group}.{name}", origins[group])
            rows.append((f"{title} bytes, {name.replace('_', ' ')}", value, origin))
    metric = measure_of(profile)
    for name, value in profile[metric.key].items():
        if value is not None:
            words = f"{metric.title.lower()}, {name.replace('_', ' ')}"
            rows.append((words, value, origins[f"{metric.key}.{name}"]))
    rows.append((f"mismatches in {profile['samples']} samples", profile["mismatches"], origins["mismatches"]))
    return rows
