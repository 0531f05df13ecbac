"""Times bundles as wasm in headless Chromium, by the phone's own page, beside onnxruntime-web there.

python -m benchmarks.phone ESC10 [NAME …]   # of the shelf; needs node and npm
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import chromium
import phone_onnx
from phone_host import serving

from firmware.compiler.ops import OPS
from kit import runs, shelf
from kit.progress import silent
from kit.targets.phone import offer

RESULTS = Path(__file__).parent / "results"
MODELS = ("tiny_transformer-micro-esc10", "panns-micro-esc10", "conette-micro-esc10")
HOPS = {"panns-micro-esc10": (None, "100ms")}
HEAD = (
    "| bundle | a run takes | MACs | right | host | differ | median, ms | 95 % | 99 % | features, ms "
    "| module, KB | onnxruntime-web, ms |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
)
LINE = "document.querySelector('#line').textContent"


def row(name: str, hop: str | None, data: str, folder: Path) -> tuple[str, str]:
    """Test one bundle in the page with the clips of `data`; return its line and the browser."""
    made = offer.prepare(shelf.find(name), hop=hop, data=data, progress=silent)
    more = {} if hop else phone_onnx.files(made.bundle, folder)
    with serving(made, folder / "run", more=more) as served, chromium.running(folder) as browser:
        page = browser.open(served.codes[-1])
        page.wait(f"{LINE} === 'Ready. Tap Listen.'")
        page.tap("#test")
        page.wait(f"{LINE}.startsWith('Tested with')", 600)
        second = "–"
        if more:
            kept = made.bundle.arrays("expected.npz")["inputs"]
            _, times = phone_onnx.answers(page, kept.repeat(20, axis=0))
            second = f"{statistics.median(times):.3f}"
    told = runs.load(folder / "run").profile
    assert told is not None
    times, scores = told["latency"], told["accuracy"]
    right = ["–" if scores[key] is None else f"{100 * scores[key]:.1f} %" for key in ("device", "host_int8")]
    figures = [f"{times[key]:.3f}" for key in ("median", "p95", "p99")]
    features = told["frontend"] and f"{told['frontend']['milliseconds']:.3f}"
    macs = sum(OPS[node.op].macs(made.graph, node) for node in made.graph.nodes)
    cells = (
        *(name, hop or "a window", f"{macs:,}", *right, f"{told['mismatches']} of {told['samples']}"),
        *(*figures, features or "–", f"{len(made.module) / 1024:.0f}", second),
    )
    return f"| {' | '.join(cells)} |", told["device"]


def main() -> None:
    """Write the table."""
    rows, agent = list(HEAD), ""
    for name in sys.argv[2:] or MODELS:
        for hop in HOPS.get(name, (None,)):
            with tempfile.TemporaryDirectory() as folder:
                line, agent = row(name, hop, sys.argv[1], Path(folder))
            rows.append(line)
            write(rows, next(part for part in agent.split() if "Chrome" in part))


def write(rows: Sequence[str], browser: str) -> None:
    """Write the table with the rows that there are."""
    load = f"load {os.getloadavg()[1]:.1f} on {os.cpu_count()} CPUs"
    machine = f"{platform.system()} {platform.machine()} ({load})"
    note = f"""
Measured, {date.today():%Y-%m-%d}, {browser} on {machine}, one thread:
times of this machine, not of a phone. Host: its int8 on the same clips; differ: clips where the browser's
bytes are others. Features: of a window, in the same wasm. onnxruntime-web runs the same int8 model as Q/DQ
ONNX, each call through its JavaScript.
"""
    (RESULTS / "phone.md").write_text("\n".join([*rows, note]), encoding="utf-8")


if __name__ == "__main__":
    main()
