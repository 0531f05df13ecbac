"""A day of sound through an emulated board with faults on the line: what it says is checked.

`python -m benchmarks.stream_board [HOURS]` writes results/stream_board.md: 50 minutes of processor time for
24 hours, most of it for bytes on the emulated UART. The sound comes round after sixteen windows; a sample
that got lost, came twice or was spoilt would change what the board says from then on.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

import boards
from firmware.compiler import build as compiler
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import profile
from kit.device import Device
from kit.fake_link import Faults, FaultyWire
from kit.flash import serial
from kit.progress import shown
from kit.virtual import VirtualBoard
from models import frontend
from models.frontend import FrontEnd
from tests import tflite_writer as writer
from tests.tflite_writer import Op, Value

RESULT = Path(__file__).parent / "results" / "stream_board.md"
BOARD = "virtual-m4"
FRONT = FrontEnd(bands=8, window=256, hop=256, frames=62)  # nothing is heard twice: less work
CLASSES, WINDOWS = 8, 16
FAULTS = Faults(loss=0.001, damage=0.001, repeat=0.001, noise=0.001)
EARLY = 0.05  # of the way, where memory is looked at first


def compiled(folder: Path) -> Build:
    """Return a linear net behind the front end, its weights drawn."""
    frames = Value("frames", (1, FRONT.frames, FRONT.bands), "int8", 0.5, 100)
    flat = Value("flat", (1, FRONT.frames * FRONT.bands), "int8", 0.5, 100)
    said = Value("said", (1, CLASSES), "int8", 8.0, 0)
    drawn = np.random.default_rng(3).integers(-127, 128, (CLASSES, flat.shape[1]))
    nodes = [
        Op("RESHAPE", [frames, writer.constant("shape", list(flat.shape))], [flat]),
        Op("FULLY_CONNECTED", [flat, writer.constant("weights", drawn, "int8", 1 / 127)], [said]),
    ]
    return compiler.compile_model(
        writer.model([frames], nodes, [], [said]),
        boards.load(BOARD),
        folder,
        name="day",
        frontend=asdict(FRONT),
        frontend_tables=frontend.tables(FRONT),
    )


def sound() -> npt.NDArray[np.int16]:
    """Return sixteen windows of noise, each frame as loud as drawn."""
    rng = np.random.default_rng(5)
    loud = 10 ** rng.uniform(1, 4, (WINDOWS * FRONT.frames, 1))
    return (rng.standard_normal((len(loud), FRONT.hop)) * loud).clip(-32768, 32767).astype(np.int16).ravel()


def wanted(made: Build, heard: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """Return what the host's definitions say of each window."""
    features = frontend.features(heard, FRONT).reshape(WINDOWS, FRONT.frames, FRONT.bands)
    outputs = interp.run_batch(made.graph, profile.as_input(features, made.graph))
    assert len({row.tobytes() for row in outputs}) == WINDOWS
    return np.asarray(outputs, np.int8).reshape(WINDOWS, CLASSES)


def memory() -> int:
    """Return the most memory that this process has held so far, in KB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def stream(board: Device, made: Build, windows: int) -> tuple[int, int, int]:
    """Stream so many windows; return results, those that are not as wanted, and KB of memory at first."""
    heard = sound()
    right, step = wanted(made, heard), FRONT.frames * FRONT.hop

    def pieces() -> Iterator[npt.NDArray[np.int16]]:
        for number in range(windows):
            at = number % WINDOWS * step
            yield heard[at : at + step]

    count, wrong, early = 0, 0, 0
    with shown() as progress:
        for result in board.stream(pieces(), hop_frames=FRONT.frames):
            same = (result.output == right[count % WINDOWS]).all()
            count += 1
            wrong += not (same and result.sample == count * step % 2**32 and result.dropped == 0)
            if count == int(windows * EARLY):
                early = memory()
            progress("windows", count, windows)
    return count, wrong, early


def main() -> None:
    """Write what came of it."""
    hours = float(sys.argv[1]) if len(sys.argv) > 1 else 24.0
    window_s = FRONT.frames * FRONT.hop / FRONT.sample_rate
    windows = round(hours * 3600 / window_s)
    with tempfile.TemporaryDirectory() as folder:
        made = compiled(Path(folder) / "build")
        serial.flash(made, None, lambda *_: None)
        board = VirtualBoard(made.board, made.path / serial.FLASH_FILE)
        line = FaultyWire(board, FAULTS, 7)
        with Device(line, "emulated") as device:
            results, wrong, early = stream(device, made, windows)
            info, refused, ran = device.info(), device.link.damaged, board.instructions()
    injected = ", ".join(f"{count:,} {name}" for name, count in sorted(line.injected.items()))
    rows = {
        "sound": f"{windows * window_s / 3600:.1f} hours at 16 kHz, 16 bits",
        "faults put on the line, both ways": injected,
        "damaged frames refused by the board, by the host": f"{info.damaged:,}, {refused:,}",
        "frames that the board had already": f"{info.duplicates:,}",
        "results wanted, received, wrong": f"{windows:,}, {results:,}, {wrong:,}",
        "instructions": f"{ran:,}",
        "most memory of the host until 5 % of the way, until the end": f"{early:,} KB, {memory():,} KB",
        "processor time": f"{time.process_time():.0f} s",
    }
    lines = ["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows.items()), ""]
    lines.append(
        f"Emulated on {BOARD}, {date.today():%Y-%m-%d}: the whole firmware, {FRONT.bands} bands without "
        "overlap and a linear net; a result a window, itself and its place compared with the host's."
    )
    RESULT.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
