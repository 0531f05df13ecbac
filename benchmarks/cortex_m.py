"""Instructions, RAM and flash of int8 models on every virtual board, beside TensorFlow Lite Micro's.

`python -m benchmarks.cortex_m kws_ref_model.tflite ad01_int8.tflite` compiles each model with zig and with
GCC, runs it on every board, and writes results/cortex_m.md (one line a board, as in the README) and
results/cortex_m_ops.md (each operator). Instructions are executed ones; cycles are estimated, see cycles.py.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import boards
from benchmarks import baseline, cycles
from boards.errors import UserError
from firmware.compiler import toolchain
from firmware.compiler.toolchain import Toolchain
from kit import pipeline

RESULTS = Path(__file__).parent / "results"
KINDS: tuple[Toolchain, ...] = ("zig", "gcc")
SAMPLES = 12  # drawn inputs whose outputs are compared with the host's
HEAD = (
    "| model | board | instructions | per MAC | of baseline | with GCC | cycles (estimated) | RAM | its arena"
    " | stack | code | its code | weights | differ |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
)
NOTE = """Emulated, {day}, zig; memory in bytes. Baseline: {source}, published measurements.
With GCC: instructions relative to zig's. RAM: arena and states. Its: the baseline's. Differ: outputs where
board and host differ. Cycles are estimated from the executed instructions and published costs of each; for
M33 those of an M4, for M7 a lower bound; an emulated M55 does not tell its instructions."""


@dataclass(frozen=True)
class Run:
    """A model on a board through one compiler."""

    profile: Mapping[str, Any]
    cycles: int | None  # estimated


def run(model: Path, board: boards.Board, kind: Toolchain, folder: Path) -> Run:
    """Compile, run and count one model on one board."""
    made = pipeline.compile(model, board.name, folder / f"{model.stem}-{board.name}-{kind}", toolchain=kind)
    profile = pipeline.profile(made.path, samples=SAMPLES).profile or {}
    estimated = cycles.estimate(made) if kind == KINDS[0] else None
    return Run(profile, estimated.cycles if estimated else None)


def kinds() -> list[Toolchain]:
    """Return the compilers that are installed."""
    found = []
    for kind in KINDS:
        try:
            toolchain.driver(kind)
            found.append(kind)
        except UserError as missing:
            print(f"without {kind}: {missing}", file=sys.stderr)
    return found


def row(model: str, board: boards.Board, runs: Mapping[Toolchain, Run]) -> str:
    """Return a board's line of the table."""
    profile, other = runs["zig"].profile, runs.get("gcc")
    instructions, known = profile["instructions"], baseline.instructions(model, board.core)
    memory = baseline.memory(model, board.core)
    ram, flash = profile["ram_bytes"], profile["flash_bytes"]
    figures = (
        f"{instructions:,}",
        f"{instructions / profile['macs']:.2f}",
        f"{instructions / known:.3f}" if known else "–",
        f"{other.profile['instructions'] / instructions:.3f}" if other else "–",
        _count(runs["zig"].cycles),
        f"{ram['arena'] + ram['state']:,}",
        _count(memory and memory[0]),
        f"{ram['stack_high_water']:,}",
        f"{flash['code']:,}",
        _count(memory and memory[1]),
        f"{flash['weights']:,}",
        f"{profile['mismatches']} of {profile['samples']}",
    )
    return f"| {model} | {board.name} | {' | '.join(figures)} |"


def _count(figure: int | None) -> str:
    return "–" if figure is None else f"{figure:,}"


def operators(model: str, runs: Mapping[str, Mapping[Toolchain, Run]]) -> list[str]:
    """Return a model's table of operators: instructions a board, and how GCC's compare with zig's."""
    rows = [
        f"## {model}",
        "",
        f"| | operator | MACs | {' | '.join(runs)} |",
        "|---|---|---|" + "---|" * len(runs),
    ]
    first = next(iter(runs.values()))["zig"].profile["per_op"]
    for number, node in enumerate(first):
        cells = []
        for of_board in runs.values():
            counts = [of_board[kind].profile["per_op"][number]["instructions"] for kind in of_board]
            ratio = f" ({counts[1] / counts[0]:.2f})" if len(counts) > 1 and counts[0] else ""
            cells.append(f"{counts[0]:,}{ratio}")
        rows.append(f"| {number} | {node['op']} | {node['macs']:,} | {' | '.join(cells)} |")
    return [*rows, "", *_winners(runs), ""]


def _winners(runs: Mapping[str, Mapping[Toolchain, Run]]) -> list[str]:
    """Return for each board which compiler's code runs fewer instructions, operator by operator."""
    lines = []
    for board, of_board in runs.items():
        if len(of_board) < len(KINDS):
            continue
        zig, gcc = (_by_operator(of_board[kind].profile["per_op"]) for kind in KINDS)
        ratios = {op: gcc[op] / zig[op] for op in zig if zig[op]}
        parts = [f"{op} {'zig' if ratio >= 1 else 'gcc'} ({ratio:.2f})" for op, ratio in ratios.items()]
        lines.append(f"- {board}: {', '.join(parts)}")
    return ["Fewer instructions (GCC's relative to zig's):", "", *lines] if lines else []


def _by_operator(nodes: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for node in nodes:
        total[node["op"]] = total.get(node["op"], 0) + node["instructions"]
    return total


def main() -> None:
    """Write the tables for the models named on the command line."""
    compilers, rows, ops = (
        kinds(),
        list(HEAD),
        ["# Instructions of each operator, with zig (GCC relative to it)", ""],
    )
    with tempfile.TemporaryDirectory() as folder:
        for model in map(Path, sys.argv[1:]):
            found: dict[str, dict[Toolchain, Run]] = {}
            for board in map(boards.load, boards.names()):
                found[board.name] = {kind: run(model, board, kind, Path(folder)) for kind in compilers}
                rows.append(row(model.stem, board, found[board.name]))
                print(rows[-1], flush=True)
            ops += operators(model.stem, found)
    note = NOTE.format(day=f"{date.today():%Y-%m-%d}", source=baseline.SOURCE)
    (RESULTS / "cortex_m.md").write_text("\n".join([*rows, "", note, ""]), encoding="utf-8")
    (RESULTS / "cortex_m_ops.md").write_text("\n".join([*ops, note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
