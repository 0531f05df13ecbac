"""Listening through the board's own microphone: the board decides, its events come over the link."""

from __future__ import annotations

import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from boards.errors import UserError
from kit import clock
from kit.detect import KEPT_SECONDS, ONE, USUAL, Event, Limits, Meaning, Rules
from kit.figures import several, work
from kit.progress import Progress, silent
from kit.records import Detection

if TYPE_CHECKING:
    from collections.abc import Callable

    from boards import Board
    from boards.computers import Computer
    from kit.device import Device, Unit

BOARD = "board"  # as a source of sound: its own microphone
START, STATE, STOP, HEARD = 22, 23, 24, 25  # commands, see firmware/link.h
BEGUN = 2  # kind of EAR_HEARD
BAD, DEAF = 2, 7  # status
ASK_SECONDS = 1.0  # between two looks at a real board's microphone
DEAD_SECONDS = 3.0  # without a sample
PAUSE = 0.02  # seconds between two looks at the line
RESTS = 3  # looks at an emulated board that bring nothing: its air is used up
_RULES = struct.Struct("<5Ii9I")  # ear_rules_t
_STATE = struct.Struct("<Q8I")  # ear_ears_t
_EVENT = struct.Struct("<5I")


@dataclass(frozen=True)
class State:
    """The board's microphone since its start: ear_ears_t of firmware/link.h."""

    work: int  # of front end, model and smoothing, in the counter's unit
    running: int
    rate: int  # Hz
    taken: int  # samples, lost ones included
    lost: int
    results: int
    untold: int  # events that the board could not keep until the host took them
    worst_work: int  # from one result to the next
    worst_delay: int  # samples from the end of a window until all that came before its result was taken


@dataclass
class Heard:
    """What a board heard by itself."""

    source: str
    meant: Meaning
    board: Board | Computer
    unit: Unit
    origin: Literal["emulated", "measured"]
    state: State
    count: int = 0  # events in all
    events: deque[Detection] = field(default_factory=deque)  # the last ones
    raw: deque[Event] = field(default_factory=deque)  # the same as the board said it
    interrupted: bool = False

    @property
    def seconds(self) -> float:
        """Return how much the microphone heard."""
        return self.state.taken / self.meant.fe.sample_rate

    @property
    def work(self) -> float | None:
        """Return the work for a second of sound."""
        heard = self.state.taken - self.state.lost
        return self.state.work * self.meant.fe.sample_rate / heard if heard else None

    @property
    def share(self) -> float | None:
        """Return the share of the board's cycles that listening took; emulated: an instruction is a cycle."""
        counts = clock.rate(self.unit, self.board)
        return self.state.work / (self.seconds * counts) if self.state.taken else None

    def record(self) -> dict[str, Any]:
        """Return the object of `listen --source board --json`."""
        delay = 1000 * self.state.worst_delay / self.meant.fe.sample_rate
        return {
            "source": self.source,
            "seconds": round(self.seconds, 3),
            "results": self.state.results,
            "events": [event.plain() for event in self.events],
            "lost_samples": self.state.lost,
            "untold_events": self.state.untold,
            f"{self.unit}_per_second": None if self.work is None else round(self.work),
            f"worst_{self.unit}_per_result": self.state.worst_work,
            "cpu_share": None if self.share is None else round(self.share, 6),
            "worst_delay_samples": self.state.worst_delay,
            "worst_delay_milliseconds": round(delay, 3) if self.origin == "measured" else None,
            "origin": self.origin,
            "interrupted": self.interrupted,
        }

    def summary(self) -> str:
        """Return what came of it, in a line or two."""
        ended = "interrupted after" if self.interrupted else "heard"
        text = f"{ended} {self.seconds:.1f} s through the microphone of {self.board.name}: "
        text += f"{several(self.count, 'event')}, {several(self.state.results, 'result')}"
        if self.work is not None and self.share is not None:
            text += f", {work(self.work, self.unit)} a second of sound: {self.share:.1%} of its time"
            text += " at one instruction a cycle" if self.unit == "instructions" else ""
        text += f", results at most {self.state.worst_delay} samples late ({self.origin})"
        if self.state.lost:
            text += f"\n{self.state.lost} samples were lost, the board did not keep up: use a smaller model"
        return text


def words(meant: Meaning, rules: Rules) -> tuple[int, ...]:
    """Return the fields of ear_rules_t."""
    limits = Limits.of(meant, rules)
    times = (meant.hop_frames, meant.fe.samples, limits.averaged, limits.threshold, limits.quiet)
    return (*times, meant.zero_point, meant.unit, *meant.factors)


def check(board: Board | Computer, meant: Meaning, air: str | None) -> None:
    """Raise UserError where this board cannot listen by itself, or needs a file for its microphone."""
    if board.kind in ("mcu", "virtual") and not board.has_microphone:
        raise UserError(f"{board.name} has no microphone: stream the host's with --source mic, or a file")
    if meant.values:
        raise UserError("a regression makes no events: stream the sound with --source mic, or a file")
    if board.kind == "virtual" and air is None:
        raise UserError(f"{board.name}: what is its microphone to hear? Say --air clip.wav")
    if board.kind != "virtual" and air is not None:
        raise UserError(f"{board.name} hears the real air: leave --air {air} out")


