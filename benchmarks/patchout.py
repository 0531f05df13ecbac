"""How much faster PaSST trains with patches left out; writes results/patchout.md.

`python benchmarks/patchout.py`: steps of the full size on one clip of 10 s, in turns, so that what else the
machine does falls on all; about 4 minutes of one core.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models import passt, train
from models.blocks import cost
from models.blocks.patchout import Patchout

RESULTS = Path(__file__).parent / "results"
STEPS, CLASSES = 4, 527
KINDS = {
    "none": Patchout(),
    "structured, 40 columns and 4 rows": Patchout(40, 4),
    "unstructured, 400 patches": Patchout(patches=400),
}
HEAD = ("| patchout | patches | MMAC, forward | s a step | times as fast |", "|---|---|---|---|---|")


def ready(out: Patchout) -> Any:
    """Return the full size with `out`, compiled."""
    net = train.seeded(lambda: passt.net(replace(passt.FULL, patchout=out), CLASSES), 0)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(1e-3), loss, **train.compile_options())
    return net


def seconds(net: Any, x: Any, y: Any) -> float:
    """Return the time of one step."""
    start = time.perf_counter()
    net.train_on_batch(x, y)
    return time.perf_counter() - start


def main() -> None:
    """Measure, and write the table."""
    front = passt.frontend(passt.FULL)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, front.frames, front.features)).astype(np.float32)
    y = rng.integers(0, 2, (1, CLASSES)).astype(np.float32)
    nets = [ready(out) for out in KINDS.values()]
    for net in nets:
        seconds(net, x, y)  # traces the graph
    turns = [[seconds(net, x, y) for net in nets] for _ in range(STEPS)]
    grid = passt.FULL.patches.grid(front.frames, front.features)
    rows = []
    for index, (name, out) in enumerate(KINDS.items()):
        step = statistics.median(turn[index] for turn in turns)
        faster = statistics.median(turn[0] / turn[index] for turn in turns)
        forward = cost.shape_only(lambda out=out: passt.net(replace(passt.FULL, thinned=out), CLASSES))
        macs = cost.macs(forward) / 1e6
        rows.append(f"| {name} | {out.left(grid):,} | {macs:,.0f} | {step:.2f} | {faster:.2f} |")
    note = (
        "PaSST full, a training step (forward, backward, SGD) on one clip of 10 s, measured in one run, "
        f"{date.today():%Y-%m-%d}, one CPU core. Median of {STEPS} steps taken in turns; times as fast: "
        "median of the ratios within a turn."
    )
    (RESULTS / "patchout.md").write_text("\n".join([*HEAD, *rows, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
