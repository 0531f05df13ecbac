"""The board's counter against the host's clock: whether its counts may be told as milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boards import Board
    from boards.computers import Computer
    from kit.device import Device, Unit

TOLERANCE = 0.03  # of 1: an RC oscillator is within 1 %, USB adds some milliseconds
LONG_S = 0.5  # that the board counts
NANOSECONDS = 1_000_000_000  # in a second
EMULATED = "no time: the program ran in an emulator, whose speed says nothing of the machine's"
TRIES = 3  # the quickest exchange counts: others waited for this machine


def rate(unit: Unit, board: Board | Computer) -> int:
    """Return how many counts of a board's counter make a second."""
    if unit == "nanoseconds":
        return NANOSECONDS
    assert board.clock_hz is not None  # only programs of computers have none, and they count nanoseconds
    return board.clock_hz


def check(device: Device, hz: int, now: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Let the board count half a second of its `hz` and compare with the host's clock `now` (seconds).

    Return ratio (counted / elapsed, 1 when right), seconds that passed here, tolerance and `right`. What an
    exchange takes without any counting is taken off.
    """
    counts = min(round(hz * LONG_S), 2**32 - 1)
    empty = min(_timed(device, 0, now)[1] for _ in range(TRIES))
    counted, whole = min((_timed(device, counts, now) for _ in range(TRIES)), key=lambda pair: pair[1])
    seconds = max(whole - empty, 1e-9)
    ratio = counted / hz / seconds
    return {
        "ratio": ratio,
        "seconds": seconds,
        "tolerance": TOLERANCE,
        "right": abs(ratio - 1) <= TOLERANCE,
    }


def complaint(checked: dict[str, Any], board: Board | Computer, unit: Unit) -> str:
    """Return what is to be said of a counter that is wrong."""
    if unit == "nanoseconds":
        return (
            f"no milliseconds: in {checked['seconds']:.3f} s of this machine {board.name} counted "
            f"{checked['ratio']:.3f} times as many, more than {TOLERANCE:.0%} off: the line to it is "
            "too slow or too busy to compare the clocks: try again"
        )
    return (
        f"no milliseconds: in {checked['seconds']:.3f} s of this machine the board counted "
        f"{checked['ratio']:.3f} times what {board.clock_hz:,} Hz give, more than {TOLERANCE:.0%} off: "
        f"check clock_hz in boards/{board.name}.toml, and the clock that its port sets up"
    )


def _timed(device: Device, counts: int, now: Callable[[], float]) -> tuple[int, float]:
    start = now()
    counted = device.spin(counts)
    return counted, now() - start
