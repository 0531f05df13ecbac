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
from models.data.layouts import MADE
from models.examples import Hearing
from models.frontend import FrontEnd
from models.fronts import Front
from models.tasks import Floats, Truth
from models.train import Recipe
from quantize.cache import Cache
from quantize.evaluate import DataRecord, Windows
from quantize.stages import Progress, named, silent

ALGORITHM = 1  # raise it when the same settings give other features
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

    def settings(self) -> dict[str, Any]:
        """Return what decides them, as json types; where the data lies does not."""
        return self.record.model_dump(mode="json", exclude={"source", "warnings"})


@dataclass(frozen=True)
class Examples:
    """Features for one front end: `versions` of the N training clips, one window of each validation clip."""

    x: Floats  # (N·versions, frames, features)
    y: Truth  # (N·versions, …): see models.tasks
    versions: int
    validation: tuple[Floats, Truth] | None


def load(
    source: str,
    *,
    held_out: str | None,
    seed: int,
    clips_per_class: int | None,
    usual: str | None = None,
    progress: Progress = silent,
) -> Splits:
    """Return the data set `source` (a folder, a csv, or a name in models.data.layouts.MADE), split.

    `usual` is what is held out where nobody says what, if the data has a fold of that name.

    Raises:
        UserError: the data cannot be read or split, or its test side is empty.
    """
    count = clips_per_class
    if source in MADE:
        count = MADE[source][1] if count is None else count
    elif count is not None:
        raise UserError(f"clips per class can be chosen for the synthetic set only, not for {source}")
    whole = data.load(source, progress=progress, clips_per_class=count)
    if held_out is None and usual in whole.folds:
        held_out = usual
    train, validation, test = whole.split(held_out, seed)
    if not len(test):
        raise UserError(f"{whole.name}: no clip is left for the test: add recordings from other sources")
    record = DataRecord(
        source=source,
        name=whole.name,
        sha256=whole.sha256(),
        clips_per_class=count,
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


def versions(recipe: Recipe, clips: int) -> int:
    """Return how many versions of so many clips the recipe uses in all its epochs."""
    return min(recipe.versions(clips), recipe.epochs * -(-recipe.examples // clips))


def training(
    splits: Splits,
    front: Front,
    hearing: Hearing,
    recipe: Recipe,
    seed: int,
    cache: Cache,
    progress: Progress,
) -> Examples:
    """Return the features of training and validation for `front`, in as many versions as `recipe` uses."""
    clips = splits.train
    count = versions(recipe, len(clips))
    settings = {
        **heard_by(splits, front, hearing),
        "versions": count,
        "sound": asdict(recipe.sound),
        "seed": seed,
    }

    def make() -> dict[str, npt.NDArray[Any]]:
        tell = named(progress, "features for training")
        x = examples.changed(clips.clips, front, hearing, count, recipe.sound, seed, clips.noise, tell)
        if not len(splits.validation):
            return {"x": x}
        tell = named(progress, "features for validation")
        return {"x": x, "vx": examples.plain(splits.validation.clips, front, hearing, tell)}

    arrays = cache.arrays("features", settings, make)
    check_finite(arrays["x"])
    validation = (arrays["vx"], splits.validation.truth) if "vx" in arrays else None
    return Examples(arrays["x"], np.concatenate([clips.truth] * count), count, validation)


def heard_by(splits: Splits, front: Front, hearing: Hearing) -> dict[str, Any]:
    """Return what decides the features of the clips as they are, as json types."""
    return {
        "algorithm": ALGORITHM,
        "data": splits.settings(),
        "front": repr(front),
        "hearing": asdict(hearing),
    }


def check_finite(x: Floats) -> None:
    """Raise UserError if a feature is NaN or infinite."""
    if not np.isfinite(x).all():
        raise UserError(
            f"{int((~np.isfinite(x)).sum())} training features are NaN or infinite: a clip is damaged"
        )


def test_windows(splits: Splits, fe: FrontEnd, cache: Cache, progress: Progress) -> Windows:
    """Return the test clips in overlapping windows, as the fixed-point features that the device computes."""

    def make() -> dict[str, npt.NDArray[Any]]:
        values, owner = [], []
        for index, clip in enumerate(splits.test.clips):
            for part in data.windows(clip.samples(fe.sample_rate), fe.samples):
                values.append(frontend.features(part, fe))
                owner.append(index)
            progress("features for the test", index + 1, len(splits.test))
        return {"values": np.stack(values), "owner": np.array(owner, np.int64)}

    settings = {"algorithm": ALGORITHM, "data": splits.settings(), "front": repr(fe)}
    arrays = cache.arrays("test", settings, make)
    return Windows(arrays["values"], arrays["owner"], splits.test.truth)


def test_features(
    splits: Splits, front: Front, hearing: Hearing, progress: Progress
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the test clips in overlapping windows as float features of any front end, and their owners."""
    found, owner = [], []
    for index, clip in enumerate(splits.test.clips):
        for part in data.windows(clip.samples(hearing.rate), hearing.samples):
            found.append(examples.heard(part, hearing, front))
            owner.append(index)
        progress("features for the teacher's test", index + 1, len(splits.test))
    return np.stack(found), np.array(owner, np.int64)


def same_file(path: Path) -> str:
    """Return the SHA-256 of a file, for settings that name one; UserError if it cannot be read."""
    from models.data.clips import file_digest

    return file_digest(path).hex()
