"""Instructions, RAM and flash of int8 models on every virtual board, beside TensorFlow Lite Micro's.

`python benchmarks/cortex_m.py kws_ref_model.tflite ad01_int8.tflite` writes results/cortex_m.md. The
baseline is TensorFlow Lite Micro 90b983c with CMSIS-NN 4ab83cc, GCC 12.2, counted in QEMU 7.2 the same way:
executed instructions of one inference, the lower of -O2 and -O3.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import date
from pathlib import Path

import boards
from kit import pipeline

RESULTS = Path(__file__).parent / "results"
BASELINE = {  # (model, core): instructions, arena bytes
    ("kws_ref_model", "cortex-m4"): (7_696_424, 22_820),
    ("kws_ref_model", "cortex-m7"): (7_642_171, 22_820),
    ("kws_ref_model", "cortex-m55"): (1_783_753, 27_348),
    ("kws_ref_model", "cortex-m3"): (10_531_213, 22_820),
    ("kws_ref_model", "cortex-m0plus"): (28_991_911, 22_820),
    ("ad01_int8", "cortex-m4"): (582_347, 2_580),
    ("ad01_int8", "cortex-m7"): (582_641, 2_580),
    ("ad01_int8", "cortex-m55"): (149_986, 9_268),
    ("ad01_int8", "cortex-m3"): (955_935, 2_580),
    ("ad01_int8", "cortex-m0plus"): (1_763_117, 2_580),
}
HEAD = (
    "| model | board | instructions | per MAC | of baseline | arena | its | stack | code | weights | diff |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


def row(model: Path, board: boards.Board, folder: Path) -> str:
    """Compile, run and count one model on one board."""
    build = pipeline.compile(model, board.name, folder / f"{model.stem}-{board.name}")
    profile = pipeline.profile(build.path, samples=12).profile or {}
    instructions, macs = profile["instructions"], build.sizes["macs"]
    known = BASELINE.get((model.stem, board.core))
    share, arena = (f"{instructions / known[0]:.2f}", f"{known[1]:,}") if known else ("–", "–")
    ram, flash = profile["ram_bytes"], profile["flash_bytes"]
    figures = (
        f"{instructions:,}",
        f"{instructions / macs:.2f}",
        share,
        f"{ram['arena']:,}",
        arena,
        f"{ram['stack_high_water']:,}",
        f"{flash['code']:,}",
        f"{flash['weights']:,}",
        f"{profile['mismatches']} of {profile['samples']}",
    )
    return f"| {model.stem} | {board.name} | {' | '.join(figures)} |"


def main() -> None:
    """Write the table for the models named on the command line."""
    rows = list(HEAD)
    with tempfile.TemporaryDirectory() as folder:
        for model in map(Path, sys.argv[1:]):
            rows += [row(model, board, Path(folder)) for board in map(boards.load, boards.names())]
    note = f"Emulated, {date.today():%Y-%m-%d}, zig; in bytes; diff: outputs where board and host differ."
    (RESULTS / "cortex_m.md").write_text("\n".join([*rows, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
