"""One table of everywhere that bundles run: the outputs that are not the host's, and what ran them.

python -m benchmarks.destinations ESC10 BUNDLE …   # writes results/destinations.md

Every destination gets all windows of some clips that the bundle held out. The host is the compiler's integer
definition in numpy. Programs for Arm run in qemu-user; the phone's page in headless Chromium; the ONNX for
TensorRT in onnxruntime and tinygrad; the Core ML package in numpy, as the file says. Needs qemu-user-static,
chromium, clang and the extras jetson, phone and coreml; what is missing stops it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import chromium
import numpy as np
import numpy.typing as npt
from phone_host import serving

import boards
from boards.errors import UserError
from firmware.compiler.program import Program
from kit import device, pipeline, profile, runs
from kit.coreml import package as coreml
from kit.device import Device
from kit.measure import Test, clips
from kit.pipe_wire import PipeWire
from kit.progress import silent
from kit.targets import release
from kit.targets.phone import offer
from quantize import bundle as bundles
from quantize import int8, symmetric
from quantize.bundle import FLOAT, Bundle
from quantize.worker import Worker

RESULT = Path(__file__).parent / "results" / "destinations.md"
MICROCONTROLLERS = ("virtual-m4", "virtual-m7")
PROGRAMS = {  # computer → what stands in for its processor
    "linux-x86_64": (),
    "pi-zero2w": ("qemu-aarch64-static", "-cpu", "cortex-a53"),
    "pi4": ("qemu-aarch64-static", "-cpu", "cortex-a72"),
    "pi5": ("qemu-aarch64-static", "-cpu", "cortex-a76"),
    "linux-armv7": ("qemu-arm-static", "-cpu", "cortex-a7"),
    "jetson-orin-nano": ("qemu-aarch64-static", "-cpu", "max"),
    "android-arm64": ("qemu-aarch64-static", "-cpu", "max"),
}
CLIPS = 24  # of those held out, evenly spread
LINE = "document.querySelector('#line').textContent"
NOTE = f"""the sound of {CLIPS} held-out clips of ESC-10, all windows. A bundle's column says how many of its
windows gave other outputs than the host's, which is the integer definition (and how many steps of int8 the
furthest output was off), the signal to noise against the float net, and how many clips are right. LiteRT
rounds sums once where the definition rounds twice, and norms op by op where it rounds once. The symmetric
ONNX holds activations on both sides of 0, and floats in between, as TensorRT wants it; TensorRT and Core ML
themselves have not run here. No phone, Pi or Jetson was at hand: nothing is a time."""
Array = npt.NDArray[Any]


class Row(NamedTuple):
    """A destination, and what a bundle does there."""

    name: str
    by: str
    origin: str
    cell: str


@dataclass(frozen=True)
class Job:
    """A bundle, its held-out windows as the model's inputs, and what the host says of them."""

    path: Path
    bundle: Bundle
    test: Test
    inputs: Array  # int8 (N, *input)
    host: Array  # int8 (N, outputs)
    folder: Path

    @property
    def features(self) -> Array:
        """Return the inputs as the real numbers that they stand for, float32 (N, *input)."""
        into = self.bundle.inputs[0]
        return into.real(self.inputs).reshape(-1, *into.shape[1:])

    def decibels(self, outputs: Array) -> str:
        """Return how far int8 `outputs` are from those of the float net."""
        real = int8.run(self.bundle.read(FLOAT), self.features).reshape(self.host.shape)
        return f"{int8.sqnr_db(real, self.bundle.outputs[0].real(outputs)):.1f}"

    def row(self, name: str, by: str, origin: str, outputs: Array) -> Row:
        """Return what is said of a destination that gave the int8 `outputs` (N, outputs)."""
        apart = np.abs(outputs.astype(int) - self.host)
        right = self.test.clips.score(outputs, self.bundle.outputs[0])
        counted = int(apart.any(axis=1).sum()), int(apart.max())
        return Row(name, by, origin, self.cell(*counted, self.decibels(outputs), right))

    def cell(self, differ: int, most: int, decibels: str, right: float) -> str:
        """Return how many windows differ and by how many steps at most, the noise, and the share right."""
        steps = f" (≤ {most})" if most else ""
        return f"{differ} of {len(self.inputs)}{steps}, {decibels} dB, {100 * right:.1f} %"


def job(path: Path, data: str, folder: Path) -> Job:
    """Hear the held-out clips of a bundle on the host."""
    bundle = bundles.load(path)
    test = clips(bundle, data, bundle.evaluation()["data"]["held_out"], CLIPS, silent)
    made = pipeline.compile(path, "linux-x86_64", folder / "host")
    inputs = profile.as_input(test.clips.windows.values, made.window)
    return Job(path, bundle, test, inputs, profile.on_host(made.window, inputs), folder)


def heard(made: Any, board: Device, given: Job) -> Array:
    """Send the windows as sound; features that differ are an error, outputs are returned."""
    trial = profile.hear(made, board, given.test.clips)
    assert trial.features is not None
    np.testing.assert_array_equal(trial.features, trial.inputs)
    return trial.device


