"""Time of a model on this machine, one thread, beside LiteRT with XNNPACK; as wasm; and of compiling it.

`python benchmarks/host.py kws_ref_model.tflite ad01_int8.tflite` writes results/host.md. LiteRT and the
compiled library run in turns in one process, through Python; wasm runs in Node, where there is one. A row
gives the median of the rounds' medians, and in brackets the best round.
"""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import boards
from firmware.compiler import build, interp, passes, read_tflite, wasm
from firmware.compiler.graph import Graph
from firmware.compiler.ops import OPS
from firmware.compiler.plan import plan

RESULTS = Path(__file__).parent / "results"
ROUNDS, RUNS = 15, 300
BOARD = "virtual-m7"
HEAD = (
    "| model | MACs | LiteRT, XNNPACK, µs | C, µs | of LiteRT | wasm, µs | of LiteRT | .tflite → ELF, s |",
    "|---|---|---|---|---|---|---|---|",
)
NODE = """
import { readFileSync } from "fs";
const model = (await WebAssembly.instantiate(readFileSync(process.argv[1]), {})).instance.exports;
const runs = Number(process.argv[2]), times = [];
model.ear_model_init();
for (let i = 0; i < 4 * runs; ++i) {
  const start = process.hrtime.bigint();
  model.ear_model_invoke(0);
  if (i >= 3 * runs) times.push(Number(process.hrtime.bigint() - start) / 1e9);
}
times.sort((a, b) => a - b);
console.log(JSON.stringify(times[times.length >> 1]));
"""


def once(run: Callable[[], object]) -> float:
    """Return the median seconds of a round of runs."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def litert(model: bytes, x: npt.NDArray[np.int8]) -> Callable[[], object]:
    """Return LiteRT's invocation of the model, its input set."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    run: Callable[[], object] = interpreter.invoke
    return run


def library(graph: Graph, x: npt.NDArray[np.int8], folder: Path) -> Callable[[], object]:
    """Return the invocation of the compiled model, checked once against the definition."""
    model = build.host_library(graph, plan(graph), folder)
    np.testing.assert_array_equal(model([x])[0], interp.run(graph, [x])[0])
    invoke = model.library.ear_model_invoke
    return lambda: invoke(None)


def in_node(graph: Graph, folder: Path) -> Callable[[], float] | None:
    """Return what times the model as wasm, None without Node."""
    if shutil.which("node") is None:
        return None
    module = wasm.compile_module(graph, plan(graph), folder)
    command = ("node", "--input-type=module", "-e", NODE, str(module), str(RUNS))

    def seconds() -> float:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout))

    return seconds


def compiling(model: bytes, name: str, folder: Path) -> float:
    """Return the seconds from the model's bytes to its ELF, with a warm cache."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        build.compile_model(model, boards.load(BOARD), folder / "build", name=name)
        times.append(time.perf_counter() - start)
    return min(times)


def text(rounds: Sequence[float]) -> str:
    """Return the median and the least of the rounds in microseconds."""
    return f"{statistics.median(rounds) * 1e6:.1f} ({min(rounds) * 1e6:.1f})"


def share(rounds: Sequence[float], reference: Sequence[float]) -> str:
    """Return the median of the quotients of rounds that ran side by side."""
    return f"{statistics.median(a / b for a, b in zip(rounds, reference, strict=True)):.2f}"


def row(path: Path, folder: Path) -> str:
    """Time one model, compiled in a folder that no other model uses."""
    folder.mkdir()
    model = path.read_bytes()
    graph = passes.run(read_tflite.read(model, path.stem), "simd")
    x = np.random.default_rng(0).integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
    theirs, ours, wasm_seconds = litert(model, x), library(graph, x, folder), in_node(graph, folder)
    rounds: Any = ([], [], [])
    for _ in range(ROUNDS):
        rounds[0].append(once(theirs))
        rounds[1].append(once(ours))
        if wasm_seconds is not None:
            rounds[2].append(wasm_seconds())
    web = (text(rounds[2]), share(rounds[2], rounds[0])) if wasm_seconds else ("–", "–")
    figures = (
        f"{sum(OPS[node.op].macs(graph, node) for node in graph.nodes):,}",
        text(rounds[0]),
        text(rounds[1]),
        share(rounds[1], rounds[0]),
        *web,
        f"{compiling(model, path.stem, folder):.2f}",
    )
    return f"| {path.stem} | {' | '.join(figures)} |"


def main() -> None:
    """Write the table for the models named on the command line."""
    rows = list(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        rows += [row(model, Path(folder) / model.stem) for model in map(Path, sys.argv[1:])]
    machine = f"{platform.system()} {platform.machine()}"
    note = f"Measured, {date.today():%Y-%m-%d}, {machine}, zig; ELF for {BOARD}."
    (RESULTS / "host.md").write_text("\n".join([*rows, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
