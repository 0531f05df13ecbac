"""From a data set to what the stages need: settings, splits, features of training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models import data, examples, frontend
from models.data.clips import Clip, Dataset
from models.frontend import FrontEnd
from models.train import Recipe
from quantize.evaluate import DataRecord, Windows
from quantize.stages import Progress, Work, digest, named, silent

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
SHORTEST, LONGEST = 1.0, 5.0  # seconds of one model input, when not asked for
LOOKED_AT = 40  # clips whose length decides it


@dataclass(frozen=True)
class Splits:
    """A data set, dealt; `record` says how to do it again."""

    labels: tuple[str, ...]
    train: Dataset
    validation: Dataset
    test: Dataset
    record: DataRecord


@dataclass(frozen=True)
class Examples:
    """Features for one front end: `versions` of the N training clips, one window of each validation clip."""

    x: Floats  # (N·versions, frames, features)
    y: Labels
    versions: int
    validation: tuple[Floats, Labels] | None


def load(
    source: str, *, held_out: str | None, seed: int, clips_per_class: int | None, progress: Progress = silent
) -> Splits:
    """Return the data set `source` (a folder, a csv, or `synthetic`), split.

    Raises:
        UserError: the data cannot be read or split, or its test side is empty.
    """
    synthetic = source == "synthetic"
    if clips_per_class is not None and not synthetic:
        raise UserError(f"clips per class can be chosen for the synthetic set only, not for {source}")
    options = {} if clips_per_class is None else {"clips_per_class": clips_per_class}
    whole = data.load(source, progress=progress, **options)
    train, validation, test = whole.split(held_out, seed)
    if not len(test):
        raise UserError(f"{whole.name}: no clip is left for the test: add recordings from other sources")
    record = DataRecord(
        source=source,
        name=whole.name,
        sha256=whole.sha256(),
        clips_per_class=len(whole) // len(whole.labels) if synthetic else None,
        held_out=held_out,
        split_seed=seed,
        train=len(train),
        validation=len(validation),
        test=len(test),
        warnings=train.warnings,
    )
    return Splits(whole.labels, train, validation, test, record)


def seconds(clips: Sequence[Clip], rate: int = 16_000) -> float:
    """Return the length of a model input for these clips: their median, in half seconds, from 1 to 5 s."""
    some = clips[:: max(1, len(clips) // LOOKED_AT)]
    median = float(np.median([len(clip.samples(rate)) / rate for clip in some]))
    return float(np.clip(round(median * 2) / 2, SHORTEST, LONGEST))


def training(
    splits: Splits, fe: FrontEnd, recipe: Recipe, seed: int, work: Work, progress: Progress
) -> Examples:
    """Return the features of training and validation for `fe`, in as many versions as `recipe` uses."""
    clips = len(splits.train)
    versions = min(recipe.versions(clips), recipe.epochs * -(-recipe.examples // clips))
    sound = {"fe": asdict(fe), "versions": versions, "sound": asdict(recipe.sound)}

    def make() -> dict[str, npt.NDArray[Any]]:
        x, y = examples.changed(
            splits.train.clips,
            fe,
            versions,
            recipe.sound,
            seed,
            splits.train.noise,
            named(progress, "features for training"),
        )
        if not len(splits.validation):
            return {"x": x, "y": y}
        vx, vy = examples.plain(splits.validation.clips, fe, named(progress, "features for validation"))
        return {"x": x, "y": y, "vx": vx, "vy": vy}

    arrays = work.arrays(f"features-{digest(sound)[:8]}", make)
    check_finite(arrays["x"])
    validation = (arrays["vx"], arrays["vy"]) if "vx" in arrays else None
    return Examples(arrays["x"], arrays["y"], versions, validation)


def check_finite(x: Floats) -> None:
    """Raise UserError if a feature is NaN or infinite."""
    if not np.isfinite(x).all():
        raise UserError(
            f"{int((~np.isfinite(x)).sum())} training features are NaN or infinite: a clip is damaged"
        )


def test_windows(splits: Splits, fe: FrontEnd, work: Work, progress: Progress) -> Windows:
    """Return the test clips in overlapping windows, as the fixed-point features that the device computes."""

    def make() -> dict[str, npt.NDArray[Any]]:
        values, owner = [], []
        for index, clip in enumerate(splits.test.clips):
            for part in data.windows(clip.samples(fe.sample_rate), fe.samples):
                values.append(frontend.features(part, fe))
                owner.append(index)
            progress("features for the test", index + 1, len(splits.test))
        return {"values": np.stack(values), "owner": np.array(owner, np.int64)}

    arrays = work.arrays(f"test-{digest(asdict(fe))[:8]}", make)
    return Windows(arrays["values"], arrays["owner"], splits.test.classes)


def same_file(path: Path) -> str:
    """Return the SHA-256 of a file, for settings that name one; UserError if it cannot be read."""
    from models.data.clips import file_digest

    return file_digest(path).hex()