def on_microcontrollers(given: Job) -> Iterator[Row]:
    """Compile for virtual boards, and hear the sound there; a board that is too small says what it lacks."""
    for name in MICROCONTROLLERS:
        board = boards.load(name)
        by = f"our C, {board.core} emulated"
        try:
            made = pipeline.compile(given.path, name, given.folder / name)
        except UserError as error:
            yield Row(name, by, "emulated", str(error).split(":")[0].split(" (")[0])
            continue
        with device.open(made, None) as there:
            yield given.row(name, by, "emulated", heard(made, there, given))


def on_computers(given: Job) -> Iterator[Row]:
    """Run the programs, those for Arm in qemu-user."""
    for name, emulator in PROGRAMS.items():
        made = pipeline.compile(given.path, name, given.folder / name)
        assert isinstance(made, Program)
        origin: Literal["emulated", "measured"] = "emulated" if emulator else "measured"
        with Device(PipeWire([*emulator, str(made.program)]), origin) as there:
            by = f"our C, {f'QEMU ({emulator[-1]})' if emulator else 'this machine'}"
            yield given.row(name, by, origin, heard(made, there, given))


def in_litert(given: Job) -> Iterator[Row]:
    """Run the .tflite as every computer's second engine does."""
    outputs = release.litert(given.bundle.model(), given.inputs)
    yield given.row("Linux, Android: LiteRT", "XNNPACK, this machine", "measured", outputs)


def in_a_browser(given: Job) -> Iterator[Row]:
    """Let the phone's page test itself."""
    data = given.test.record
    made = offer.prepare(
        given.path, data=data["source"], held_out=data["held_out"], samples=CLIPS, progress=silent
    )
    run = given.folder / "phone"
    with serving(made, run) as served, chromium.running(given.folder) as browser:
        page = browser.open(served.codes[-1])
        page.wait(f"{LINE} === 'Ready. Tap Listen.'")
        page.tap("#test")
        page.wait(f"{LINE}.startsWith('Tested with')", 600)
    told = runs.load(run).profile
    assert told is not None
    if told["mismatches"]:
        raise AssertionError(f"{told['mismatches']} windows differ in the browser")
    cell = given.cell(0, 0, given.decibels(given.host), told["accuracy"]["device"])
    yield Row("phone, any", "our C as wasm, headless Chromium", "measured", cell)


def in_onnx(given: Job, worker: Worker) -> Iterator[Row]:
    """Run TensorRT's ONNX, which has symmetric scales, in two other runtimes; scores as int8 steps."""
    import onnxruntime

    from kit import tiny

    path = given.folder / "symmetric.onnx"
    path.write_bytes(symmetric.quantise(given.bundle.model(), worker=worker))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    readers: dict[str, Callable[[Array], Array]] = {
        "onnxruntime, this machine": lambda x: session.run(None, {name: x})[0],
        "tinygrad's CPU, this machine": tiny.reader(path, "CPU"),
    }
    for by, read in readers.items():
        scores = np.concatenate([read(one[None]) for one in given.features])
        yield given.row("Jetson: symmetric ONNX", by, "measured", steps(scores, given.bundle.outputs[0]))


def steps(scores: Array, out: bundles.Tensor) -> Array:
    """Return real scores as the int8 that stand for them."""
    made: Array = np.clip(np.rint(scores / np.float32(out.scale)) + out.zero_point, -128, 127).astype(np.int8)
    return made


def in_core_ml(given: Job, worker: Worker) -> Iterator[Row]:
    """Export a package, and evaluate what it says."""
    package = given.folder / "model.mlpackage"
    coreml.export(given.path, package)
    names = [str(given.folder / name) for name in ("inputs.npy", "outputs.npy")]
    np.save(names[0], given.features)
    worker.call("kit.coreml.convert", "run", package=str(package), inputs=names[0], outputs=names[1])
    outputs = steps(np.load(names[1]), given.bundle.outputs[0]).reshape(given.host.shape)
    yield given.row("iPhone, Mac", "the package read in numpy, not Core ML", "estimated", outputs)


def rows(given: Job) -> Iterator[Row]:
    """Return the rows of a bundle, one destination after the other."""
    yield from on_microcontrollers(given)
    yield from on_computers(given)
    yield from in_litert(given)
    yield from in_a_browser(given)
    with Worker() as worker:
        yield from in_onnx(given, worker)
    with Worker() as worker:
        yield from in_core_ml(given, worker)


def main() -> None:
    """Write the table for the bundles named on the command line, after each bundle."""
    titles: list[str] = []
    table: dict[tuple[str, ...], list[str]] = {}
    for path in map(Path, sys.argv[2:]):
        titles.append(path.name.removesuffix(".zip"))
        with tempfile.TemporaryDirectory() as folder:
            for *where, cell in rows(job(path, sys.argv[1], Path(folder))):
                print(titles[-1], *where, cell, sep=" | ", flush=True)
                table.setdefault(tuple(where), []).append(cell)
        write(titles, table)


def write(titles: Sequence[str], table: Mapping[tuple[str, ...], Sequence[str]]) -> None:
    """Write what there is: a row for each destination, a column for each bundle."""
    head = ("destination", "what ran it", "origin", *titles)
    lines = [head, ["---"] * len(head), *((*where, *cells) for where, cells in table.items())]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    RESULT.write_text(f"{text}\n\n{date.today():%Y-%m-%d}; {NOTE}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
