"""The two ways to run a model on a Linux machine: our program, and LiteRT with some threads."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from boards.errors import UserError
from kit.device import Device
from kit.pipe_wire import PipeWire
from kit.runner.about import MODEL, PROGRAM, About, Checks, Int8

WARM_UP = 3  # runs before the measured ones
LEAST, MOST = 9, 2000  # measured runs
SECONDS = 1.0  # for each engine
ALIKE = 0.05  # of 1: times nearer than this count as the same, and fewer threads win

Answer = tuple[Int8, int]  # the output, nanoseconds


def program(about: About) -> Device:
    """Return our program of the release, running; a context manager."""
    return Device(PipeWire((str(about.folder / PROGRAM),), name=PROGRAM))


class LiteRT:
    """The model in LiteRT's XNNPACK.

    Raises:
        UserError: there is no LiteRT here, or it does not take the model.
    """

    def __init__(self, about: About, threads: int) -> None:
        try:
            interpreter_of = _interpreter()
        except ImportError as error:
            raise UserError(f"LiteRT cannot be used here ({error}): --engine program does without") from None
        model = (about.folder / MODEL).read_bytes()
        try:
            most = len(os.sched_getaffinity(0))  # more than there are cores never help
            self._interpreter = interpreter_of(model_content=model, num_threads=min(threads, most))
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise UserError(f"LiteRT does not run this model ({reason}): use --engine program") from None
        self._into = self._interpreter.get_input_details()[0]
        self._out = self._interpreter.get_output_details()[0]["index"]

    def run(self, x: Int8) -> Answer:
        """Return the output for an input of any shape, and how long that took."""
        shape = self._into["shape"]
        if x.size != np.prod(shape):
            raise UserError(f"an input has {x.size:,} values, the model takes {np.prod(shape):,}")
        given = x.reshape(shape)
        start = time.perf_counter_ns()
        self._interpreter.set_tensor(self._into["index"], given)
        self._interpreter.invoke()
        output = self._interpreter.get_tensor(self._out)
        return output.ravel(), time.perf_counter_ns() - start

    def output(self, x: Int8) -> Int8:
        """Return the output for an input."""
        return self.run(x)[0]

    def nanoseconds(self, x: Int8) -> int:
        """Return how long an input takes."""
        return self.run(x)[1]


def _interpreter() -> Callable[..., Any]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    found: Callable[..., Any] = Interpreter
    return found


@dataclass(frozen=True)
class Measured:
    """An engine's time for one run of the model, in microseconds, and how far its outputs are off."""

    engine: str  # "program" or "litert"
    threads: int
    median_us: float
    least_us: float
    most_us: float
    runs: int
    off: int  # the largest difference of an output from what the host says, in steps of int8


def measure(about: About) -> list[Measured]:
    """Measure our program, and LiteRT with each number of threads that may help, on the checked inputs.

    Raises:
        UserError: our program gives other outputs than the definition of the model.
    """
    checks = about.checks()
    with program(about) as device:
        off = _off(checks.inputs, checks.program, device.infer, device.forget)
        if off:
            raise UserError(
                f"program: its outputs differ by up to {off} from the model's definition: it was built for "
                "another processor; compile with the right --board"
            )
        found = [_timed("program", 1, checks, lambda x: device.profile(x).total, off)]
    if not checks.litert.size:
        return found
    for threads in _threads():
        try:
            engine = LiteRT(about, threads)
        except UserError:  # our program does without
            break
        off = _off(checks.inputs, checks.litert, engine.output)
        found.append(_timed("litert", threads, checks, engine.nanoseconds, off))
    return found


def best(found: list[Measured]) -> Measured:
    """Return the fastest; of those that are about as fast the one with the fewest threads, ours first."""
    limit = min(one.median_us for one in found) * (1 + ALIKE)
    fast = (one for one in found if one.median_us <= limit)
    return min(fast, key=lambda one: (one.threads, one.engine != "program"))


def plain(found: list[Measured]) -> list[dict[str, Any]]:
    """Return measurements as JSON prints them."""
    return [{k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(one).items()} for one in found]


def _off(
    inputs: Int8, wanted: Int8, run: Callable[[Int8], Int8], forget: Callable[[], object] = lambda: None
) -> int:
    """Return the largest difference of what comes of windows, each a sequence of its own, from `wanted`."""
    off = 0
    for window, right in zip(inputs, wanted):
        forget()
        outputs = [run(step) for step in window]
        off = max(off, int(np.abs(outputs[-1].astype(int) - right).max(initial=0)))
    return off


def _timed(engine: str, threads: int, checks: Checks, run: Callable[[Int8], int], off: int) -> Measured:
    """Return the times of runs, of which `run` tells the nanoseconds."""
    times, end = [], 0.0
    for number in range(WARM_UP + MOST):
        if number == WARM_UP:
            end = time.monotonic() + SECONDS
        if number >= WARM_UP + LEAST and time.monotonic() > end:
            break
        steps = checks.inputs[number % len(checks.inputs)]
        times.append(run(steps[number % len(steps)]) / 1e3)
    times = times[WARM_UP:]
    return Measured(engine, threads, statistics.median(times), min(times), max(times), len(times), off)


def _threads() -> list[int]:
    cores = len(os.sched_getaffinity(0))
    return sorted({1, *(n for n in (2, 3, 4) if n <= cores)})
