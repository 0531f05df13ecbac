"""What goes wrong in an update, at every frame and flash operation; and how long 256 KB take on a line.

`python -m benchmarks.updates` writes results/updates.md.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from firmware.compiler import image as images
from kit.device import Device
from kit.fake_link import PacedWire
from kit.update import write_image
from kit.virtual import VirtualBoard

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from updates import FAULTS, NEW, OLD, Small, Trial, small

RESULT = Path(__file__).parent / "results" / "updates.md"
EVERY = 4  # of the flash operations, one is cut; each of the last ones, which make an image valid
LAST = 70
SIZE = 256 << 10
BAUDS = (115_200, 460_800, 921_600)
WHAT = {
    "cut": "the line breaks inside a frame",
    "flip": "a bit of a frame flips",
    "drop": "some bytes of a frame are lost",
    "repeat": "a frame comes twice",
    "delay": "a frame comes behind the next one",
}


def sweep(trial: Trial) -> Iterator[str]:
    """Yield the lines of the table of faults."""
    frames, operations = trial.size()
    yield "| what happens, once in an update | points | then runs the old one | the new one | neither |"
    yield "|---|---|---|---|---|"
    for fault in FAULTS:
        yield _row(WHAT[fault], [trial.line(fault, at, at) for at in range(frames)])
    cuts = [*range(1, operations - LAST, EVERY), *range(operations - LAST, operations + 1)]
    yield _row("the power goes inside a flash operation", [trial.power(operation) for operation in cuts])


def _row(what: str, outcomes: list[str]) -> str:
    count = Counter(outcomes)
    old, new = count.pop(f"{OLD} {NEW}", 0), count.pop(f"{NEW} {NEW}", 0)
    return f"| {what} | {len(outcomes)} | {old} | {new} | {count.total()} |"


def flashing(made: Small) -> Iterator[str]:
    """Yield the lines of the table of times."""
    body = made.bodies[0]
    body += random.Random(1).randbytes(SIZE - images.HEADER_BYTES - len(body))
    image = images.pack(body, "256 KB", made.board.app_origin)
    yield "| line | 256 KB at 10 bits a byte | `earkit flash` writes, verifies and commits in | over it |"
    yield "|---|---|---|---|"
    for baud in BAUDS:
        taken, least = _taken(made, image, baud), SIZE * 10 / baud
        yield f"| {baud:,} baud | {least:.2f} s | {taken:.2f} s | {taken / least - 1:.1%} |"


def _taken(made: Small, image: bytes, baud: int) -> float:
    """Return the seconds that writing an image takes on the modelled line."""
    board = VirtualBoard(made.board, made.flash())
    wire = PacedWire(board, baud, lambda: board.instructions() / made.board.clock_hz)
    device = Device(wire)
    start = wire.seconds
    write_image(device, image)
    return wire.seconds - start


def main() -> None:
    """Write the tables."""
    with tempfile.TemporaryDirectory() as folder:
        made = small(Path(folder))
        lines = [*sweep(Trial(made)), "", *flashing(made), ""]
    lines.append(
        f"Emulated on {made.board.name}, {date.today():%Y-%m-%d}: updates of "
        f"{len(made.images(NEW)[0]):,} bytes, each followed by a power cycle and, whatever ran, by a plain "
        "update that succeeded. The line is modelled, "
        f"an instruction takes a cycle of {made.board.clock_hz / 1e6:.0f} MHz, erasing takes no time."
    )
    RESULT.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
