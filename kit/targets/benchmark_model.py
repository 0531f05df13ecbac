"""LiteRT's `benchmark_model` on a phone: its arguments, and what it prints."""

from __future__ import annotations

import re
import shlex
from typing import Any

from boards.errors import UserError

RUNS = 50
NUMBER = r"([\d.]+(?:e[+-]?\d+)?)"
NEW = re.compile(
    rf"Inference timings in us: Init: {NUMBER}, First inference: {NUMBER}, "
    rf"Warmup \(avg\): {NUMBER}, Inference \(avg\): {NUMBER}"
)
OLD = re.compile(rf"Average inference timings in us: Warmup: {NUMBER}, Init: {NUMBER}, Inference: {NUMBER}")
SPREAD = re.compile(
    rf"count=(\d+)(?: first={NUMBER})?(?: curr={NUMBER})?(?: min={NUMBER} max={NUMBER})? avg={NUMBER}"
    rf"(?: std={NUMBER})?"
)
PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {NUMBER}")


def command(program: str, model: str, threads: int = 1, mask: str | None = None) -> str:
    """Return the shell command that measures `model` (a path on the phone) with XNNPACK, per op as well."""
    arguments = [
        program,
        f"--graph={model}",
        f"--num_threads={threads}",
        "--use_xnnpack=true",
        "--warmup_runs=5",
        f"--num_runs={RUNS}",
        "--enable_op_profiling=true",
        "--report_peak_memory_footprint=true",
    ]
    pinned = ["taskset", mask, *arguments] if mask else arguments
    return shlex.join(pinned)


def parse(text: str) -> dict[str, Any]:
    """Return microseconds (init, first, warm_up, mean, and of the runs count, min, max, std) and the ops.

    Raises:
        UserError: the text holds no timing, what it said instead; or numbers that are none.
    """
    try:
        return _parsed(text)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise UserError(
            f"benchmark_model's report is not understood ({error}): run it by hand with `adb shell`"
        ) from None


def _parsed(text: str) -> dict[str, Any]:
    made: dict[str, Any] = {"init": None, "first": None}
    if found := NEW.search(text):
        made |= dict(zip(("init", "first", "warm_up", "mean"), map(float, found.groups()), strict=True))
    elif found := OLD.search(text):
        made |= dict(zip(("warm_up", "init", "mean"), map(float, found.groups()), strict=True))
    else:
        lines = [line.strip() for line in text.splitlines() if "ERROR" in line or "error" in line]
        said = (lines or text.strip().splitlines() or ["nothing"])[-1].strip()[:200]
        raise UserError(f"benchmark_model gave no timing, it said {said!r}: run it by hand with `adb shell`")
    counted = [one for one in SPREAD.finditer(text) if one[4] is not None]
    if counted:  # the last line of this kind is that of the counted runs
        last = counted[-1]
        std = None if last[7] is None else float(last[7])
        made |= {"count": int(last[1]), "min": float(last[4]), "max": float(last[5]), "std": std}
    peak = PEAK.search(text)
    return {**made, "peak_mb": float(peak[1]) if peak else None, "ops": _ops(text)}


def _ops(text: str) -> list[dict[str, Any]]:
    """Return the rows of the last table in order of execution; columns by the names in its head."""
    rows: list[dict[str, Any]] = []
    for table in text.split("Run Order ==")[1:]:
        lines = iter(table.splitlines())
        names = next((re.findall(r"\[([^\]]+)\]", line) for line in lines if "[node type]" in line), [])
        rows = []
        for line in lines:
            cells = [cell.strip() for cell in line.split("\t") if cell.strip()]
            if len(cells) != len(names):
                break
            row = dict(zip(names, cells, strict=True))
            rows.append(
                {
                    "op": row["node type"],
                    "milliseconds": float(row.get("avg ms") or row["avg_ms"]),
                    "percent": float(row["%"].rstrip("%")),
                    "name": row.get("Name", ""),
                }
            )
    return rows
