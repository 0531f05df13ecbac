"""How inference grows with the tokens: SSAMBA tiny (linear scans) against SSAST tiny (attention).

`python -m benchmarks.scaling` writes results/scaling.md, in about two minutes of one core. Both nets are cut
to two layers, which are alike: the time of the whole is a multiple, its memory the same, for one layer runs
at a time. Each point is a process of its own, of one thread; it may have a share of the memory that was free
when the benchmark began. What does not fit is estimated from the two points before and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

RESULT = Path(__file__).parent / "results" / "scaling.md"
LAYERS = {"ssast": 12, "ssamba": 24}  # of the tiny sizes
DEPTH = 2  # of the nets here: SSAMBA's layers come in pairs
TOKENS = (2_048, 8_192, 22_016)
ROWS, SIDE = 8, 16  # patches of 16 × 16 in 128 bands: 8 tokens every 16 frames
HOP = 0.01  # seconds from frame to frame
SHARE = 0.6  # of the free memory that a point may have
LONGEST = 300  # seconds of the processor for a point
ALONE = {f"TF_NUM_{which}_THREADS": "1" for which in ("INTRAOP", "INTEROP")} | {"OMP_NUM_THREADS": "1"}
CLAIM = "92.7 % faster, 95.4 % less memory at about 22,000 tokens (arXiv 2405.11831, on a GPU)"


@dataclass(frozen=True)
class Point:
    """Seconds of the processor and bytes of one inference."""

    seconds: float
    bytes: float
    estimated: bool = False


def measure(family: str, tokens: int) -> Point:
    """Run two inferences of a batch of 1: the memory is that of the first, the time that of the second.

    The first makes the graph ready, which takes time; what it needs beside the layers is some MiB.
    """
    import keras
    import tensorflow as tf

    from models import registry

    loaded = registry.load(family)
    config = loaded.config("tiny", seconds=tokens // ROWS * SIDE * HOP)
    encoder = replace(config.encoder, layers=config.encoder.layers[:DEPTH])
    config = replace(config, max_frames=tokens // ROWS * SIDE, encoder=encoder)
    keras.utils.set_random_seed(0)
    net = loaded.net(config, 50)
    x = tf.constant(np.random.default_rng(0).normal(size=(1, *net.input_shape[1:])), tf.float32)
    infer = tf.function(lambda x: net(x, training=False)).get_concrete_function(x)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    held = _status("VmRSS")
    infer(x).numpy()
    peak, begun = _status("VmHWM") - held, time.process_time()
    infer(x).numpy()
    return Point(time.process_time() - begun, peak)


def _status(key: str) -> int:
    """Return a figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) * 1024


def free() -> int:
    """Return the bytes that the machine can give."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024


def point(family: str, tokens: int, limit: int, before: Sequence[Point]) -> Point:
    """Measure in a process that may have `limit` bytes; where that is too little, estimate."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--point", family, str(tokens)]

    def confine() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST))

    surroundings = {**os.environ, **ALONE, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=surroundings, preexec_fn=confine
    )
    if done.returncode == 0:
        return Point(**json.loads(done.stdout.splitlines()[-1]))
    if len(before) < 2:
        raise RuntimeError(f"{family} at {tokens} tokens: {done.stderr[-2000:]}")
    return estimate(tokens, before)


def estimate(tokens: int, before: Sequence[Point]) -> Point:
    """Return a·n + b·n² through the last two points, which is how attention grows."""
    n = np.array(TOKENS[: len(before)][-2:], np.float64)
    known = np.array([(p.seconds, p.bytes) for p in before[-2:]])
    found = np.array([tokens, tokens**2]) @ np.linalg.solve(np.stack([n, n * n], 1), known)
    return Point(float(found[0]), float(found[1]), estimated=True)


def row(tokens: int, points: dict[str, Point]) -> str:
    """Return the line of the table for a number of tokens."""
    theirs, ours = (points[family] for family in LAYERS)
    cells = [f"{tokens:,}", f"{tokens // ROWS * SIDE * HOP:,.1f}"]
    for found in (theirs, ours):
        mark = " (estimated)" if found.estimated else ""
        cells += [f"{found.seconds:.3g}{mark}", f"{found.bytes / 2**20:,.0f}{mark}"]
    whole = theirs.seconds * LAYERS["ssast"] / (ours.seconds * LAYERS["ssamba"])
    cells += [f"{whole:.2f} ×", f"{theirs.bytes / ours.bytes:.2f} ×"]
    return "| " + " | ".join(cells) + " |"


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
    known: dict[str, list[Point]] = {family: [] for family in LAYERS}
    for tokens in TOKENS:
        for family in LAYERS:
            known[family].append(point(family, tokens, limit, known[family]))
        rows.append(row(tokens, {family: known[family][-1] for family in LAYERS}))
        print(rows[-1], flush=True)
    RESULT.write_text(
        "\n".join(
            [
                f"{DEPTH} layers of SSAST tiny ({LAYERS['ssast']}) and SSAMBA tiny ({LAYERS['ssamba']}) in "
                f"TensorFlow, float32, batch 1, measured on one thread, {date.today()}. Seconds: of the "
                "processor. Memory: the peak above what the process held before; above "
                f"{limit / 2**30:.1f} GiB it is estimated, as a·n + b·n² through two points before, and so "
                "is the time. The last columns are of whole nets: times by layers, memory as measured.",
                "",
                "| tokens | sound, s | SSAST, s | SSAST, MiB | SSAMBA, s | SSAMBA, MiB | time, SSAST / SSAMBA"
                " | memory, SSAST / SSAMBA |",
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
