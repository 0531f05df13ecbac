"""How inference grows with the tokens: SSAMBA tiny (linear scans) against SSAST tiny (attention).

`python -m benchmarks.scaling` writes results/scaling.md. Each point is a process of its own, which may have
the memory that the machine had free when the benchmark began, and no more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results" / "scaling.md"
FAMILIES = ("ssast", "ssamba")
TOKENS = (512, 2_048, 8_192, 22_016)
ROWS, SIDE = 8, 16  # patches of 16 × 16 in 128 bands: 8 tokens every 16 frames
HOP = 0.01  # seconds from frame to frame
SHARE = 0.6  # of the free memory that a point may have
LONGEST = 240  # seconds of a point
REPEATS = {512: 5, 2_048: 3}  # else once
CLAIM = "92.7 % faster, 95.4 % less memory at about 22,000 tokens (arXiv 2405.11831, on a GPU)"


@dataclass(frozen=True)
class Point:
    """Seconds and bytes of one inference, or why there are none."""

    seconds: float | None
    bytes: int | None
    why: str = ""


def measure(family: str, tokens: int) -> Point:
    """Run one inference of a batch of 1, traced before; bytes are the peak above what the net holds."""
    import keras
    import tensorflow as tf

    from models import registry

    loaded = registry.load(family)
    config = loaded.config("tiny", seconds=tokens // ROWS * SIDE * HOP)
    config = replace(config, max_frames=tokens // ROWS * SIDE)
    keras.utils.set_random_seed(0)
    net = loaded.net(config, 50)
    x = tf.constant(np.random.default_rng(0).normal(size=(1, *net.input_shape[1:])), tf.float32)
    infer = tf.function(lambda x: net(x, training=False)).get_concrete_function(x)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    start, times = _status("VmRSS"), []
    for _ in range(REPEATS.get(tokens, 1)):
        begun = time.perf_counter()
        infer(x).numpy()
        times.append(time.perf_counter() - begun)
    return Point(float(np.median(times)), _status("VmHWM") - start)


def _status(key: str) -> int:
    """Return a figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


def free() -> int:
    """Return the bytes that the machine can give."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024


def point(family: str, tokens: int, limit: int) -> Point:
    """Measure in a process of its own that may have `limit` bytes."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--point", family, str(tokens)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        )
    except subprocess.TimeoutExpired:
        return Point(None, None, f"not done after {LONGEST} s")
    if done.returncode:
        return Point(None, None, f"out of {limit / 2**30:.1f} GiB")
    return Point(**json.loads(done.stdout.splitlines()[-1]))


def less(ours: Any, theirs: Any) -> str:
    """Return how much less `ours` is, as a share; a dash where one was not measured."""
    return "–" if ours is None or theirs is None else f"{1 - ours / theirs:.1%}"


def row(tokens: int, points: dict[str, Point]) -> str:
    """Return the line of the table for a number of tokens."""
    cells = [f"{tokens:,}", f"{tokens // ROWS * SIDE * HOP:,.1f}"]
    for family in FAMILIES:
        found = points[family]
        if found.seconds is None or found.bytes is None:
            cells += [found.why, "–"]
        else:
            cells += [f"{found.seconds:.3g}", f"{found.bytes / 2**20:,.0f}"]
    theirs, ours = (points[family] for family in FAMILIES)
    return (
        "| " + " | ".join([*cells, less(ours.seconds, theirs.seconds), less(ours.bytes, theirs.bytes)]) + " |"
    )


def main() -> None:
    """Measure every point and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        found = measure(arguments.point[0], int(arguments.point[1]))
        print(json.dumps(vars(found)))
        return
    limit, rows = int(SHARE * free()), []
    for tokens in TOKENS:
        points = {family: point(family, tokens, limit) for family in FAMILIES}
        rows.append(row(tokens, points))
        print(rows[-1], flush=True)
    cores = len(os.sched_getaffinity(0))
    RESULT.write_text(
        "\n".join(
            [
                "# Inference as the tokens grow",
                "",
                f"SSAST tiny and SSAMBA tiny, float32, batch 1, on {cores} cores of a CPU, {date.today()}. "
                f"Memory: the peak above what the process held before, of at most {limit / 2**30:.1f} GiB.",
                "",
                "| tokens | sound, s | SSAST, s | SSAST, MiB | SSAMBA, s | SSAMBA, MiB | faster | less memory"
                " |",
                "|---|---|---|---|---|---|---|---|",
                *rows,
                "",
                f"The paper: {CLAIM}.",
                "",
            ]
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
