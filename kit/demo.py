"""The whole road in one go, on sounds that the kit makes itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import boards
from boards.errors import UserError
from kit import pipeline, runs
from kit.outputs import room_for
from kit.progress import Progress, silent
from kit.records import Detection

SIZE = "micro"


class Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as `stage`."""
        began = time.monotonic()
        yield
        self.seconds[stage] = round(time.monotonic() - began, 2)


def demo(family: str, board: str, out: Path, *, seed: int = 0, progress: Progress = silent) -> dict[str, Any]:
    """Compress, compile, flash, listen, profile and report in the folder `out`; return the record of --json.

    Raises:
        UserError: any of the stages' own; the same call goes on from the last finished training stage.
    """
    boards.load(board)
    room_for(out, folder=True)
    bundle, build, scene, page = out / "bundle", out / "build", out / "scene.wav", out / "report.html"
    stage = Clock()
    with stage("compress"):
        pipeline.compress(family, SIZE, "synthetic", bundle, board=board, seed=seed, progress=progress)
    with stage("compile"):
        pipeline.compile(bundle, board, build, progress=progress)
    with stage("flash"):
        pipeline.flash(build, progress=progress)
    with stage("listen"):
        truth = write_scene(scene, seed)
        heard = pipeline.listen(build, str(scene), fast=True, progress=progress)
    with stage("profile"):
        run = pipeline.profile(build, progress=progress)
        run = replace(
            run, name=f"{family} {SIZE} on {board}", listening=replace(heard.listening, truth=truth)
        )
        runs.save(run, out)
    with stage("report"):
        pipeline.report([out], page)
    total = round(sum(stage.seconds.values()), 2)
    return {
        "profile": run.profile,
        "heard": heard.record(),
        "report": str(page),
        "seconds": {**stage.seconds, "total": total},
    }


def write_scene(path: Path, seed: int) -> tuple[Detection, ...]:
    """Write a recording of several sounds as a 16 kHz wav, and return what sounds when."""
    import soundfile

    from models.data import synthetic

    samples, events = synthetic.scene(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        soundfile.write(path, samples, 16_000, subtype="PCM_16")
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path}: cannot be written: {error}") from None
    return tuple(Detection(event.label, event.start, event.end) for event in events)
