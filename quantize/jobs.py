"""Jobs: everything that decides a bundle, chosen and checked before anything is trained or written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from boards.errors import UserError
from models import registry, tasks
from models.examples import Hearing
from models.frontend import FrontEnd
from models.registry import Family
from models.train import Recipe
from quantize import prepare, teachers, versions
from quantize.prepare import Splits
from quantize.stages import Progress, digest, silent
from quantize.teachers import Lesson, Trained

KEEP = 0.7  # of the units of every group, in pruning
ALGORITHM = 3  # raise it when a stage changes: work folders of before are then not reused
FINE_TUNING = {"prune": (0.4, 0.3), "qat": (0.25, 0.02)}  # shares of the recipe's epochs and learning rate


@dataclass(frozen=True)
class Job:
    """All that decides the result."""

    family: Family
    size: str
    config: Any
    splits: Splits
    teacher: str  # teachers.identity
    file: Path | None  # of the teacher
    seed: int  # of the student; that of the split is the teacher's too
    keep: float
    epochs: int | None
    scratch: bool

    @property
    def fe(self) -> FrontEnd:
        """Return the front end of the student."""
        front = self.family.frontend(self.config)
        assert isinstance(front, FrontEnd)  # plan has looked
        return front

    @property
    def hearing(self) -> Hearing:
        """Return the sound of one input."""
        return Hearing(self.fe.sample_rate, round(self.config.seconds * self.fe.sample_rate))

    @property
    def task(self) -> str:
        """Return what the data asks for."""
        return tasks.of(self.splits.train.truth).name

    @property
    def trained(self) -> Trained | None:
        """Return the teacher that is trained here, None where it is a file or there is none."""
        known = self.teacher == teachers.NONE or self.file is not None
        return None if known else teachers.parse(self.teacher, self.family.card.name)

    @property
    def lesson(self) -> Lesson:
        """Return what decides a trained teacher."""
        split_seed = self.splits.record.split_seed
        return Lesson(self.splits, self.hearing, self.config.seconds, split_seed, self.epochs)

    def recipe(self, size: str) -> Recipe:
        """Return how `size` is trained, within the epochs that were asked for."""
        recipe = self.family.recipes[size]
        return recipe if self.epochs is None else replace(recipe, epochs=min(self.epochs, recipe.epochs))

    def tuning(self, stage: str) -> Recipe:
        """Return how a trained net is tuned further."""
        recipe, (epochs, rate) = self.recipe(self.size), FINE_TUNING[stage]
        return replace(
            recipe, epochs=max(1, round(recipe.epochs * epochs)), learning_rate=recipe.learning_rate * rate
        )

    def settings(self) -> dict[str, Any]:
        """Return everything as json types, for the work folder's name."""
        who = self.trained
        return {
            "algorithm": ALGORITHM,
            "family": self.family.card.name,
            "size": self.size,
            "config": registry.to_dict(self.config),
            "recipe": repr(self.recipe(self.size)),
            "taught": None if who is None else self.lesson.settings(who, self.lesson.seed),
            "tuning": {stage: repr(self.tuning(stage)) for stage in FINE_TUNING},
            "data": self.splits.settings(),
            "teacher": self.teacher,
            "seed": self.seed,
            "keep": self.keep,
            "scratch": self.scratch,
            "versions": versions.packages(),
        }

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the settings: equal jobs give equal bundles on the same machine."""
        return digest(self.settings())

    def build(self, config: dict[str, Any]) -> Any:
        """Return an untrained net of a stored Config."""
        return self.family.net(self.family.from_dict(config), len(self.splits.labels))


def plan(
    family: str,
    size: str,
    data: str | Path,
    *,
    teacher: str | Path | None = None,
    held_out: str | None = None,
    seed: int = 0,
    split_seed: int | None = None,
    keep: float = KEEP,
    epochs: int | None = None,
    clips_per_class: int | None = None,
    seconds: float | None = None,
    scratch: bool = False,
    progress: Progress = silent,
) -> Job:
    """Return the job with every choice made; nothing is trained or written yet.

    Args:
        family: see models.registry.
        size: of the family, such as `micro`.
        data: a folder of clips, a manifest csv, `synthetic` or `synthetic-affect`.
        teacher: a size of the family, FAMILY/SIZE[*COUNT], a .keras, .onnx, .tflite or .npz file, or
            `none`; by default the recipe's.
        held_out: the fold, speaker or room that is the test set.
        seed: of the weights and every random choice.
        split_seed: of the split, the versions of the clips and the teacher; by default the same.
        keep: share of the channels, heads and hidden units that pruning leaves; 1 prunes nothing.
        epochs: the most of each training stage.
        clips_per_class: of a set that the kit makes.
        seconds: of sound in one model input; by default the recipe's, else the clips' median, 1 to 5 s.
        scratch: also train the student without its teacher, to see what the teacher is worth.
        progress: told about the reading of the data.

    Raises:
        UserError: an argument is out of range, or the data cannot be read or split.
    """
    loaded = registry.load(family)
    loaded.config(size)  # refuses a wrong size before the data is read
    name, file = _teacher(loaded, size, teacher)
    _check(keep, epochs)
    splits = prepare.load(
        str(data),
        held_out=held_out,
        seed=seed if split_seed is None else split_seed,
        clips_per_class=clips_per_class,
        progress=progress,
    )
    config = _config(loaded, size, splits, seconds)
    return Job(loaded, size, config, splits, name, file, seed, keep, epochs, scratch)


def planned(
    family: str,
    size: str,
    splits: Splits,
    *,
    teacher: str | None = None,
    seed: int = 0,
    epochs: int | None = None,
    scratch: bool = False,
) -> Job:
    """Return the job on clips that are dealt already, with everything else as the recipe says."""
    loaded = registry.load(family)
    name, file = _teacher(loaded, size, teacher)
    config = _config(loaded, size, splits, None)
    return Job(loaded, size, config, splits, name, file, seed, KEEP, epochs, scratch)


def _teacher(family: Family, size: str, teacher: str | Path | None) -> tuple[str, Path | None]:
    """Return its name for settings, and its file; a damaged one is refused before hours of work."""
    name = teachers.identity(family, size, teacher)
    file = Path(teacher) if teacher is not None and name.startswith("file ") else None
    if file is not None:
        teachers.opened(file)
    return name, file


def _check(keep: float, epochs: int | None) -> None:
    if not 0 < keep <= 1:
        raise UserError(f"keep {keep:g}: the share of units that pruning leaves must be in (0, 1]")
    if epochs is not None and epochs < 1:
        raise UserError(f"epochs {epochs}: at least 1 is needed")


def _config(family: Family, size: str, splits: Splits, seconds: float | None) -> Any:
    wanted = seconds or family.recipes[size].seconds or prepare.seconds(splits.train.clips)
    if not 0.1 <= wanted <= 60:
        raise UserError(f"seconds {wanted:g}: one model input may have 0.1 to 60 s")
    config = family.config(size, seconds=wanted)
    _check_front(family, size, config)
    return config


def _check_front(family: Family, size: str, config: Any) -> None:
    """Raise UserError where a size hears by the front end of an official code, which no board has."""
    if not isinstance(family.frontend(config), FrontEnd):
        boards = [
            name for name, other in family.sizes.items() if isinstance(family.frontend(other), FrontEnd)
        ]
        raise UserError(
            f"{family.card.name} {size}: hears by its official front end, which no board has; "
            f"use it as --teacher of {' or '.join(boards)}"
        )
