"""The int8 model on this machine as a board: sound in, results out, bit for bit what a real one says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from boards.errors import UserError
from kit import listen
from kit.audio import Samples
from kit.detect import Meaning
from kit.device import Result

if TYPE_CHECKING:
    from firmware.compiler.graph import Graph
    from firmware.compiler.host import HostModel


@dataclass(frozen=True)
class HostBoard:
    """A compiled model and what its results mean."""

    model: HostModel
    meant: Meaning
    rows: int  # of features that a run takes: a window, or the hop of a stream

    def stream(self, chunks: Iterable[Samples | int], hop_frames: int) -> Iterator[Result]:
        """Yield a result each `hop_frames` once the input is full; an int stands for lost samples."""
        from models import frontend

        fe, graph = self.meant.fe, self.model.graph
        into = graph.tensors[graph.inputs[0]]
        assert into.quantisation is not None
        scale, zero_point = float(into.quantisation.scale[0]), int(into.quantisation.zero_point[0])
        sound, rows = np.zeros(0, np.int16), np.zeros((0, fe.features), np.int8)
        taken = lost = 0
        due = self.rows  # frames until the next result
        self.model.reset()
        for chunk in chunks:
            if isinstance(chunk, int):
                taken, lost = taken + chunk, lost + chunk
                continue
            taken += chunk.size
            sound = np.concatenate([sound, chunk])
            made = frontend.quantise(frontend.features(sound, fe), scale, zero_point)
            rows = np.concatenate([rows, made])
            first = taken - sound.size + fe.window  # where the first of the new frames ends
            while due <= len(made):
                end = len(rows) - len(made) + due
                x = np.ascontiguousarray(rows[end - self.rows : end]).reshape(into.shape)
                output = self.model([x])[0].ravel()
                yield Result(first + (due - 1) * fe.hop, output, 0, lost)
                due += hop_frames
            due -= len(made)
            sound, rows = sound[len(made) * fe.hop :], rows[-self.rows :]


@dataclass(frozen=True)
class About:
    """What tells the meaning of the results of a model that runs without a board."""

    path: Path
    frontend: dict[str, Any] | None
    labels: tuple[str, ...]
    task: str | None
    stream: dict[str, Any] | None
    graph: Graph


def opened(path: Path) -> HostBoard:
    """Return the model of a build or a bundle, compiled for this machine.

    Raises:
        UserError: it is neither, it has no front end, or the compiler is missing.
    """
    from firmware.compiler import build as compiler
    from firmware.compiler import compiled
    from firmware.compiler.plan import plan
    from kit import builds
    from quantize import bundle as bundles

    if path.suffix == ".tflite":
        raise UserError(f"{path}: a bare .tflite has no labels and no front end: give a bundle")
    if (path / "build.json").exists():
        made = builds.load(path)
        labels, task, streamed, fe = made.labels, made.task, made.stream, made.frontend
        model, name = made.model, made.name
    else:
        bundle = bundles.load(path)
        labels, task, streamed, fe = tuple(bundle.labels), bundle.task, None, asdict(bundle.frontend)
        model, name = bundle.model(), f"{bundle.family} {bundle.size}"
    _, graph, _ = compiled.lower(model, name, "simd", streamed["rows"] if streamed else None)
    meant = listen.meaning(About(path, fe, labels, task, streamed, graph))
    with tempfile.TemporaryDirectory(prefix="earkit-") as folder:
        hosted = compiler.host_library(graph, plan(graph), Path(folder))
    return HostBoard(hosted, meant, meant.hop_frames if streamed else meant.fe.frames)
