"""Listening: sound streams to the board, results come back, and become probabilities and events in time."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from boards.errors import UserError
from kit.audio import Samples, Source, open_source
from kit.detect import KEPT_SECONDS, USUAL, Detector, Meaning, Probabilities, Rules
from kit.progress import Progress, silent
from kit.records import Listening

if TYPE_CHECKING:
    from pathlib import Path

    from firmware.compiler.build import Build
    from firmware.compiler.graph import Graph
    from firmware.compiler.program import Program
    from kit.device import Info, Result, Unit
    from kit.listen_view import View

HOP_SECONDS = 0.25  # about as often the model runs


class Board(Protocol):
    """What listening needs of kit.device.Device."""

    origin: Literal["emulated", "measured"]
    packed: bool  # whether sound goes to it as ADPCM

    def info(self) -> Info:
        """Ask the board about itself."""

    def stream(self, chunks: Source, hop_frames: int) -> Iterator[Result]:
        """Send sound, yield results."""


@dataclass(frozen=True)
class Heard:
    """What came of listening. `work` is in `unit` for a second of sound."""

    listening: Listening
    seconds: float  # streamed in all
    results: int
    events: int  # in all; `listening` keeps the last KEPT_SECONDS
    lost_samples: int
    work: float | None
    unit: Unit
    origin: Literal["emulated", "measured"]
    interrupted: bool
    packed: bool  # whether the sound went as ADPCM, because the line carries no more

    def record(self) -> dict[str, Any]:
        """Return the object of `listen --json`."""
        return {
            "source": self.listening.source,
            "seconds": round(self.seconds, 3),
            "results": self.results,
            "events": [event.plain() for event in self.listening.events],
            "lost_samples": self.lost_samples,
            f"{self.unit}_per_second": None if self.work is None else round(self.work),
            "origin": self.origin,
            "interrupted": self.interrupted,
            "sent_as": "adpcm" if self.packed else "int16",
        }


def listen(
    build: Build | Program,
    source: str,
    *,
    port: str | None = None,
    fast: bool = False,
    rules: Rules = USUAL,
    view: View | None = None,
    progress: Progress = silent,
) -> Heard:
    """Stream `source` to the board that runs `build` until it ends or Ctrl-C is pressed.

    Args:
        build: compiled from a bundle: it has a front end and labels.
        source: "mic", or a sound file.
        port: serial port of a real board.
        fast: a file as fast as the board takes it.
        rules: what makes an event.
        view: where it is shown; None shows nothing.
        progress: of flashing a virtual board first.

    Raises:
        UserError: no front end in the build; the source, the board or the link fails.
    """
    from kit import device

    meant, stop = meaning(build), threading.Event()
    blocks = open_source(source, meant.fe.sample_rate, fast=fast, stop=stop)
    with device.open(build, port, progress) as board, interruptible(stop):
        return stream(board, meant, blocks, source=source, rules=rules, view=view, stop=stop)


class Compiled(Protocol):
    """What tells the meaning of results, of a build for instance."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def frontend(self) -> dict[str, Any] | None:
        """Parameters of the front end."""

    @property
    def graph(self) -> Graph:
        """What runs."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes."""

    @property
    def stream(self) -> dict[str, Any] | None:
        """How it streams."""

    @property
    def task(self) -> str | None:
        """Of the bundle."""


def meaning(build: Compiled) -> Meaning:
    """Return how the results of `build` are read; UserError when it has no front end to listen with."""
    from models.frontend import FrontEnd

    if build.frontend is None:
        raise UserError(
            f"{build.path}: compiled from a bare .tflite, without a front end: compile a bundle to listen"
        )
    try:
        fe = FrontEnd(**build.frontend)
    except TypeError:
        raise UserError(f"{build.path}: its front end has unknown parameters: compile it again") from None
    graph = build.graph
    output = graph.tensors[graph.outputs[0]]
    assert output.quantisation is not None  # the compiler refuses an int8 output without one
    return Meaning(
        fe=fe,
        labels=build.labels or tuple(f"class {i}" for i in range(output.elements)),
        hop_frames=build.stream["rows"]
        if build.stream
        else max(1, round(HOP_SECONDS * fe.sample_rate / fe.hop)),
        scale=float(output.quantisation.scale[0]),
        zero_point=int(output.quantisation.zero_point[0]),
        logits=graph.nodes[-1].op != "SOFTMAX",
        values=build.task == "regression",
    )


