"""Cross-validation: every fold is held out once; one bundle per fold and the mean accuracy of every stage."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boards import atomic
from boards.errors import UserError
from models import data as datasets
from quantize import bundle, compress, jobs
from quantize.bundle import Bundle
from quantize.stages import Progress, silent

SUMMARY = "cross-validation.json"
EACH = ("samples", "parameters")  # what is kept of every fold beside its measure


def cross_validate(
    family: str,
    size: str,
    data: str | Path,
    *,
    out: Path,
    folds: Sequence[str] | None = None,
    progress: Progress = silent,
    **choices: Any,
) -> dict[str, Any]:
    """Compress once per fold into `out/fold-<name>`, and return the summary, which is also written to `out`.

    Args:
        family, size, data: as compress.compress.
        out: a folder. A fold whose bundle is there, made with the same settings, is not made again.
        folds: which; by default all of the data set.
        progress: told about every stage, the fold's name in front.
        choices: as compress.compress: teacher, seed, keep, epochs, seconds …

    Raises:
        UserError: the data has no folds, or as compress.compress.
    """
    wanted = tuple(folds) if folds is not None else datasets.load(str(data)).folds
    if len(wanted) < 2:
        raise UserError(
            f"{data}: cross-validation needs at least two folds or speakers, it has {len(wanted)}"
        )
    records = {}
    for fold in wanted:
        place = out / f"fold-{fold}"
        made = _fold(family, size, data, place, fold, progress, choices)
        records[fold] = made.evaluation()
    summary = summarise(records)
    atomic.write(out / SUMMARY, json.dumps(summary, indent=2).encode() + b"\n")
    return summary


def _fold(
    family: str,
    size: str,
    data: str | Path,
    out: Path,
    fold: str,
    progress: Progress,
    choices: dict[str, Any],
) -> Bundle:
    def tell(stage: str, done: int, total: int) -> None:
        progress(f"{fold}: {stage}", done, total)

    job = jobs.plan(family, size, data, held_out=fold, progress=tell, **choices)
    with contextlib.suppress(UserError):  # there is none, or it is damaged
        found = bundle.load(out)
        if found.provenance.settings_sha256 == job.digest:
            return found
    return compress.run(job, out, tell)


def summarise(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return means and deviations over the folds' eval.json, by stage; `pooled` weighs folds by clips."""
    stages: dict[str, dict[str, Any]] = {}
    first = next(iter(records.values()))
    metric = first.get("metric", "accuracy")
    for record in records.values():
        for stage in record["stages"]:
            empty: dict[str, Any] = {"what": stage["what"], "score": [], **{key: [] for key in EACH}}
            row = stages.setdefault(stage["name"], empty)
            row["score"].append(stage[metric])
            for key in EACH:
                row[key].append(stage[key])
    summary = {
        "folds": list(records),
        "labels": first["labels"],
        "stages": {name: _spread(row) for name, row in stages.items()},
    }
    if metric != "accuracy":
        return {**summary, "metric": metric}
    confusion = np.sum([record["confusion"] for record in records.values()], axis=0)
    return {**summary, "confusion": confusion.tolist()}


def _spread(row: dict[str, Any]) -> dict[str, Any]:
    score, samples = np.array(row["score"]), np.array(row["samples"])
    return {
        "what": row["what"],
        "by_fold": row["score"],
        "mean": float(score.mean()),
        "deviation": float(score.std(ddof=1)) if len(score) > 1 else 0.0,
        "pooled": float((score * samples).sum() / samples.sum()),
        "samples": int(samples.sum()),
        "parameters": row["parameters"],
    }
