"""From a model's int8 outputs to events: the integers that firmware/hear.c computes, bit for bit.

An output becomes shares of ONE (its probabilities), the shares of the last results are summed, and the
largest sum makes an event while it reaches the threshold. The host and the board follow this one definition.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit.records import Detection

if TYPE_CHECKING:
    from models.frontend import FrontEnd

Probabilities = npt.NDArray[np.float32]
Shares = npt.NDArray[np.int64]

ONE = 1 << 24  # a probability of 1; float32 holds every share
MOST_AVERAGED = 255  # results: a sum of shares fits 32 bits
KEPT_SECONDS = 600  # of sound, for the report; a microphone may run for days


@dataclass(frozen=True)
class Rules:
    """When probabilities become an event. Times in seconds.

    The probabilities of the last `smoothing` are averaged; an event begins when the best class reaches
    `threshold`, lasts as long as it stays the best and above, and the same class stays silent for
    `refractory` behind it.
    """

    threshold: float = 0.6
    smoothing: float = 0.5
    refractory: float = 0.5


USUAL = Rules()


@dataclass(frozen=True)
class Meaning:
    """What the board's results mean: how they lie in time, and which probabilities they are."""

    fe: FrontEnd
    labels: tuple[str, ...]
    hop_frames: int  # between results
    scale: float  # of the int8 output
    zero_point: int
    logits: bool  # softmax is still to be done
    values: bool = False  # of targets, not probabilities: they make no events

    @property
    def hop(self) -> int:
        """Return the samples between two results."""
        return self.hop_frames * self.fe.hop

    @property
    def unit(self) -> int:
        """Return the share that a step of an output of probabilities stands for; 0 of logits."""
        return 0 if self.logits else round(self.scale * ONE)

    @property
    def factors(self) -> tuple[int, ...]:
        """Return e^(-scale * 2^k) for k = 0…7, in units of 2^-32: a softmax of int8 needs no other powers."""
        return tuple(min(2**32 - 1, round(2**32 * math.exp(-self.scale * 2**k))) for k in range(8))

    def probabilities(self, output: npt.NDArray[np.int8]) -> Probabilities:
        """Return the probabilities (classes,), or the values, that an int8 output stands for."""
        if self.values:
            return (output.astype(np.float32) - self.zero_point) * np.float32(self.scale)
        return (self.shares(output) / ONE).astype(np.float32)

    def shares(self, output: npt.NDArray[np.int8]) -> Shares:
        """Return the probabilities (classes,) in units of 1 / ONE."""
        steps = output.astype(np.int64)
        if not self.logits:
            shares: Shares = np.clip((steps - self.zero_point) * self.unit, 0, ONE)
            return shares
        powers = _powers(self.factors)[steps.max() - steps]
        inverse = np.uint64((1 << 63) // int(powers.sum()))
        rounded: Shares = ((powers * inverse + np.uint64(1 << 38)) >> np.uint64(39)).astype(np.int64)
        return rounded

    def span(self, first: int, last: int) -> tuple[float, float]:
        """Return the seconds for which the results whose inputs ended before these samples stand.

        One stands for a hop around the middle of its input, the first of all also for everything before.
        """
        rate, half = self.fe.sample_rate, (self.fe.samples - self.hop) / 2
        start = 0.0 if first < self.fe.samples + self.hop else first - half - self.hop
        return max(0.0, start / rate), (last - half) / rate


@functools.cache
def _powers(factors: tuple[int, ...]) -> npt.NDArray[np.uint64]:
    """Return 2^31 * e^(-scale * d) for d = 0…255."""
    powers = []
    for steps in range(256):
        power = 1 << 31
        for k, factor in enumerate(factors):
            power = power * factor >> 32 if steps >> k & 1 else power
        powers.append(power)
    return np.array(powers, np.uint64)


@dataclass(frozen=True)
class Limits:
    """Rules in the integers that decide: results, shares, samples."""

    averaged: int  # results
    threshold: int  # shares
    quiet: int  # samples from the last result of an event to the first of the next one of its class

    @staticmethod
    def of(meant: Meaning, rules: Rules) -> Limits:
        """Return the limits for a model; UserError when it is to be smoothed over too many results."""
        rate = meant.fe.sample_rate
        averaged = max(1, round(rules.smoothing * rate / meant.hop))
        if averaged > MOST_AVERAGED:
            raise UserError(
                f"{rules.smoothing:g} s are {averaged} results, at most {MOST_AVERAGED} are averaged: "
                "smooth over less, or compile with a larger --hop"
            )
        return Limits(averaged, round(rules.threshold * ONE), round(rules.refractory * rate) + meant.hop)


class Smoother:
    """The sums of the last shares."""

    def __init__(self, averaged: int) -> None:
        self._recent: deque[Shares] = deque(maxlen=averaged)
        self.sums: Shares = np.zeros(0, np.int64)

    @property
    def count(self) -> int:
        """Return how many results are summed."""
        return len(self._recent)

    def step(self, shares: Shares) -> tuple[int, int]:
        """Take a result; return the best class, the first one of equals, and its sum."""
        leaving = self._recent[0] if len(self._recent) == self._recent.maxlen else 0
        self._recent.append(shares)
        self.sums = (self.sums if self.sums.size else 0) + shares - leaving
        best = int(self.sums.argmax())
        return best, int(self.sums[best])


@dataclass(frozen=True)
class Event:
    """An event in integers: class, the samples before which its first and last inputs ended, largest mean."""

    label: int
    first: int
    last: int
    share: int


class Trigger:
    """What makes events of the sums of one stream."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: Event | None = None
        self._ended: dict[int, int] = {}  # class -> sample of the last result of its last event

    def step(self, sample: int, best: int, total: int, count: int) -> tuple[Event | None, Event | None]:
        """Take the best class and its sum of `count` results; return the event that ends, and a new one."""
        sure, share, limits = total >= self.limits.threshold * count, total // count, self.limits
        if self.open and sure and best == self.open.label:
            self.open = replace(self.open, last=sample, share=max(share, self.open.share))
            return None, None
        ended = self.close()
        if sure and (best not in self._ended or sample - self._ended[best] >= limits.quiet):
            self.open = Event(best, sample, sample, share)
        return ended, self.open

    def close(self) -> Event | None:
        """End the event that lasts, and return it."""
        ended, self.open = self.open, None
        if ended:
            self._ended[ended.label] = ended.last
        return ended


class Detector:
    """Smoothed probabilities and the events in them."""

    def __init__(self, meant: Meaning, rules: Rules) -> None:
        self.meant, limits = meant, Limits.of(meant, rules)
        self._smoother, self._trigger = Smoother(limits.averaged), Trigger(limits)
        self._values: deque[Probabilities] = deque(maxlen=limits.averaged)
        kept = max(1, KEPT_SECONDS * meant.fe.sample_rate // meant.hop)
        self.history: deque[Probabilities] = deque(maxlen=kept)
        self.events: deque[Detection] = deque(maxlen=kept)
        self.count = self.last = 0  # events; sample before which the last input ended

    def step(self, sample: int, probabilities: Probabilities) -> tuple[Probabilities, Detection | None]:
        """Take the result whose input ended before `sample`; return what is believed, and a new event."""
        self.last = sample
        if self.meant.values:
            self._values.append(probabilities)
            believed: Probabilities = np.mean(self._values, axis=0, dtype=np.float32)
            self.history.append(believed)
            return believed, None
        shares = np.rint(probabilities * np.float64(ONE)).astype(np.int64)
        best, total = self._smoother.step(shares)
        count = self._smoother.count
        believed = (self._smoother.sums / (count * ONE)).astype(np.float32)
        self.history.append(believed)
        ended, begun = self._trigger.step(sample, best, total, count)
        self._keep(ended)
        return believed, self.detection(begun) if begun else None

    def finish(self, total: int) -> None:
        """End an event that still lasts: the last result stands for everything behind it."""
        self._keep(self._trigger.close(), total / self.meant.fe.sample_rate)

    def detection(self, event: Event) -> Detection:
        """Return an event in seconds and with its label."""
        return Detection(
            self.meant.labels[event.label], *self.meant.span(event.first, event.last), event.share / ONE
        )

    def _keep(self, event: Event | None, end: float = 0.0) -> None:
        if event:
            found = self.detection(event)
            self.events.append(replace(found, end=max(found.end, end)))
            self.count += 1
