"""False accepts per hour and misses on a long recording, at one threshold and across many."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from boards.errors import UserError
from kit.detect import ONE, Limits, Meaning, Rules, Smoother, Trigger
from kit.progress import Progress, silent

if TYPE_CHECKING:
    from kit.device import Result

LATE_SECONDS = 1.0  # behind an event's end in which hearing it still counts
SAME_SECONDS = 1.0  # false accepts of a class within it are one
SWEEP = tuple(round(0.05 * step, 2) for step in range(1, 20))  # thresholds
BACKGROUND = frozenset(
    (
        "background",
        "noise",
        "none",
        "other",
        "silence",
        "unknown",
        "_background_noise_",
        "_silence_",
        "_unknown_",
    )
)  # classes that are no event
COLUMNS = ("start", "end", "label")


@dataclass(frozen=True)
class Truth:
    """A sound that is there, in seconds."""

    start: float
    end: float
    label: str


@dataclass
class Tally:
    """What one threshold makes of the recording."""

    truth: dict[str, list[Truth]]  # by class, by start
    hits: dict[str, int] = field(default_factory=dict)
    false: dict[str, int] = field(default_factory=dict)
    repeated: int = 0  # hearings of an event that was heard already
    _heard: set[Truth] = field(default_factory=set)
    _past: dict[str, int] = field(default_factory=dict)  # events that are over, by class
    _last_false: dict[str, float] = field(default_factory=dict)

    def hear(self, label: str, seconds: float) -> None:
        """Take a class that was heard, in the order of time."""
        events, past = self.truth.get(label, []), self._past.get(label, 0)
        while past < len(events) and events[past].end + LATE_SECONDS < seconds:
            past += 1
        self._past[label] = past
        there = [one for one in events[past:] if one.start <= seconds <= one.end + LATE_SECONDS]
        fresh = next((one for one in there if one not in self._heard), None)
        if fresh:
            self._heard.add(fresh)
            self.hits[label] = self.hits.get(label, 0) + 1
        elif there:
            self.repeated += 1
        elif seconds - self._last_false.get(label, -math.inf) > SAME_SECONDS:
            self._last_false[label] = seconds
            self.false[label] = self.false.get(label, 0) + 1

    def record(self, hours: float) -> dict[str, Any]:
        """Return the figures: misses, and false accepts for an hour of the recording."""
        events, hits = sum(map(len, self.truth.values())), sum(self.hits.values())
        false = sum(self.false.values())
        return {
            "hits": hits,
            "misses": events - hits,
            "miss_rate": (events - hits) / events if events else None,
            "false_accepts": false,
            "false_accepts_per_hour": false / hours,
            "repeated": self.repeated,
        }


def read_events(path: Path, labels: Sequence[str]) -> list[Truth]:
    """Return the events of an Audacity label file, or of a csv with start, end, label; by their start.

    Raises:
        UserError: the file cannot be read, a line is no event, or a label that the model does not know.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}): give start,end,label a line") from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if _says(line)]
    tabs = bool(lines) and "\t" in lines[0][1]
    rows = [(n, next(csv.reader([line], delimiter="\t" if tabs else ","))) for n, line in lines]
    order = list(range(3))
    if rows and {cell.strip().lower() for cell in rows[0][1]} >= set(COLUMNS):
        heads = [cell.strip().lower() for cell in rows.pop(0)[1]]
        order = [heads.index(name) for name in COLUMNS]
    events = [_event(path, number, row, order, labels) for number, row in rows]
    return sorted(events, key=lambda one: (one.start, one.end))


def _says(line: str) -> bool:
    """Tell whether a line is more than a comment or the frequencies that Audacity adds."""
    return bool(line.strip()) and not line.startswith(("#", "\\"))


def _event(path: Path, number: int, row: Sequence[str], order: Sequence[int], labels: Sequence[str]) -> Truth:
    try:
        start, end, label = (row[i].strip() for i in order)
        event = Truth(float(start), float(end), label)
    except (IndexError, ValueError):
        raise UserError(f"{path}:{number}: {','.join(row)!r} is not start,end,label in seconds") from None
    if not 0 <= event.start <= event.end < math.inf:
        raise UserError(f"{path}:{number}: from {start} s to {end} s is no stretch of time")
    if event.label not in labels:
        raise UserError(
            f"{path}:{number}: the model does not know {event.label!r}; known: {', '.join(labels)}"
        )
    return event


