"""MLPerf Tiny's own runner, unmodified, against a virtual board: accuracy and performance.

`python -m benchmarks.mlperf_runner RUNNER BUILD WORK` takes the folder benchmark/runner of mlcommons/tiny
and a build of its kws_ref_model.tflite for `--dialect mlperf`. The test set of the benchmark is not at
hand: the inputs are drawn and moved until each of the twelve classes has some, and their labels are what
TensorFlow Lite Micro's reference kernels say of them: the runner's top-1 is 100 % when board and host agree
on every one. RUNNER_PYTHON names a Python that has the runner's packages (pyserial, pyyaml, pyusb, scikit-
learn, matplotlib).
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firmware.compiler import build as builds
from kit import device, serve

Int8 = npt.NDArray[np.int8]
Run = Callable[[Int8], Int8]
CLASSES, SHAPE = 12, (49, 10)  # of kws01
EACH = 8  # inputs a class
POOL, CLIMB = 2000, 8000  # pictures to begin with, steps from the best of them
LEAST = 10.5  # seconds of the board's clock in a window: the rules want 10
KWS_INFER = re.compile(r"(?s)(\nkws01:.*?- infer )\d+ ")
VID, PID = 0x0483, 0x374B  # that the runner's devices_kws_ic_vww.yaml calls a device under test
PATCHED = """
import runpy, sys
from types import SimpleNamespace
import serial.tools.list_ports, usb.core
port = SimpleNamespace(device=sys.argv[1], vid={vid}, pid={pid}, description="a virtual board")
serial.tools.list_ports.comports = lambda *_, **__: [port]
usb.core.find = lambda *_, **__: []
sys.path.insert(0, sys.argv[2])
sys.argv = ["main.py", *sys.argv[3:]]
runpy.run_path(sys.path[0] + "/main.py", run_name="__main__")
"""


def fast(model: bytes) -> Run:
    """Return a function from an int8 input to LiteRT's int8 output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(x: Int8) -> Int8:
        interpreter.set_tensor(source["index"], x.reshape(source["shape"]))
        interpreter.invoke()
        found: Int8 = interpreter.get_tensor(target["index"])[0]
        return found

    return run


def reference(model: bytes) -> Run:
    """Return the same of TensorFlow Lite Micro's reference kernels, which round as the board does."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model)

    def run(x: Int8) -> Int8:
        interpreter.set_input(x.reshape(1, *SHAPE, 1), 0)
        interpreter.invoke()
        found: Int8 = interpreter.get_output(0)[0]
        return found

    return run


def drawn(model: bytes) -> list[tuple[Int8, int]]:
    """Return about EACH inputs for each class, with the class that the reference kernels give them."""
    run, exact = fast(model), reference(model)
    rng = np.random.default_rng(0)
    pool = [_patches(rng, rng.uniform(10, 90)) + rng.normal(40, 40) for _ in range(POOL)]
    pool[0] = np.full(
        SHAPE, 83.0
    )  # silence, which pictures do not come near: every coefficient but the first is 0
    pool[0][:, 0] = 127.0
    outputs = np.array([run(_int8(x)) for x in pool])
    found = []
    for label in range(CLASSES):
        x = pool[outputs[:, label].argmax()]
        best, kept = int(run(_int8(x))[label]), 0
        for _ in range(CLIMB):
            near = x + _patches(rng, rng.uniform(1, 20))
            output = run(_int8(near))
            if output[label] < min(best, 64):  # a probability of 3/4 is sure enough: from there on it wanders
                continue
            x, best = near, int(output[label])
            if output.argmax() == label and rng.random() < 1 / 8:
                found.append(_int8(x))
                kept += 1
            if kept == EACH:
                break
    return [(x, int(exact(x).argmax())) for x in found]


def _patches(rng: np.random.Generator, size: float) -> npt.NDArray[np.float64]:
    """Return a drawn picture of rectangles, as features of sounds are more or less."""
    times, bands = rng.integers(1, 13), rng.integers(1, 11)
    coarse = rng.normal(0, size, (SHAPE[0] // times + 1, SHAPE[1] // bands + 1))
    return np.kron(coarse, np.ones((times, bands)))[: SHAPE[0], : SHAPE[1]]


def _int8(x: npt.NDArray[np.float64]) -> Int8:
    return np.clip(np.rint(x), -128, 127).astype(np.int8)


def write(samples: list[tuple[Int8, int]], folder: Path) -> None:
    """Write samples as the runner reads them: a file each, and y_labels.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "y_labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        for number, (x, label) in enumerate(samples):
            (folder / f"{number:04}.bin").write_bytes(x.tobytes())
            rows.writerow((f"{number:04}.bin", CLASSES, label))


