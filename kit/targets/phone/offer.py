"""What a phone is given: the bundle as wasm, what its results mean, and inputs to be tested with."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit import ears, listen, measure, profile
from kit.detect import USUAL, Limits
from kit.host_board import About
from kit.progress import Progress

if TYPE_CHECKING:
    from firmware.compiler.graph import Graph
    from firmware.compiler.plan import Plan
    from kit.detect import Meaning
    from quantize.bundle import Bundle

BATCH = 16  # test inputs in one answer
HISTORY = 2048  # bytes that firmware/hear.c keeps of the last results, or eight results if those are more
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Trial:
    """The inputs of a test, and what the host says of each."""

    test: measure.Test | None  # held-out clips; None: the bundle's own few inputs
    inputs: Array  # int16 (N, samples) of sound, or int8 (N, ...) of features, whole hops of a stream
    host: Array  # int8 (N, outputs) of the integer definition
    notes: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Tell whether the inputs are sound, so that the phone computes the features too."""
        return self.test is not None

    def batch(self, index: int) -> bytes | None:
        """Return some of the inputs, one after the other; None behind the last ones."""
        part = self.inputs[BATCH * index : BATCH * (index + 1)]
        return part.tobytes() if index >= 0 and len(part) else None


@dataclass(frozen=True)
class Offer:
    """A bundle on its way to phones."""

    bundle: Bundle
    name: str
    graph: Graph
    plan: Plan
    stream: dict[str, Any] | None
    module: bytes
    about: dict[str, Any]  # model.json
    trial: Trial


def prepare(
    path: Path,
    *,
    hop: str | None = None,
    data: str | None = None,
    held_out: str | None = None,
    samples: int | None = None,
    progress: Progress,
) -> Offer:
    """Compile the bundle for browsers and find what it is to be tested with.

    Args:
        path: of the bundle.
        hop: sound that a streaming model takes at a time, such as 20ms; None runs whole windows.
        data: clips to test with; None takes the bundle's own where they are, else its expected inputs.
        held_out: fold, speaker or source to test with.
        samples: clips at most.
        progress: of the work.

    Raises:
        UserError: no bundle, no such data, or a model that does not compile.
    """
    from firmware.compiler import compiled, plan, wasm
    from kit import hops
    from models import frontend
    from quantize import bundle as bundles

    if path.suffix == ".tflite":
        raise UserError(f"{path}: a bare .tflite has no labels and no front end: give a bundle")
    bundle = bundles.load(path)
    fe, name = bundle.frontend, path.absolute().name.removesuffix(".zip")
    rows = None if hop is None else hops.rows(hop, fe)
    progress("compile for browsers", 0, 1)
    window, graph, streamed = compiled.lower(bundle.model(), name, "simd", rows)
    tables, planned = frontend.tables(fe if rows is None else replace(fe, frames=rows)), plan.plan(graph)
    with tempfile.TemporaryDirectory(prefix="earkit-") as folder:
        module = wasm.compile_module(graph, planned, Path(folder), tables).read_bytes()
    progress("compile for browsers", 1, 1)
    meant = meaning(bundle, graph, streamed)
    trial = _trial(bundle, window, streamed, data, held_out, samples, progress)
    about = _about(name, meant, graph, module, rows, trial)
    return Offer(bundle, name, graph, planned, streamed, module, about, trial)


def meaning(bundle: Bundle, graph: Graph, stream: dict[str, Any] | None) -> Meaning:
    """Return how the results of a bundle's compiled graph are read."""
    front, labels = asdict(bundle.frontend), tuple(bundle.labels)
    return listen.meaning(About(bundle.path, front, labels, bundle.task, stream, graph))


def _about(
    name: str, meant: Meaning, graph: Graph, module: bytes, rows: int | None, trial: Trial
) -> dict[str, Any]:
    """Return model.json: lengths in samples or frames, rates in Hz."""
    from models import frontend

    fe, outputs = meant.fe, len(meant.labels)
    averaged = Limits.of(meant, USUAL).averaged
    if averaged * outputs > max(HISTORY, 8 * outputs):
        raise UserError(
            f"{name}: {averaged} results of {outputs} classes are averaged, {HISTORY // outputs} are kept: "
            "compile with a larger --hop"
        )
    silence = -fe.frames % rows * fe.hop if rows else 0
    kind = {"sound": trial.sound, "count": len(trial.inputs), "batch": BATCH, "silence": silence}
    about = {
        "name": name,
        "labels": meant.labels,
        "values": meant.values,
        "rate": fe.sample_rate,
        "samples": fe.samples,
        "hop": fe.hop,
        "bands": fe.bands,
        "range_hz": (fe.low_hz, fe.high_hz),
        "fraction": frontend.FRACTION,
        "rows": rows or fe.frames,
        "hop_frames": meant.hop_frames,
        "averaged": averaged,
        "rules": [word % 2**32 for word in ears.words(meant, USUAL)],
        "output": {"scale": meant.scale, "zero_point": meant.zero_point},
        "test": {**kind, "bytes": trial.inputs[0].nbytes},
    }
    build = hashlib.sha256(module + json.dumps(about).encode()).hexdigest()[:16]
    return {**about, "build": build}


def _trial(
    bundle: Bundle,
    window: Graph,
    stream: dict[str, Any] | None,
    data: str | None,
    held_out: str | None,
    samples: int | None,
    progress: Progress,
) -> Trial:
    """Return the held-out clips; the bundle's expected inputs where nobody asked for clips and none are."""
    try:
        test = measure.clips(bundle, data, held_out, samples, progress)
    except UserError as error:
        if data is not None or held_out is not None:
            raise
        inputs = bundle.expected(window.tensors[window.inputs[0]].shape)[0][:, 0]
        given = [np.concatenate(profile.in_hops(window, stream, one)) for one in inputs]
        return Trial(None, np.stack(given), profile.on_host(window, inputs), (f"no accuracy: {error}",))
    inputs = profile.as_input(test.clips.windows.values, window)
    return Trial(test, test.clips.samples, profile.on_host(window, inputs), test.notes)
