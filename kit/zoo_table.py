"""What `earkit zoo build` says in the end: a record, the cells of a table, and a page for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from kit.zoo import Source, Zoo
from quantize import versions

FLOAT = ("scratch", "distilled", "full")  # stages of every seed
FIRST = ("pruned", "int8")  # stages of the first seed
COLUMNS = (
    "family", "data", "scratch", "distilled", "gain", "teacher", "pruned", "int8", "on board", "differ",
    "parameters", "weights", "RAM", "an inference", "a second",
)  # fmt: skip


def record(zoo: Zoo) -> dict[str, Any]:
    """Return everything that was built, as json types; means and deviations over folds and seeds."""
    order = zoo.order
    return {
        "date": f"{date.today():%Y-%m-%d}",
        "board": order.board,
        "seeds": list(range(order.seeds)),
        "epochs": order.epochs,
        "git_revision": versions.git_revision(),
        "versions": versions.packages(),
        "data": [
            {
                "name": one.name,
                "title": one.title,
                "sha256": one.sha256,
                "folds": list(one.folds),
                "metric": _metric(one),
            }
            for one in order.sources
        ],
        "rows": [_row(zoo, family, one) for family, one in order.pairs if _whole(zoo, family, one)],
        "failed": [
            {"family": family, "data": name, "error": why} for (family, name), why in zoo.failed.items()
        ],
    }


def _metric(source: Source) -> str:
    return "ccc" if source.regression else "accuracy"


def _whole(zoo: Zoo, family: str, source: Source) -> bool:
    return (family, source.name) not in zoo.failed


def _row(zoo: Zoo, family: str, source: Source) -> dict[str, Any]:
    """Return the figures of a family on a data set."""
    metric = _metric(source)
    cells = {
        (fold, seed): unit
        for (name, data, fold, seed), unit in zoo.records.items()
        if (name, data) == (family, source.name)
    }
    scores: dict[str, dict[tuple[str, int], float]] = {}
    for place, unit in sorted(cells.items()):
        for stage in unit["stages"]:
            scores.setdefault(stage["name"], {})[place] = stage[metric]
    first = [cells[fold, 0] for fold in source.folds]
    small = [unit["stages"][-1] for unit in first]
    devices = [unit["device"] for unit in first]
    gains = [
        scores["distilled"][place] - scores["scratch"][place]
        for place in scores.get("distilled", {})
        if place in scores.get("scratch", {})
    ]
    return {
        "family": family,
        "data": source.name,
        "metric": metric,
        "teacher": first[0]["teacher"],
        **{name: spread(list(scores[name].values())) for name in (*FLOAT, *FIRST) if name in scores},
        "gain": spread(gains) if gains else None,
        "device": {
            **spread([one["score"] for one in devices]),
            "origin": devices[0]["origin"],
            "mismatches": sum(one["mismatches"] for one in devices),
            "samples": sum(one["samples"] for one in devices),
        },
        "parameters": max(stage["parameters"] for stage in small),
        "weights_bytes": max(one["flash_bytes"]["weights"] for one in devices),
        "model_bytes": max(one["model_bytes"] for one in devices),
        "ram_bytes": max(one["ram_bytes"] for one in devices),
        "macs": max(one["macs"] for one in devices),
        "unit": devices[0]["unit"],
        "inference": int(np.median([one["inference"] for one in devices])),
        "second": int(np.median([one["second"] for one in devices])),
        "how": devices[0]["how"],
        "qat": sum(unit["qat"].startswith("used") for unit in first),
        "seconds": round(sum(unit["seconds"] for unit in cells.values())),
    }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, deviation (of a sample) and all of the values."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "deviation": deviation, "all": [float(v) for v in values]}


def cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the cells of COLUMNS for a row of the record."""
    device = row["device"]

    def said(name: str, signed: bool = False) -> str | None:
        return _said(row.get(name), row["metric"], signed)

    return (
        row["family"],
        row["data"],
        said("scratch"),
        said("distilled"),
        said("gain", signed=True),
        None if row["teacher"] == "none" else f"{row['teacher']} {said('full') or ''}".strip(),
        said("pruned"),
        said("int8"),
        said("device"),
        f"{device['mismatches']} of {device['samples']}",
        row["parameters"],
        row["weights_bytes"],
        row["ram_bytes"],
        row["inference"],
        f"{row['second']:,} ({row['how']})",
    )


def _said(part: Mapping[str, Any] | None, metric: str, signed: bool) -> str | None:
    """Return mean ± deviation: percent of accuracy, concordance as it is."""
    if part is None:
        return None
    plus = "+" if signed else ""
    if metric == "accuracy":
        return f"{100 * part['mean']:{plus}.1f} ± {100 * part['deviation']:.1f}"
    return f"{part['mean']:{plus}.3f} ± {part['deviation']:.3f}"


def verdict(whole: Mapping[str, Any]) -> str:
    """Return how often the teacher helped, in one line."""
    taught = [row for row in whole["rows"] if row["gain"]]
    better = [row for row in taught if row["gain"]["mean"] > 0]
    return f"Distilled beats scratch in {len(better)} of {len(taught)} rows that have a teacher."


def page(whole: Mapping[str, Any]) -> str:
    """Return the table as Markdown, with all that is needed to read it."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in whole["rows"]:
        shown = (f"{c:,}" if isinstance(c, int) else "–" if c is None else str(c) for c in cells(row))
        lines.append("| " + " | ".join(shown) + " |")
    data = "; ".join(
        f"{one['name']}: {one['title']}, {len(one['folds'])} folds, SHA-256 {one['sha256'][:12]}…"
        for one in whole["data"]
    )
    seeds = ", ".join(map(str, whole["seeds"]))
    epochs = "" if whole["epochs"] is None else f" At most {whole['epochs']} epochs of each training."
    counted = " and ".join(sorted({row["unit"] for row in whole["rows"]} or {"instructions"}))
    note = (
        f"{whole['date']}, {data}. Seeds {seeds} of the students; split, versions of the clips and teachers "
        f"of seed 0.{epochs} Accuracy in percent, concordance (ccc) for targets; mean ± deviation over "
        "folds and seeds, from `pruned` on over folds with seed 0. Gain: distilled less scratch, same fold "
        f"and seed. {verdict(whole)} Board: {whole['board']}, heard from int16 sound; {counted} "
        f"{_origins(whole)}. Differ: clips where board and host differ. Weights and RAM in bytes. A second "
        "of sound: hop by hop where the family streams, else a window each half of itself. Host columns "
        "measured."
    )
    failed = [f"Failed: {one['family']} on {one['data']}: {one['error']}." for one in whole["failed"]]
    return "\n".join([*lines, "", note, *failed, ""])


def _origins(whole: Mapping[str, Any]) -> str:
    return " and ".join(sorted({row["device"]["origin"] for row in whole["rows"]})) or "not counted"
