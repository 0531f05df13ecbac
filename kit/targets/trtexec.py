"""TensorRT by its program `trtexec`: engines are built, checked and timed. Runs on the device too, by itself.

It is copied to the device and started there as `python3 trtexec.py check` (build the engine unless it is
there, let it answer, compare) or `measure` in a folder with model.onnx and job.json; so: Python 3.8 and its
standard library only. Both print one JSON object, or one line on stderr.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    Version = tuple[int, ...]
    Json = dict[str, Any]

PLACES = ("/usr/src/tensorrt/bin/trtexec", "/usr/local/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec")
ENGINE, KEY = "model.engine", "model.engine.key"
BUILD_S, RUN_S = 1800, 300  # seconds at most
WARM_UP_MS, SECONDS, FEWEST = 500, 5, 200  # of a measurement
STAND_IN = "stand-in"  # in the banner of a program that only plays TensorRT: it has no figures

BANNER = re.compile(r"&&&& (\w+) TensorRT\.trtexec(?: \[TensorRT v(\d[\d.]{2,19})\])?")
NUMBER = r"([-+.\deinfa]+)"
TIMES = re.compile(rf"(min|max|mean|median|percentile\((\d+)%\)) = {NUMBER} ms")
GROUPS = {
    "Latency": "latency",
    "Enqueue Time": "enqueue",
    "H2D Latency": "to_gpu",
    "GPU Compute Time": "compute",
    "D2H Latency": "from_gpu",
}
SINGLE = {
    "throughput": re.compile(rf"Throughput: {NUMBER} qps"),
    "count": re.compile(r"Timing trace has (\d+) queries"),
    "build_seconds": re.compile(rf"Engine built in {NUMBER} sec"),
}
CURES = (
    ("unknown option", "this earkit does not know its flags; report it with the version"),
    ("memory", "close other programs there, or add swap"),
    ("no space", "free some space there"),
    ("serializ", "TensorRT was changed since the engine was built: `earkit flash` again"),
    ("cuda", "does `nvidia-smi` or `tegrastats` see the GPU there, and may this user use it (group video)?"),
    ("pars", "it has no layer for an op of this model"),
)


class TrtexecError(Exception):
    """One line on what went wrong, with the cure."""


def parse(log: str) -> Json:
    """Return what a log of trtexec says; None for what it does not.

    `latency`, `compute` … are {min, max, mean, median, p90 …} in milliseconds, `throughput` in inferences a
    second, both of a run that passed only. `verdict` is PASSED, FAILED or None: it did not end.
    """
    banners = BANNER.findall(log)
    verdicts = [word for word, _ in banners if word in ("PASSED", "FAILED")]
    found: Json = {
        "verdict": verdicts[-1] if verdicts else None,
        "version": next((text for _, text in banners if text), None),
        "stand_in": any(STAND_IN in line for line in log.splitlines() if BANNER.search(line)),
        "errors": [_said(line) for line in log.splitlines() if "[E] " in line],
        "warnings": [_said(line) for line in log.splitlines() if "[W] " in line],
    }
    passed = log if found["verdict"] == "PASSED" else ""
    for name, pattern in SINGLE.items():
        match = pattern.search(passed)
        found[name] = None if match is None else _number(match.group(1))
    for title, name in GROUPS.items():
        line = re.search(rf"(?m)(?:^|\] ){re.escape(title)}: (min = .*)$", passed)
        found[name] = None if line is None else _times(line.group(1))
    if found["version"]:
        found["version"] = ".".join(map(str, version(found["version"])))
    return found


def _said(line: str) -> str:
    return re.sub(r"^.*?\[[EW]\] (\[TRT\] )?", "", line).strip()


def _times(text: str) -> dict[str, float] | None:
    found = {}
    for name, percent, value in TIMES.findall(text):
        number = _number(value)
        if number is not None:
            found["p" + percent if percent else name] = number
    return found if {"min", "max", "mean", "median"} <= set(found) else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def version(text: str) -> Version:
    """Return the numbers of a version: 8502 is 8.5.2, 100300 is 10.3.0, 11.1.0.106 is 11.1.0."""
    if "." in text:
        return tuple(int(part) for part in text.split(".")[:3] if part)
    value = int(text)
    base = 10_000 if value >= 100_000 else 1_000
    return value // base, value % base // 100, value % 100


def precision(release: Version, int8: bool) -> list[str]:
    """Return the flags of what an engine may compute in: from 11 on the model's own types decide."""
    if release >= (11,):
        return ["--stronglyTyped"]
    return ["--int8", "--fp16"] if int8 else ["--fp16"]


