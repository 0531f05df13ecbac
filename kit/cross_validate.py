"""Cross-validation to the end of the road: every fold held out once, compressed, and heard on a board."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import boards
from kit import pipeline, runs
from kit.figures import measure_of
from kit.outputs import room_for, write_text
from kit.progress import Progress, silent


def cross_validate(
    family: str,
    size: str,
    data: str,
    out: Path,
    *,
    board: str | None = None,
    progress: Progress = silent,
    **choices: Any,
) -> dict[str, Any]:
    """Return the accuracy of every stage over all folds of `data`, the last one on `board` if there is one.

    Args:
        family, size, data: as pipeline.compress.
        out: a folder; each fold leaves its bundle, build and run there; a second call trains none again.
        board: see `earkit boards`.
        progress: told about every stage, the fold's name in front.
        choices: as pipeline.compress: teacher, seed, keep, epochs, seconds, scratch.

    Raises:
        UserError: the data has no folds, or any of the stages' own.
    """
    from quantize import cross_validate as folds

    if board is not None:
        boards.load(board)
    pipeline.check_request(family, size, data, choices.get("teacher"))
    room_for(out, folder=True)
    summary = folds.cross_validate(family, size, data, out=out, progress=progress, **choices)
    if board is not None:
        heard = {fold: _on_board(out, fold, board, progress) for fold in summary["folds"]}
        summary = {**summary, "board": board, "device": _device(heard)}
        write_text(out / folds.SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def _on_board(out: Path, fold: str, board: str, progress: Progress) -> dict[str, Any]:
    def tell(stage: str, done: int, total: int) -> None:
        progress(f"{fold}: {stage}", done, total)

    build, place = out / f"build-{fold}", out / f"run-{fold}"
    pipeline.compile(out / f"fold-{fold}", board, build, progress=tell)
    run = pipeline.profile(build, progress=tell)
    runs.save(run, place)
    return dict(run.profile or {})


def _device(profiles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    metric = measure_of(*profiles.values()).key
    scores = [profile[metric]["device"] for profile in profiles.values()]
    clips = [profile["samples"] for profile in profiles.values()]
    return {
        "origin": next(iter(profiles.values()))["origin"],
        "by_fold": scores,
        "mean": float(np.mean(scores)),
        "deviation": float(np.std(scores, ddof=1)),
        "pooled": float(np.average(scores, weights=clips)),
        "samples": sum(clips),
        "mismatches": sum(profile["mismatches"] for profile in profiles.values()),
        "instructions": [profile["instructions"] for profile in profiles.values()],
        "ram_bytes": max(profile["ram_bytes"]["total"] for profile in profiles.values()),
        "flash_bytes": max(profile["flash_bytes"]["total"] for profile in profiles.values()),
    }
