"""Progress of long jobs on stderr: bars on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]  # stage, done, total (0: nobody knows)
HEARTBEAT = 10.0  # seconds between plain lines


def silent(_stage: str, _done: int, _total: int) -> None:
    """Take progress and show nothing."""


@contextmanager
def shown() -> Iterator[Progress]:
    """Yield a callback that shows progress on stderr until the block ends."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for earlier in tasks.values():  # one that stopped early would count seconds for ever
                    bars.stop_task(earlier)
                tasks[stage] = bars.add_task(stage, total=total or None)
            bars.update(tasks[stage], completed=done, total=total or None)

        yield show


def _plain() -> Progress:
    last = time.monotonic()

    def show(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done and now - last >= HEARTBEAT:
            last = now
            print(f"{stage}: {done:,}" + (f"/{total:,}" if total else ""), file=sys.stderr, flush=True)

    return show
