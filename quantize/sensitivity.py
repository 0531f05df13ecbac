"""Which layer loses the signal: each op alone in int8, ranked, and the cheapest fix for the worst of them.

Every op is quantised alone, all others stay float, and the noise at the net's output is measured; so the
figure is the op's own, not what it inherits. For the worst ops the whole int8 net is then tried with the op's
output wider, which means that op and those that read it: int16 activations with int8 weights (one byte more
per value), and float (three bytes more). The cheaper one is proposed unless the dearer gives 3 dB more;
where neither helps the weights are at fault, and fine-tuning (quantize.qat) is left.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from quantize import int8
from quantize.worker import Worker, borrowed

Array = npt.NDArray[Any]
WORST = 3  # ops for which fixes are tried
WORTH_DB = 0.5  # a gain below this is no fix
DEARER_DB = 3.0  # what the dearer fix must give beyond the cheaper one
EXTRA_BYTES = {"int16": 1, "float": 3}  # per output value, over int8


@dataclass(frozen=True)
class Layer:
    """One op. `alone_db`: SQNR at the net's output when only this op is int8 (higher is better)."""

    name: str
    op: str
    alone_db: float
    fix: Literal["int16", "float", "none"] = "none"
    fixed_db: float | None = None  # SQNR of the int8 net with the fix
    extra_bytes: int = 0  # of RAM, that the fix costs


@dataclass(frozen=True)
class Sensitivity:
    """The int8 net's SQNR at its output, and its ops, the worst first."""

    total_db: float
    layers: tuple[Layer, ...]


def rank(
    float_model: bytes, samples: Array, *, worst: int = WORST, worker: Worker | None = None
) -> Sensitivity:
    """Return the ops of a float .tflite by their share of the int8 noise, on float32 samples (N, …).

    Raises:
        UserError: as int8.quantise.
    """
    with tempfile.TemporaryDirectory() as folder, borrowed(worker) as process:
        model, data = str(Path(folder) / "float.tflite"), str(Path(folder) / "samples.npy")
        Path(model).write_bytes(float_model)
        np.save(data, np.ascontiguousarray(samples, np.float32), allow_pickle=False)
        found = process.call("quantize.sensitivity", "measure", model=model, samples=data, worst=worst)
    return Sensitivity(found["total_db"], tuple(Layer(**layer) for layer in found["layers"]))


def measure(model: str, samples: str, worst: int) -> dict[str, Any]:
    """Do the work of `rank` on files. Runs in the worker."""
    source, data = Path(model).read_bytes(), np.load(samples, allow_pickle=False)
    expected = int8.run(source, data)
    ranges = int8.calibrate(source, data)

    def db(recipe: int8.Recipe) -> float:
        return int8.sqnr_db(expected, int8.run(int8.apply(source, ranges, recipe), data))

    total = db(int8.EVERYTHING)
    alone = [Layer(op.output, op.name, db(((_only(op.output), "int8"),))) for op in int8.operations(source)]
    alone.sort(key=lambda layer: layer.alone_db)
    made = int8.outputs(source)
    layers = [_fixed(layer, total, *made[layer.name], db) for layer in alone[:worst]] + alone[worst:]
    return json.loads(json.dumps({"total_db": total, "layers": [asdict(layer) for layer in layers]}))


def _fixed(layer: Layer, total: float, elements: int, readers: tuple[str, ...], db: Any) -> Layer:
    best, best_db = "none", total + WORTH_DB
    for fix in ("int16", "float"):
        try:
            after = db((*int8.EVERYTHING, *((_only(name), fix) for name in (layer.name, *readers))))
        except (RuntimeError, ValueError):
            continue  # LiteRT has no int16 kernel of this op, or the quantiser no recipe
        if after >= best_db + (DEARER_DB if best != "none" else 0.0):
            best, best_db = fix, after
    if best == "none":
        return layer
    return Layer(layer.name, layer.op, layer.alone_db, best, best_db, EXTRA_BYTES[best] * elements)  # type: ignore[arg-type]


def _only(name: str) -> str:
    """Return the pattern of ai-edge-quantizer's recipes that means this op and no other."""
    return f"^{re.escape(name)};?$"
