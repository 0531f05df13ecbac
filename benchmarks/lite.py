"""LITE bundles on this machine: in XNNPACK beside a plain conversion of the same net, as C, and hop by hop.

python -m benchmarks.lite BUNDLE …   # such as of `earkit compress panns --size lite`; writes results/lite.md

Plain conversions are TensorFlow's own quantiser on the pruned net that the bundle's config describes, and on
the size before pruning; weights are drawn, since what an op takes does not depend on their values. All run
one thread, in turns, through Python.
"""

from __future__ import annotations

import platform
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import host
from boards.errors import UserError
from firmware.compiler.compiled import lower
from firmware.compiler.ops import OPS
from kit import hops
from models import registry
from quantize import bundle as bundles
from quantize.bundle import Bundle
from quantize.worker import Worker

RESULT = Path(__file__).parent / "results" / "lite.md"
HOP = "100ms"
CALIBRATION = 16  # drawn inputs
HEAD = (
    "| bundle | parameters | MACs | LiteRT, XNNPACK, µs | plainly converted, µs | ours / it "
    "| unpruned and plainly converted, µs | ours / it | C, µs "
    f"| C / XNNPACK | a hop of {HOP}: MACs | C, µs | hop / window |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
)


def plain(name: str, config: dict[str, Any], classes: int, out: str) -> None:
    """Write TensorFlow's int8 conversion of a family's net to the file `out`. Runs in a worker."""
    import tensorflow as tf

    family = registry.load(name)
    net = family.net(family.from_dict(config), classes)
    drawn = np.random.default_rng(0).normal(size=(CALIBRATION, 1, *net.inputs[0].shape[1:]))
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one] for one in drawn.astype(np.float32))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(out).write_bytes(converter.convert())


def converted(bundle: Bundle, folder: Path, worker: Worker) -> dict[str, bytes]:
    """Return the plain conversions of a bundle's net, and of its size before pruning."""
    sizes = {"plain": bundle.config, "unpruned": unpruned(bundle)}
    for kind, config in sizes.items():
        about = {"name": bundle.family, "config": config, "classes": len(bundle.labels)}
        worker.call("benchmarks.lite", "plain", **about, out=str(folder / f"{kind}.tflite"))
    return {kind: (folder / f"{kind}.tflite").read_bytes() for kind in sizes}


def unpruned(bundle: Bundle) -> dict[str, Any]:
    """Return the config of a bundle's size, for as much sound."""
    family = registry.load(bundle.family)
    return registry.to_dict(family.config(bundle.size, seconds=bundle.config["seconds"]))


def streamed(bundle: Bundle, name: str) -> Any:
    """Return the graph of one hop; None where no layer with weights flows."""
    try:
        return lower(bundle.model(), name, "simd", hops.rows(HOP, bundle.frontend))[1]
    except UserError:
        return None


def row(path: Path, folder: Path, worker: Worker) -> str:
    """Time one bundle, in a folder of its own."""
    folder.mkdir()
    bundle, name = bundles.load(path), path.name.removesuffix(".zip")
    model, rng = bundle.model(), np.random.default_rng(0)
    graphs = {"window": lower(model, name, "simd")[1], "hop": streamed(bundle, name)}
    runs, macs = {}, {}
    for kind, graph in graphs.items():
        if graph is not None:
            x = rng.integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
            (folder / kind).mkdir()
            runs[kind] = host.library(graph, x, folder / kind)
            macs[kind] = sum(OPS[node.op].macs(graph, node) for node in graph.nodes)
            if kind == "window":
                runs["litert"] = host.litert(model, x)
                runs |= {k: host.litert(one, x) for k, one in converted(bundle, folder, worker).items()}
    rounds: dict[str, list[float]] = {kind: [] for kind in runs}
    for _ in range(host.ROUNDS):
        for kind, run in runs.items():
            rounds[kind].append(host.once(run))
    hop = ("–",) * 3
    if "hop" in runs:
        hop = (f"{macs['hop']:,}", host.text(rounds["hop"]), host.share(rounds["hop"], rounds["window"]))
    figures = (
        f"{bundle.evaluation()['stages'][-1]['parameters']:,}",
        f"{macs['window']:,}",
        host.text(rounds["litert"]),
        host.text(rounds["plain"]),
        host.share(rounds["litert"], rounds["plain"]),
        host.text(rounds["unpruned"]),
        host.share(rounds["litert"], rounds["unpruned"]),
        host.text(rounds["window"]),
        host.share(rounds["window"], rounds["litert"]),
        *hop,
    )
    return f"| {name} | {' | '.join(figures)} |"


def main() -> None:
    """Write the table for the bundles named on the command line."""
    rows = list(HEAD)
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        rows += [row(path, Path(folder) / path.name, worker) for path in map(Path, sys.argv[1:])]
    note = (
        f"Measured, {date.today():%Y-%m-%d}, {platform.system()} {platform.machine()}, one thread, zig; "
        f"median of {host.ROUNDS} rounds (best); quotients are of rounds side by side."
    )
    RESULT.write_text("\n".join([*rows, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
