"""Where listening is shown: a live picture on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import sys
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.figures import several, work
from kit.records import Detection

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from kit.audio import Samples
    from kit.detect import Probabilities
    from kit.listen import Heard
    from models.frontend import FrontEnd

FRAMES_A_SECOND = 10  # of the live picture
STRIP_ROWS = 8
STRIP_DECIBELS = 60.0  # below the loudest that is shown
SHADES = " ░▒▓█"
COLOURS = ("default", "blue", "cyan", "yellow", "bright_white")
EIGHTHS = " ▏▎▍▌▋▊▉█"
BAR = 30  # characters
BARS = 6  # classes shown
EVENTS = 6  # events shown
NARROW = 8  # columns of the strip at least


class Silent:
    """Shows nothing; what every view can be told."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sound(self, samples: Samples) -> None:
        """Take sound that is on its way to the board."""

    def result(self, seconds: float, probabilities: Probabilities) -> None:
        """Take what is believed after `seconds` of sound."""

    def event(self, event: Detection) -> None:
        """Take an event that begins."""

    def end(self, heard: Heard) -> None:
        """Take everything, once the stream has ended."""


View = Silent


class Plain(Silent):
    """A line for each event, and a summary."""

    def event(self, event: Detection) -> None:
        """Print the event."""
        print(line(event), flush=True)

    def end(self, heard: Heard) -> None:
        """Print the summary."""
        print(summary(heard), flush=True)


class Live(Silent):
    """The picture on a terminal: spectrogram strip, probabilities, events. It leaves the summary behind."""

    def __init__(self, fe: FrontEnd, labels: tuple[str, ...], console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live as Display

        self.labels = labels
        self.console = console or Console(highlight=False)
        self._display = Display(console=self.console, auto_refresh=False, transient=True)
        self._strip = Strip(fe)
        self._events: deque[Detection] = deque(maxlen=EVENTS)
        self._probabilities = np.zeros(len(labels), np.float32)
        self._seconds, self._drawn = 0.0, 0.0
        self._rate = fe.sample_rate

    def __enter__(self) -> Live:
        self._display.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.stop()

    def sound(self, samples: Samples) -> None:
        """Draw the strip on."""
        self._strip.add(samples)
        self._seconds += samples.size / self._rate
        now = time.monotonic()
        if now - self._drawn >= 1 / FRAMES_A_SECOND:
            self._drawn = now
            self._display.update(self.picture(), refresh=True)

    def result(self, seconds: float, probabilities: Probabilities) -> None:
        """Take the bars' lengths."""
        self._probabilities = probabilities

    def event(self, event: Detection) -> None:
        """Take an event into the list."""
        self._events.append(event)

    def end(self, heard: Heard) -> None:
        """Replace the picture by the events and the summary."""
        self._display.stop()
        for event in heard.listening.events:
            self.console.print(line(event), markup=False)
        self.console.print(summary(heard), markup=False)

    def picture(self) -> RenderableType:
        """Return what the terminal shows now."""
        from rich.console import Group
        from rich.text import Text

        strip = self._strip.draw(max(NARROW, self.console.width - 2))
        best = np.argsort(-self._probabilities, kind="stable")[:BARS]
        wide = max((len(label) for label in self.labels), default=0)
        bars = [_bar(self.labels[i], float(self._probabilities[i]), wide) for i in sorted(best)]
        events = [Text(line(event), no_wrap=True, overflow="ellipsis") for event in self._events]
        foot = Text(f"{clock(self._seconds)}   Ctrl-C ends", style="dim")
        return Group(strip, Text(), *bars, Text(), *events, foot)


class Strip:
    """The spectrogram of the last seconds: a column for each block of sound, STRIP_ROWS bands."""

    def __init__(self, fe: FrontEnd) -> None:
        bands = min(STRIP_ROWS, fe.bands)
        self._fe = replace(fe, kind="logmel", coefficients=0, bands=bands, hop=fe.window)
        self._tail = np.zeros(0, np.int16)
        self._columns: deque[Any] = deque(maxlen=400)

    def add(self, samples: Samples) -> None:
        """Add a column for `samples`."""
        from models import frontend

        heard = np.concatenate([self._tail, samples])
        used = heard.size - heard.size % self._fe.window
        if used:
            self._columns.append(frontend.to_float(frontend.features(heard[:used], self._fe)).mean(axis=0))
        self._tail = heard[used:]

    def draw(self, width: int) -> Text:
        """Return the last `width` columns as shades, the highest band on top."""
        from rich.text import Text

        columns = np.array(list(self._columns)[-width:])
        if not columns.size:
            return Text("\n" * (self._fe.bands - 1))
        share = 1 + (columns - columns.max()) / STRIP_DECIBELS
        levels = np.clip(share * len(SHADES), 0, len(SHADES) - 1).astype(int).T[::-1]
        text = Text(no_wrap=True)
        for number, row in enumerate(levels):
            for level in row:
                text.append(SHADES[level], COLOURS[level])
            text.append("\n" if number + 1 < len(levels) else "")
        return text


def view(fe: FrontEnd, labels: tuple[str, ...]) -> View:
    """Return the view that fits stdout: live on a terminal, else plain lines."""
    return Live(fe, labels) if sys.stdout.isatty() else Plain()


def line(event: Detection) -> str:
    """Return an event as a line: time stamp, sound, probability."""
    return f"{clock(event.start)}  {event.label}  {event.probability:.0%}"


def summary(heard: Heard) -> str:
    """Return what came of it, in a line or two."""
    ended = "interrupted after" if heard.interrupted else "heard"
    text = f"{ended} {heard.seconds:.1f} s of {heard.listening.source}: "
    text += f"{several(heard.events, 'event')}, {several(heard.results, 'result')}"
    if heard.work is not None:
        text += f", {work(heard.work, heard.unit)} a second of sound ({heard.origin})"
    if heard.packed:
        text += "\nthe line is too slow for 16 bits a sample: sound went as ADPCM, 4 bits a sample"
    if heard.lost_samples:
        lost = heard.lost_samples / heard.listening.rate
        text += (
            f"\n{lost:.1f} s were lost, the board did not keep up: use --fast with a file, or a smaller model"
        )
    return text


def clock(seconds: float) -> str:
    """Return seconds as minutes:seconds.hundredths."""
    minutes, rest = divmod(round(seconds * 100), 6_000)
    return f"{minutes:3d}:{rest / 100:05.2f}"


def _bar(label: str, probability: float, wide: int) -> Text:
    from rich.text import Text

    eighths = round(max(0.0, min(1.0, probability)) * BAR * 8)
    full, part = divmod(eighths, 8)
    drawn = (EIGHTHS[8] * full + (EIGHTHS[part] if part else "")).ljust(BAR)
    text = Text(f"{label:>{wide}} ", no_wrap=True)
    text.append(drawn, "green" if probability >= 0.5 else "cyan")
    return text.append(f" {probability:4.0%}")
