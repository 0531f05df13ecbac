"""What one process of `earkit zoo build` does: prepare a fold, or take a family from there to the board.

Arguments and results are JSON. Everything is kept in `place`, so that a second call returns at once.
"""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from boards.errors import UserError
from firmware.compiler import passes, read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.stream import stream
from kit import pipeline, runs
from kit.figures import measure_of, unit_of
from kit.outputs import write_text
from models import registry
from quantize import bundle, cache, compress, jobs, prepare, teachers
from quantize.bundle import Bundle
from quantize.cache import Cache
from quantize.jobs import Job
from quantize.prepare import Splits

SIZE = "micro"
SPLIT_SEED = 0  # of the split, the versions of the clips and the teachers, for students of every seed
RESULT, BUNDLE, BUILD, RUN = "result.json", "bundle", "build", "run"
HOPS = (1, 2, 4, 8, 12, 16, 24)  # rows of the input that a stream may take at a time
NEAR = 1.1  # a shorter hop may cost so much more than the best


def prepared(
    source: str, fold: str, families: Sequence[str], teacher: str | None, epochs: int | None, shared: str
) -> list[str]:
    """Make the features and the teachers that the families need for a fold; return who failed, and why."""
    failed = []
    for family in families:
        try:
            job = jobs.planned(family, SIZE, _splits(source, fold), teacher=teacher, epochs=epochs)
            compress.school(job, Cache(Path(shared)), cache.teachers(), lambda *_: None)
        except Exception as error:  # one family must not take the fold with it
            failed.append(f"{family}: {_line(error)}")
    return failed


def student(
    source: str,
    fold: str,
    family: str,
    seed: int,
    teacher: str | None,
    epochs: int | None,
    board: str | None,
    shared: str,
    place: str,
) -> dict[str, Any]:
    """Return the record of one student of a fold: its float scores, and with `board` all to the board.

    A failure is a record too: {"error": one line}.
    """
    began, folder = time.monotonic(), Path(place)
    try:
        job = jobs.planned(
            family,
            SIZE,
            _splits(source, fold),
            teacher=teacher,
            seed=seed,
            epochs=epochs,
            scratch=board is not None,
        )
        wanted = {"digest": job.digest, "board": board}
        known = _known(folder / RESULT)
        if known and all(known.get(key) == value for key, value in wanted.items()):
            return known
        if board is None:
            stages = compress.float_only(
                job, folder / "float", features=Cache(Path(shared)), kept=cache.teachers()
            )
            record: dict[str, Any] = {"stages": [stage.model_dump(mode="json") for stage in stages]}
        else:
            record = _to_the_board(job, board, Path(shared), folder)
    except Exception as error:
        return {"error": _line(error)}
    whole = {**wanted, **record, "seconds": round(time.monotonic() - began, 1)}
    write_text(folder / RESULT, json.dumps(whole, indent=1) + "\n")
    return whole


@functools.lru_cache(maxsize=1)
def _splits(source: str, fold: str) -> Splits:
    return prepare.load(source, held_out=fold, seed=SPLIT_SEED, clips_per_class=None)


def _known(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _to_the_board(job: Job, board: str, shared: Path, folder: Path) -> dict[str, Any]:
    made = _bundle(job, shared, folder / BUNDLE)
    build = pipeline.compile(folder / BUNDLE, board, folder / BUILD)
    pipeline.flash(folder / BUILD)
    run = pipeline.profile(folder / BUILD)
    runs.save(run, folder / RUN)
    profile = dict(run.profile or {})
    metric = measure_of(profile).key
    unit = unit_of(profile)
    evaluation = made.evaluation()
    return {
        "stages": evaluation["stages"],
        "qat": evaluation["qat"],
        "teacher": str(job.trained) if job.trained else teachers.NONE,
        "device": {
            "origin": profile["origin"],
            "score": profile[metric]["device"],
            "mismatches": profile["mismatches"],
            "samples": profile["samples"],
            "unit": unit,
            "inference": profile[unit],
            **_second(made, folder, profile, unit, board),
            "macs": profile["macs"],
            "model_bytes": len(made.model()),
            "flash_bytes": build.sizes["flash_bytes"],
            "ram_bytes": profile["ram_bytes"]["total"],
            "guards_intact": profile["guards_intact"],
        },
    }


def _bundle(job: Job, shared: Path, out: Path) -> Bundle:
    if out.exists():
        try:
            found = bundle.load(out)
            if found.provenance.settings_sha256 == job.digest:
                return found
        except UserError:  # damaged: made again
            shutil.rmtree(out, ignore_errors=True)
    return compress.run(job, out, features=Cache(shared))


def _second(made: Bundle, folder: Path, profile: dict[str, Any], unit: str, board: str) -> dict[str, Any]:
    """Return the work for a second of sound: hop by hop where the family streams, else with whole windows."""
    told, how = profile["per_second"]["window"], "window"
    rows = _rows(made.model()) if registry.card(made.family).streaming == "frame" else None
    if rows is not None:
        front = made.frontend
        hop = f"{1000 * rows * front.hop / front.sample_rate:g}ms"
        pipeline.compile(folder / BUNDLE, board, folder / "stream", hop=hop)
        streamed = pipeline.profile(folder / "stream", samples=1).profile or {}
        told, how = streamed["per_second"]["stream"], f"stream, {hop}"
    return {"second": told, "how": how}


def _rows(model: bytes) -> int | None:
    """Return how many of HOPS cost least for each row, the fewest where several do; None: none streams."""
    graph, cost = passes.run(read_tflite.read(model, "model"), "c"), {}
    for rows in HOPS:
        with suppress(ModelError):
            cost[rows] = stream(graph, rows).macs / rows
    least = min(cost.values(), default=0.0)
    return next((rows for rows, each in cost.items() if each <= NEAR * least), None)