def score(
    results: Iterable[Result], meant: Meaning, rules: Rules, truth: Iterable[Truth]
) -> tuple[Tally, dict[float, Tally], int]:
    """Return what the rules' threshold makes of results, what the others of SWEEP make, and how many came.

    A class is heard when the last sample has come that made the board say so.
    """
    by_class: dict[str, list[Truth]] = {}
    for one in truth:
        if one.label.lower() not in BACKGROUND:
            by_class.setdefault(one.label, []).append(one)
    limits = Limits.of(meant, rules)
    runs = {
        threshold: (Trigger(Limits(limits.averaged, round(threshold * ONE), limits.quiet)), Tally(by_class))
        for threshold in {*SWEEP, rules.threshold}
    }
    smoother, count = Smoother(limits.averaged), 0
    for result in results:
        if result.sample < meant.fe.samples:
            continue
        count += 1
        best, total = smoother.step(meant.shares(result.output))
        for trigger, tally in runs.values():
            _, begun = trigger.step(result.sample, best, total, smoother.count)
            if begun and meant.labels[best].lower() not in BACKGROUND:
                tally.hear(meant.labels[best], result.sample / meant.fe.sample_rate)
    tallies = {threshold: tally for threshold, (_, tally) in sorted(runs.items())}
    return tallies[rules.threshold], tallies, count


def measured(
    board: Any,
    meant: Meaning,
    recording: Path,
    truth: Sequence[Truth],
    *,
    rules: Rules,
    on: str,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return the object of `score --json`; `board` streams as kit.device.Device does.

    Raises:
        UserError: the recording cannot be read or is shorter than a window; the model gives no probabilities.
    """
    from kit import audio

    if meant.values:
        raise UserError("a regression hears no events: there is nothing to score")
    samples = 0

    def counted() -> Iterator[Any]:
        nonlocal samples
        for block in audio.file_blocks(recording, meant.fe.sample_rate, seconds=audio.LONG):
            samples += block.size
            progress("seconds scored", samples // meant.fe.sample_rate, 0)
            yield block

    operating, sweep, results = score(board.stream(counted(), meant.hop_frames), meant, rules, truth)
    hours = samples / meant.fe.sample_rate / 3600
    if not results:
        raise UserError(
            f"{recording}: {hours * 3600:.2f} s are less than a window of the model "
            f"({meant.fe.samples / meant.fe.sample_rate:.2f} s): use a longer recording"
        )
    last = max((one.end for one in truth), default=0.0)
    if last > hours * 3600 + LATE_SECONDS:
        raise UserError(
            f"an event ends at {last:g} s, {recording} at {hours * 3600:.2f} s: another recording?"
        )
    return {
        "recording": str(recording),
        "seconds": round(hours * 3600, 3),
        "on": on,
        "results": results,
        "events": sum(map(len, operating.truth.values())),
        "threshold": rules.threshold,
        "late_seconds": LATE_SECONDS,
        **operating.record(hours),
        "per_class": {
            label: {
                "events": len(operating.truth.get(label, ())),
                "hits": operating.hits.get(label, 0),
                "false_accepts": operating.false.get(label, 0),
            }
            for label in meant.labels
            if label.lower() not in BACKGROUND
        },
        "sweep": [{"threshold": threshold, **tally.record(hours)} for threshold, tally in sweep.items()],
    }


def recording(
    name: str,
    sound: Path,
    events: Path,
    *,
    threshold: float | None = None,
    on_board: bool = False,
    board: str | None = None,
    port: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Return false accepts per hour and misses of a build, a bundle or a model of the kit on a recording."""
    from kit import builds, device, host_board, shelf
    from kit import listen as host

    rules = Rules() if threshold is None else Rules(threshold=threshold)
    if not on_board:
        here = host_board.opened(shelf.find(name))
        truth = read_events(events, here.meant.labels)
        return measured(here, here.meant, sound, truth, rules=rules, on="host int8", progress=progress)
    made = builds.load(shelf.built(name, board, progress))
    meant = host.meaning(made)
    truth = read_events(events, meant.labels)
    with device.open(made, port, progress) as opened:
        on = f"{made.board.name} ({opened.origin})"
        return measured(opened, meant, sound, truth, rules=rules, on=on, progress=progress)