def building(release: Version, job: Json) -> list[str]:
    """Return the arguments that build the engine of `job`."""
    only = "--skipInference" if release >= (8, 6) else "--buildOnly"
    chosen = [*_shape(job), *precision(release, job["int8"])]
    return ["--onnx=model.onnx", f"--saveEngine={ENGINE}.part", only, *chosen]


def answering(release: Version, job: Json, index: int) -> list[str]:
    """Return the arguments that let the engine answer input `index` once."""
    files = [f"--loadInputs={job['input']}:input{index}.bin", f"--exportOutput=output{index}.json"]
    once = ["--iterations=1", "--warmUp=0", "--duration=0"]
    return [f"--loadEngine={ENGINE}", *_shape(job), *files, *once, *_copies(release)]


def measuring(release: Version, job: Json) -> list[str]:
    """Return the arguments that time the engine, copies to and from the GPU among it, then its layers."""
    ran = [f"--warmUp={WARM_UP_MS}", f"--duration={SECONDS}", f"--iterations={FEWEST}", "--avgRuns=100"]
    own = [] if release >= (11,) else ["--useSpinWait", "--useCudaGraph", "--separateProfileRun"]
    own += ["--exportProfile=layers.json", *_copies(release)]
    return [f"--loadEngine={ENGINE}", *_shape(job), *ran, *own]


def _shape(job: Json) -> list[str]:
    """Return the shape of a model that leaves it open; to others trtexec takes none."""
    return [f"--shapes={job['input']}:1x{'x'.join(map(str, job['shape']))}"] if job["open"] else []


def _copies(release: Version) -> list[str]:
    return ["--includeDataTransfers"] if release >= (11,) else []


def find() -> str:
    """Return where trtexec is; TrtexecError: nowhere."""
    for place in (shutil.which("trtexec"), *PLACES):
        if place and os.access(place, os.X_OK):
            return place
    raise TrtexecError("there is no trtexec: sudo apt install libnvinfer-bin (a part of JetPack)")


def release_of(program: str) -> Version:
    """Return the version of TensorRT that a trtexec is of; TrtexecError: it does not say."""
    for arguments in (["--help"], []):  # without a model it fails, and says its version before
        log = _ran([program, *arguments], 60)[1]
        for _, text in BANNER.findall(log):
            if text:
                return version(text)
    raise TrtexecError(f"{program} does not say its version: is TensorRT whole there?")


def _ran(command: Sequence[str], limit: float) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise TrtexecError(f"trtexec did not end within {limit:.0f} s: is the device busy?") from None
    except OSError as error:
        raise TrtexecError(f"{command[0]} does not start: {error.strerror}") from None
    return done.returncode, done.stdout.decode("utf-8", "replace")


def run(program: str, arguments: Sequence[str], limit: float) -> str:
    """Return the log of a run that passed; TrtexecError: it did not, and why."""
    code, log = _ran([program, *arguments], limit)
    report = parse(log)
    if code == 0 and report["verdict"] == "PASSED":
        return log
    raise TrtexecError(why(report, code))


def why(report: Json, code: int) -> str:
    """Return the line on a run that did not pass."""
    reason = next(iter(report["errors"]), None)
    if reason is None:
        killed = code in (-9, 137)
        reason = "it was killed, perhaps for want of memory" if killed else f"it ended with {code}"
    cure = next((cure for word, cure in CURES if word in reason.lower()), None)
    reason = " ".join(reason.split())[:200].rstrip(":")
    return f"TensorRT {report['version'] or ''}: {reason}" + (f": {cure}" if cure else "")


def check(job: Json) -> Json:
    """Build the engine unless it is there, let it answer every input, compare; TrtexecError: it differs."""
    program = find()
    release = release_of(program)
    took = build(program, release, job)
    outputs = [_answer(program, release, job, index) for index in range(len(job["outputs"]))]
    said = compare(job["outputs"], outputs)
    if said["decibel"] is not None and said["decibel"] < job["least_decibel"]:
        raise TrtexecError(
            f"the engine's outputs are {said['decibel']:.1f} dB from the host's, at least "
            f"{job['least_decibel']:g} are wanted (largest difference {said['largest']:.4g}): this TensorRT "
            "computes something else; try another JetPack, and report it with the model"
        )
    return {**took, "tensorrt": ".".join(map(str, release)), "program": program, "compared": said}


