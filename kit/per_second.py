"""What a second of sound costs: hop by hop where the model streams, and with whole windows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from boards import Board
from boards.errors import UserError

if TYPE_CHECKING:
    from firmware.compiler.compiled import Compiled
    from kit.device import Device
    from kit.profile import Cost

HOPS = 5  # that are counted behind the first full window; the median is reported
Sound = npt.NDArray[np.signedinteger[Any]]


def compare(build: Compiled, device: Device, cost: Cost, sound: Sound | None = None) -> dict[str, Any] | None:
    """Return the counts of a build for a second of sound.

    Of a stream: its own, and those of its window model at the same hop, which is compiled for the same board
    and counted there when the board is emulated; else that figure is None. Of a bare stream, which says
    nothing of time, they are for one row of its input. Of whole windows: see `_sliding`.

    Args:
        build: of the stream or the windows.
        device: the board that runs it.
        cost: of one hop or window.
        sound: what is heard, at least a window and HOPS hops; None for a bare model.
    """
    if build.stream is None:
        return _sliding(build, cost)
    rows = build.stream["rows"]
    hops = 1 / rows
    if build.frontend is not None:
        hops = build.frontend["sample_rate"] / (build.frontend["hop"] * rows)
    own = cost.total if sound is None else heard(device, sound, rows)
    window = None
    if cost.origin == "emulated" and isinstance(build.board, Board):
        window = _window(build, build.board, sound)
    return {
        "of": "row" if build.frontend is None else "second",
        "hops": hops,
        "unit": cost.unit,
        "stream": round(own * hops),
        "window": None if window is None else round(window * hops),
        "origins": {"stream": cost.origin, "window": None if window is None else cost.origin},
    }


def _sliding(build: Compiled, cost: Cost) -> dict[str, Any] | None:
    """Return the count of windows that overlap by half, as over the clips of a test; None of a bare model.

    Each frame's features are made once, as the firmware does where frames go on.
    """
    from models.frontend import FrontEnd

    if build.frontend is None:
        return None
    front = FrontEnd(**build.frontend)
    windows = front.sample_rate / front.samples
    return {
        "of": "second",
        "hops": 2 * windows,
        "unit": cost.unit,
        "stream": None,
        "window": round((2 * cost.total + (cost.frontend or 0)) * windows),
        "origins": {"stream": None, "window": cost.origin},
    }


def enough(samples: Sound, window: int, hop: int) -> Sound:
    """Return sound for a window and HOPS hops, clips (n, samples) one after the other and again."""
    return np.resize(samples.reshape(-1), window + HOPS * hop)


def heard(device: Device, sound: Sound, rows: int) -> int:
    """Return the median count of a hop: the features of its frames, and what the model makes of them."""
    counts = [result.instructions for result in device.stream([sound], hop_frames=rows)]
    return int(np.median(counts[-HOPS:]))


def _window(build: Compiled, board: Board, sound: Sound | None) -> int | None:
    """Compile the window model for the board; return its count at each hop, None if it does not fit."""
    from firmware.compiler import build as compiler
    from kit import device
    from models import frontend
    from models.frontend import FrontEnd

    tables = None if build.frontend is None else frontend.tables(FrontEnd(**build.frontend))
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = compiler.compile_model(
                build.model,
                board,
                Path(folder) / "window",
                name=build.name,
                frontend=build.frontend,
                frontend_tables=tables,
            )
        except UserError:
            return None
        with device.open(made, None) as virtual:
            if sound is not None and build.stream is not None:
                return heard(virtual, sound, build.stream["rows"])
            into = made.graph.tensors[made.graph.inputs[0]]
            return virtual.profile(np.zeros(into.shape, np.int8)).total


def figures(record: Mapping[str, Any]) -> list[tuple[str, Any, str | None]]:
    """Return name, value and origin of the counts that `compare` made."""
    told = record["per_second"]
    if told is None:
        return []
    what = f"{told['unit']} for a {'second of sound' if told['of'] == 'second' else 'row of the input'}"
    slid = "a window each hop" if told["stream"] is not None else "windows that overlap by half"
    names = {"stream": f"{what}, hop by hop", "window": f"{what}, {slid}"}
    return [(name, told[key], told["origins"][key]) for key, name in names.items() if told[key] is not None]