def hear(
    folder: Path,
    *,
    air: str | None = None,
    threshold: float | None = None,
    port: str | None = None,
    tell: Callable[[Detection], None] = lambda _: None,
    progress: Progress = silent,
) -> Heard:
    """Let the board listen through its own microphone; an emulated one hears the sound file `air`.

    `tell` gets each event when it begins.
    """
    from kit import audio, builds, device
    from kit import listen as host
    from kit.virtual import VirtualBoard

    made = builds.load(folder)
    meant = host.meaning(made)
    check(made.board, meant, air)
    rules = Rules() if threshold is None else Rules(threshold=threshold)
    stop = threading.Event()
    sound = audio.file_blocks(Path(air), meant.fe.sample_rate) if air else None
    with device.open(made, port, progress) as board, host.interruptible(stop):
        if sound is not None and isinstance(board.wire, VirtualBoard):
            board.wire.air(meant.fe.sample_rate, audio.until(stop, sound))
        return listen(board, made.board, meant, rules, source=air or BOARD, tell=tell, stop=stop)


def listen(
    device: Device,
    board: Board | Computer,
    meant: Meaning,
    rules: Rules = USUAL,
    *,
    source: str = BOARD,
    tell: Callable[[Detection], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Heard:
    """Let the board listen until `stop`, or until the air of an emulated one is used up.

    Raises:
        UserError: the microphone does not start or goes silent; so many results are not averaged.
    """
    heard = Heard(source, meant, board, device.info().unit, device.origin, State(*[0] * 9))
    most = max(1, KEPT_SECONDS * meant.fe.sample_rate // meant.hop)
    heard.events, heard.raw = deque(maxlen=most), deque(maxlen=most)
    stop = stop or threading.Event()
    begin(device, meant, rules)
    try:
        for message in _messages(device, stop):
            _take(heard, message, tell)
    finally:
        device.link.send(bytes((STOP, 0, 0, 0)))
        while (message := device.link.receive())[0] != STOP | 0x80:
            _take(heard, message, tell)
        heard.state = _state(message)
    heard.interrupted = stop.is_set()
    return heard


def begin(device: Device, meant: Meaning, rules: Rules) -> None:
    """Let the board begin to listen; UserError when it cannot."""
    device.link.send(bytes((START, 0, 0, 0)) + _RULES.pack(*words(meant, rules)))
    while (answer := device.link.receive())[0] != START | 0x80:
        pass  # events of a host before us
    if answer[1] == DEAF:
        raise UserError(
            f"{device.wire.name}: its microphone does not start at {meant.fe.sample_rate} Hz: "
            "it is broken or has no such rate; stream the host's with --source mic"
        )
    if answer[1] == BAD:
        raise UserError(
            f"{device.wire.name} cannot average {Limits.of(meant, rules).averaged} results of "
            f"{len(meant.labels)} classes: compile with a larger --hop"
        )
    if answer[1]:
        raise UserError(f"{device.wire.name} cannot listen by itself: compile and flash again")


def state(device: Device) -> State:
    """Return how listening stands."""
    device.link.send(bytes((STATE, 0, 0, 0)))
    while (answer := device.link.receive())[0] != STATE | 0x80:
        pass
    return _state(answer)


def _messages(device: Device, stop: threading.Event) -> Iterator[bytes]:
    """Yield what the board says; see to it that its microphone is alive."""
    rests, taken, live = 0, 0, device.wire.live
    asked = moved = time.monotonic()
    while not stop.is_set() and rests < RESTS:
        message = device.link.poll()
        now = time.monotonic()
        if message and message[0] == STATE | 0x80:
            moved = now if _state(message).taken != taken else moved
            taken = _state(message).taken
        elif message:
            yield message
        elif not live:
            rests += 1
            continue
        else:
            time.sleep(PAUSE)
        rests = 0
        if live and now - moved > DEAD_SECONDS:
            raise UserError(
                f"{device.wire.name}: no sample of its microphone for {DEAD_SECONDS:.0f} s: reset the board, "
                "or stream the host's with --source mic"
            )
        if live and now - asked > ASK_SECONDS:
            device.link.send(bytes((STATE, 0, 0, 0)))
            asked = now


def _take(heard: Heard, message: bytes, tell: Callable[[Detection], None]) -> None:
    if message[0] != HEARD | 0x80 or message[1]:
        return
    kind, *numbers = _EVENT.unpack(message[4:])
    event = Event(*numbers)
    found = Detection(
        heard.meant.labels[event.label], *heard.meant.span(event.first, event.last), event.share / ONE
    )
    if kind == BEGUN:
        tell(found)
        return
    heard.count += 1
    heard.raw.append(event)
    heard.events.append(found)


def _state(message: bytes) -> State:
    return State(*_STATE.unpack(message[4:]))