def build(program: str, release: Version, job: Json) -> Json:
    """Build the engine unless the same TensorRT built it from the same model with the same flags."""
    arguments = building(release, job)
    key = json.dumps([job["sha256"], list(release), arguments])
    if os.path.exists(ENGINE) and os.path.exists(KEY) and _text(KEY) == key:
        return {"built": False, "build_seconds": None, "engine_bytes": os.path.getsize(ENGINE)}
    began = time.monotonic()
    log = run(program, arguments, BUILD_S)
    if not os.path.exists(f"{ENGINE}.part"):
        raise TrtexecError("trtexec passed, and there is no engine: is the disk full?")
    os.replace(f"{ENGINE}.part", ENGINE)
    with open(KEY, "w", encoding="utf-8") as file:
        file.write(key)
    seconds = None if parse(log)["stand_in"] else time.monotonic() - began
    return {"built": True, "build_seconds": seconds, "engine_bytes": os.path.getsize(ENGINE)}


def _answer(program: str, release: Version, job: Json, index: int) -> list[float]:
    _forget(f"output{index}.json")
    run(program, answering(release, job, index), RUN_S)
    return outputs_of(_text(f"output{index}.json"))


def outputs_of(text: str) -> list[float]:
    """Return the values that --exportOutput wrote of the only output; TrtexecError: they are no numbers."""
    try:
        (tensor,) = json.loads(text)
        values = [float(value) for value in tensor["values"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        values = []
    if not values or not all(map(math.isfinite, values)):
        raise TrtexecError("the engine's outputs are no numbers: " + " ".join(text.split())[:80])
    return values


def compare(wanted: Sequence[Sequence[float]], found: Sequence[Sequence[float]]) -> Json:
    """Return how far outputs (N, classes) are from those wanted: decibel, the largest, same choices."""
    if [len(row) for row in wanted] != [len(row) for row in found]:
        raise TrtexecError("the engine has another number of outputs than the model")
    pairs = [(a, found[row][at]) for row, one in enumerate(wanted) for at, a in enumerate(one)]
    signal, noise = sum(a * a for a, _ in pairs), sum((a - b) ** 2 for a, b in pairs)
    same = sum(_first(one) == _first(found[row]) for row, one in enumerate(wanted))
    decibel = 10 * math.log10(signal / noise) if signal and noise else None  # None: not one bit differs
    largest = max((abs(a - b) for a, b in pairs), default=0.0)
    return {"inputs": len(wanted), "decibel": decibel, "largest": largest, "same_choice": same}


def _first(row: Sequence[float]) -> int:
    return max(range(len(row)), key=row.__getitem__)


def measure(job: Json) -> Json:
    """Return the logs of a measurement: trtexec's, its layers, what the device said of itself meanwhile."""
    program = find()
    release = release_of(program)
    state = {name: _asked(command) for name, command in STATE.items()}
    stats = "tegrastats.log"
    _forget("layers.json")
    open(stats, "wb").close()
    watcher = _watching(stats)
    try:
        log = run(program, measuring(release, job), RUN_S)
    finally:
        if watcher is not None:
            watcher.terminate()
            try:
                watcher.wait(5)
            except subprocess.TimeoutExpired:
                watcher.kill()
                watcher.wait()
    layers = _text("layers.json") if os.path.exists("layers.json") else None
    return {"log": log, "layers": layers, "tegrastats": _text(stats), "state": state}


STATE = {
    "nvpmodel": ["nvpmodel", "-q"],
    "jetson_clocks": ["sudo", "-n", "jetson_clocks", "--show"],  # it is for root; no password is asked
    "release": ["cat", "/etc/nv_tegra_release"],
    "module": ["cat", "/proc/device-tree/model"],
}


def _asked(command: Sequence[str]) -> str | None:
    """Return what a program says; None: it is not there, or may not be asked."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _watching(path: str) -> Any:
    try:
        with open(path, "wb") as file:
            return subprocess.Popen(
                ["tegrastats", "--interval", "100"], stdout=file, stderr=subprocess.DEVNULL
            )
    except OSError:
        return None


def _forget(path: str) -> None:
    """Remove what an earlier run has written."""
    if os.path.exists(path):
        os.remove(path)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def main(verb: str) -> NoReturn:
    """Do `verb` in the current folder."""
    try:
        said = {"check": check, "measure": measure}[verb](json.loads(_text("job.json")))
    except (TrtexecError, OSError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)
    print(json.dumps(said))
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