@contextmanager
def interruptible(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set `stop`, so that the stream ends between blocks; a second one interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def stream(
    board: Board,
    meant: Meaning,
    blocks: Source,
    *,
    source: str = "",
    rules: Rules = USUAL,
    view: View | None = None,
    stop: threading.Event | None = None,
) -> Heard:
    """Stream `blocks` to `board` and return what was heard; less than an input is padded with silence."""
    from kit.listen_view import Silent

    view = view or Silent()
    detector, memory = Detector(meant, rules), _Memory(meant.fe.sample_rate)
    work = results = lost = 0
    with view:
        for result in board.stream(_recorded(blocks, meant.fe.samples, memory, view), meant.hop_frames):
            if result.sample < meant.fe.samples:  # a streaming model that has not heard a whole window yet
                work += result.instructions
                continue
            probabilities, begun = detector.step(result.sample, meant.probabilities(result.output))
            work, results = work + result.instructions, results + 1
            lost = max(lost, result.dropped)
            view.result(result.sample / meant.fe.sample_rate, probabilities)
            if begun:
                view.event(begun)
        detector.finish(memory.total)
        heard = Heard(
            _listening(source, meant, detector, memory),
            seconds=memory.total / meant.fe.sample_rate,
            results=results,
            events=detector.count,
            lost_samples=max(lost, memory.lost),
            work=work * meant.fe.sample_rate / detector.last if results else None,
            unit=board.info().unit,
            origin=board.origin,
            interrupted=stop is not None and stop.is_set(),
            packed=board.packed,
        )
        view.end(heard)
    return heard


class _Memory:
    """The last KEPT_SECONDS of what was streamed; lost sound is silence."""

    def __init__(self, rate: int) -> None:
        self._most = KEPT_SECONDS * rate
        self._blocks: deque[Samples] = deque()
        self._kept = self.total = self.lost = 0

    def add(self, block: Samples | int) -> Samples:
        """Keep a block; return it as samples."""
        if isinstance(block, int):
            self.lost += block
            block = np.zeros(block, np.int16)
        self._blocks.append(block)
        self.total += block.size
        self._kept += block.size
        while self._kept - self._blocks[0].size >= self._most:
            self._kept -= self._blocks.popleft().size
        return block

    def samples(self) -> Samples:
        """Return what is kept."""
        return np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)


def _recorded(blocks: Source, least: int, memory: _Memory, view: View) -> Source:
    for block in blocks:
        view.sound(memory.add(block))
        yield block
    if 0 < memory.total < least:
        rest = np.zeros(least - memory.total, np.int16)
        memory.add(rest)
        yield rest


def _listening(source: str, meant: Meaning, detector: Detector, memory: _Memory) -> Listening:
    """Return what the report draws; times count from the first sample that is kept."""
    samples, rate = memory.samples(), meant.fe.sample_rate
    cut = memory.total - samples.size
    offset, middle = cut / rate, detector.last - cut - meant.fe.samples / 2
    events = (
        replace(event, start=max(0.0, event.start - offset), end=event.end - offset)
        for event in detector.events
        if event.end > offset
    )
    return Listening(
        source=source + (f" (the last {samples.size / rate:.0f} s)" if offset else ""),
        rate=rate,
        samples=samples,
        labels=meant.labels,
        probabilities=_spread(np.array(detector.history, np.float32), samples.size, middle, meant),
        events=tuple(events),
        dropped=round(memory.lost / meant.fe.hop),
    )


def _spread(history: Probabilities, samples: int, middle: float, meant: Meaning) -> Probabilities:
    """Return a row for each hop of a recording: that of the result whose input has its middle there.

    `middle` is the sample in the middle of the last result's input. Half an input at either end has no
    result of its own: the nearest one stands for it.
    """
    if not len(history):
        return np.zeros((0, len(meant.labels)), np.float32)
    rows = np.arange(max(1, round(samples / meant.hop)))
    behind = (middle - (rows + 0.5) * meant.hop) / meant.hop  # results before the last one
    spread: Probabilities = history[
        np.clip(len(history) - 1 - np.rint(behind).astype(int), 0, len(history) - 1)
    ]
    return spread
