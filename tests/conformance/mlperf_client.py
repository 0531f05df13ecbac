"""A client that does what MLPerf Tiny's Python runner does: its lines, 31 bytes a command, its patience."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

BYTES_A_COMMAND = 31
LINE_SECONDS, INFER_SECONDS = 5.0, 30.0
NAME = re.compile(r"^m-(name)-dut-\[([^]]+)]$")
PROFILE = re.compile(r"^m-(model|profile)-\[([^]]+)]$")
LAP = re.compile(r"^m-lap-us-(\d+)$")
RESULTS = re.compile(r"^m-results-\[([^]]+)\]$")


class Port(Protocol):
    """A serial port or a wire."""

    def write(self, data: bytes) -> object:
        """Send."""

    def read(self, amount: float) -> bytes:
        """Return what has come: of a serial port at most `amount` bytes, of a wire within so many seconds."""


@dataclass(frozen=True)
class Inferred:
    """What the runner makes of the answer to `infer`."""

    elapsed: int  # microseconds
    results: list[float]
    texts: list[str]


class Runner:
    """The runner's end of the line."""

    def __init__(self, port: Port) -> None:
        self.port, self._rest = port, b""

    def line(self, seconds: float = LINE_SECONDS) -> str:
        """Return the next line without CR, LF and NUL; it must come in `seconds`."""
        end = time.monotonic() + seconds
        while b"\n" not in self._rest:
            assert time.monotonic() < end, f"no line in {seconds} s, only {self._rest!r}"
            self._rest += self.port.read(1)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.translate(None, b"\r\0").decode("ascii")

    def booted(self) -> Runner:
        """Read what the device says when it starts; return this."""
        while self.line() != "m-ready":
            pass
        return self

    def command(self, text: str, seconds: float = LINE_SECONDS) -> list[str]:
        """Send a command; return the lines of its answer, the last of which has m-ready."""
        self.port.write(text.encode() + b"%")
        lines = [self.line(seconds)]
        while "m-ready" not in lines[-1]:
            lines.append(self.line(seconds))
        return [line for line in lines if line]

    def name(self) -> str:
        """Return the name of the device."""
        (found,) = filter(None, map(NAME.match, self.command("name")))
        return found[2]

    def profile(self) -> dict[str, str]:
        """Return profile and model."""
        return {found[1]: found[2] for found in map(PROFILE.match, self.command("profile")) if found}

    def load(self, data: bytes) -> list[str]:
        """Send an input; return the answer to its last piece."""
        answer = self.command(f"db load {len(data)}")
        assert answer == [f"m-[Expecting {len(data)} bytes]", "m-ready"]
        for at in range(0, len(data), BYTES_A_COMMAND):
            answer = self.command("db " + data[at : at + BYTES_A_COMMAND].hex())
        return answer

    def infer(self, count: int, warmups: int) -> Inferred:
        """Run the model; the first timestamp is the start, the last the end."""
        lines = self.command(f"infer {count} {warmups}", INFER_SECONDS)
        laps = [int(found[1]) for found in map(LAP.match, lines) if found]
        (found,) = filter(None, map(RESULTS.match, lines))
        texts = found[1].split(",")
        return Inferred(laps[-1] - laps[0], [float(text) for text in texts], texts)


def top_1(results: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """Return the accuracy in percent as the runner counts it: scores are divided by their sum first."""
    right = 0
    for scores, label in zip(results, labels, strict=True):
        shares = [score / sum(scores) for score in scores]
        right += shares.index(max(shares)) == label
    return 100 * right / len(labels)
