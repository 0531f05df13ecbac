"""A run on disk: profile.json, and beside it what the report draws (run.json, listening.npz)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from boards.errors import UserError
from kit.outputs import write_bytes, write_text
from kit.records import Detection, Listening, Run
from kit.terminal import text_of
from quantize.bundle import read_npz, write_npz

PROFILE, REST, HEARD = "profile.json", "run.json", "listening.npz"
PARTS = ("evaluation", "memory", "confusion", "provenance")
MAX_JSON = 64 << 20  # bytes


def save(run: Run, folder: Path) -> None:
    """Write `run` into `folder`, each file whole or not at all, the profile last."""
    if run.listening is not None:
        save_listening(run.listening, folder)
    rest = {"name": run.name, **{part: getattr(run, part) for part in PARTS}}
    write_text(folder / REST, text_of(rest))
    write_text(folder / PROFILE, text_of(run.profile or {}))


def load(folder: Path) -> Run:
    """Return the run that `earkit profile` or `earkit demo` wrote.

    Raises:
        UserError: there is none, or it is damaged.
    """
    there = {name for name in (PROFILE, REST, HEARD) if (folder / name).is_file()}
    if not there & {PROFILE, HEARD}:
        raise UserError(f"{folder}: no {PROFILE} in it, so it is not a run; `earkit profile` makes one")
    rest = _object(folder / REST) if REST in there else {}
    return Run(
        str(rest.get("name", folder.absolute().name)),
        profile=_object(folder / PROFILE) if PROFILE in there else None,
        listening=_load_listening(folder / HEARD) if HEARD in there else None,
        **{part: rest.get(part) for part in PARTS},
    )


def _object(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_JSON:
        raise UserError(f"{path}: {path.stat().st_size >> 20} MB, at most {MAX_JSON >> 20} MB; profile again")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({' '.join(str(error).split())[:80]}); profile again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object; profile again")
    return value


def save_listening(heard: Listening, folder: Path) -> None:
    """Write what was heard into `folder`, for the report."""
    about = {
        "source": heard.source,
        "rate": heard.rate,
        "labels": heard.labels,
        "events": [asdict(event) for event in heard.events],
        "truth": [asdict(event) for event in heard.truth],
        "dropped": heard.dropped,
    }
    data = write_npz(samples=heard.samples, probabilities=heard.probabilities, about=np.array(text_of(about)))
    write_bytes(folder / HEARD, data)


def _load_listening(path: Path) -> Listening:
    arrays = read_npz(path.read_bytes(), str(path))
    try:
        about = json.loads(str(arrays["about"]))
        return Listening(
            source=about["source"],
            rate=int(about["rate"]),
            samples=arrays["samples"],
            labels=tuple(about["labels"]),
            probabilities=arrays["probabilities"],
            events=_detections(about["events"]),
            truth=_detections(about["truth"]),
            dropped=int(about["dropped"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}); listen again") from None


def _detections(values: list[Mapping[str, Any]]) -> tuple[Detection, ...]:
    return tuple(Detection(**value) for value in values)