def run_mode(mode: str, port: str, runner: Path, work: Path, tests: Path) -> tuple[list[str], Any]:
    """Return what the runner printed at the end, and its results.json."""
    python = os.environ.get("RUNNER_PYTHON", sys.executable)
    devices = runner / "devices_kws_ic_vww.yaml"
    arguments = ("-d", devices, "-t", tests, "-s", work / "data", "-m", mode)
    code = PATCHED.format(vid=VID, pid=PID)
    command = [python, "-c", code, port, str(runner), *map(str, arguments)]
    before = set((work / "sessions").glob("*"))
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    sessions = sorted(set((work / "sessions").glob("*")) - before)
    if done.returncode or not sessions:
        raise SystemExit(f"the runner failed: {(done.stdout + done.stderr)[-2000:]}")
    results = json.loads((sessions[-1] / "results.json").read_text())
    lines = (sessions[-1] / "results.txt").read_text().splitlines()
    return [line.partition("ulp-mlperf: ")[2] or line for line in lines], results


def main() -> None:
    """Serve the board, let the runner loose on it, and compare every printed result with the host's."""
    runner, folder, work = (Path(argument).resolve() for argument in sys.argv[1:4])
    made = builds.load(folder)
    samples = drawn(made.model)
    print(f"{len(samples)} inputs, classes {sorted({label for _, label in samples})}")
    write(samples, work / "data" / "kws01")
    lengthened = long_enough(made, samples[0][0], runner / "tests_performance.yaml", work)
    stop, opened, ports = threading.Event(), threading.Event(), []

    def ready(port: str) -> None:
        ports.append(port)
        opened.set()

    thread = threading.Thread(target=serve.serve, args=(made,), kwargs={"ready": ready, "stop": stop})
    thread.start()
    try:
        opened.wait(120)
        printed, results = run_mode("a", ports[0], runner, work, runner / "tests_accuracy.yaml")
        print("\n".join(printed))
        compare(made, samples, results)
        printed, _ = run_mode("p", ports[0], runner, work, lengthened)
        print("\n".join(printed))
    finally:
        stop.set()
        thread.join()


def long_enough(made: builds.Build, x: Int8, script: Path, work: Path) -> Path:
    """Return the runner's performance script with as many inferences of kws01 as LEAST seconds need.

    How many a window takes is for whoever submits a board to say; the runner's own number is for a slow one.
    """
    with device.open(made, None) as board:
        count = math.ceil(LEAST * made.board.clock_hz / board.profile(x.ravel()).total)
    text, changed = KWS_INFER.subn(rf"\g<1>{count} ", script.read_text(encoding="utf-8"))
    assert changed == 1
    out = work / script.name
    out.write_text(text, encoding="utf-8")
    return out


def compare(made: builds.Build, samples: list[tuple[Int8, int]], results: list[Any]) -> None:
    """Print on how many inputs the runner's numbers are the host's, to the last decimal."""
    run, scaling = reference(made.model), made.graph.tensors[made.graph.outputs[0]].quantisation
    assert scaling is not None
    same = 0
    for (x, _), row in zip(samples, results, strict=True):
        real = (run(x).astype(np.float32) - scaling.zero_point[0]) * np.float32(scaling.scale[0])
        same += [f"{value:.3f}" for value in real] == [f"{value:.3f}" for value in row["infer"]["results"]]
    print(f"{same} of {len(samples)} results are the host's to the last decimal")


if __name__ == "__main__":
    main()
