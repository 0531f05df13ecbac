"""The left half of the road: clips → features → teacher → distil → prune → int8 → a bundle with its accuracy.

Every stage is judged on the same held-out clips, which nothing before saw: not training, not early stopping,
not the calibration, not the choice between PTQ and QAT (validation clips decide that).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy.typing as npt

from boards.errors import UserError
from models import registry, train
from models.frontend import FrontEnd
from models.registry import Family
from models.train import Recipe
from quantize import bundle, calibrate, deploy, distil, export, prepare, prune, record, teachers
from quantize.bundle import Bundle
from quantize.evaluate import Windows
from quantize.prepare import Examples, Splits
from quantize.stages import Net, Progress, Work, digest, named, silent
from quantize.teachers import Teacher
from quantize.worker import Worker

Array = npt.NDArray[Any]
KEEP = 0.7  # of the units of every group, in pruning
ALGORITHM = 1  # raise it when a stage changes: work folders of before are then not reused
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
    seed: int
    keep: float
    epochs: int | None
    scratch: bool

    @property
    def fe(self) -> FrontEnd:
        """Return the front end of the student."""
        return self.family.frontend(self.config)

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
        return {
            "algorithm": ALGORITHM,
            "family": self.family.card.name,
            "size": self.size,
            "config": registry.to_dict(self.config),
            "recipes": {size: repr(self.recipe(size)) for size in self.family.recipes},
            "tuning": {stage: repr(self.tuning(stage)) for stage in FINE_TUNING},
            "data": self.splits.record.model_dump(exclude={"source", "warnings"}),
            "teacher": self.teacher,
            "seed": self.seed,
            "keep": self.keep,
            "scratch": self.scratch,
            "versions": record.versions(),
        }

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the settings: equal jobs give equal bundles on the same machine."""
        return digest(self.settings())

    def build(self, config: dict[str, Any]) -> Any:
        """Return an untrained net of a stored Config."""
        return self.family.net(self.family.from_dict(config), len(self.splits.labels))


def compress(
    family: str, size: str, data: str | Path, *, out: Path, progress: Progress = silent, **choices: Any
) -> Bundle:
    """Train, distil, prune and quantise a family, and return its bundle, which is then at `out`.

    Args:
        family, size, data, choices: as `plan`.
        out: the bundle's folder, or a name that ends in .zip. Unfinished work lies in `<out>.work`; the
            same call goes on from there.
        progress: told about every stage.

    Raises:
        UserError: anything that the user can mend; `out` is then as it was.
    """
    bundle.check_target(out)
    return run(plan(family, size, data, progress=progress, **choices), out, progress)


def plan(
    family: str,
    size: str,
    data: str | Path,
    *,
    teacher: str | Path | None = None,
    held_out: str | None = None,
    seed: int = 0,
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
        data: a folder of clips, a manifest csv, or `synthetic`.
        teacher: a size of the family, a .keras, .onnx, .tflite or .npz file, or `none`; by default
            the recipe's.
        held_out: the fold, speaker or room that is the test set.
        seed: of the split, the weights and every random choice.
        keep: share of the channels, heads and hidden units that pruning leaves; 1 prunes nothing.
        epochs: the most of each training stage.
        clips_per_class: of the synthetic set.
        seconds: of sound in one model input; by default the recipe's, else the clips' median, 1 to 5 s.
        scratch: also train the student without its teacher, to see what the teacher is worth.
        progress: told about the reading of the data.

    Raises:
        UserError: an argument is out of range, or the data cannot be read or split.
    """
    if not 0 < keep <= 1:
        raise UserError(f"keep {keep:g}: the share of units that pruning leaves must be in (0, 1]")
    if epochs is not None and epochs < 1:
        raise UserError(f"epochs {epochs}: at least 1 is needed")
    loaded = registry.load(family)
    loaded.config(size)  # refuses a wrong size before the data is read
    name = teachers.identity(loaded, size, teacher)
    file = Path(teacher) if teacher is not None and name.startswith("file ") else None
    if file is not None:
        teachers.opened(file)  # a damaged one is refused before hours of work
    splits = prepare.load(
        str(data), held_out=held_out, seed=seed, clips_per_class=clips_per_class, progress=progress
    )
    config = _config(loaded, size, splits, seconds)
    return Job(loaded, size, config, splits, name, file, seed, keep, epochs, scratch)


def _config(family: Family, size: str, splits: Splits, seconds: float | None) -> Any:
    wanted = seconds or family.recipes[size].seconds or prepare.seconds(splits.train.clips)
    if not 0.1 <= wanted <= 60:
        raise UserError(f"seconds {wanted:g}: one model input may have 0.1 to 60 s")
    return family.config(size, seconds=wanted)


def run(job: Job, out: Path, progress: Progress = silent) -> Bundle:
    """Do the job, or what is left of it, and return the bundle at `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Work(out, job.digest)
    examples = prepare.training(job.splits, job.fe, job.recipe(job.size), job.seed, work, progress)
    test = prepare.test_windows(job.splits, job.fe, work, progress)
    teacher = _teacher(job, examples, test, work, progress)
    distilled = _distilled(job, teacher, examples, work, progress)
    with Worker(export.PRELOAD) as worker:  # imports TensorFlow while pruning trains
        scratch = _scratch(job, examples, work, progress) if job.scratch and teacher else None
        pruned = _pruned(job, distilled, teacher, examples, work, progress)
        calibration = examples.x[calibrate.choose(examples.x, examples.y, seed=job.seed)]
        files = deploy.quantise(
            pruned,
            job.build,
            calibration,
            examples,
            recipe=job.tuning("qat"),
            seed=job.seed,
            work=work,
            worker=worker,
            progress=progress,
        )
    first = "distilled" if teacher else "scratch"
    nets = {"scratch": scratch, first: distilled, "pruned": pruned if job.keep < 1 else None}
    judged = record.evaluation(job, teacher, nets, files, test, progress)
    saved = bundle.save(
        record.manifest(job, pruned, files), record.contents(files, calibration, test, judged), out
    )
    work.done()
    return saved


def _teacher(job: Job, examples: Examples, test: Windows, work: Work, progress: Progress) -> Teacher | None:
    if job.teacher == teachers.NONE:
        return None
    if job.file is not None:
        return teachers.from_file(job.file, job.splits, examples.x, test)
    return teachers.trained(
        job.family,
        job.family.config(job.teacher, seconds=job.config.seconds),
        job.teacher,
        job.splits,
        job.recipe(job.size),
        job.recipe(job.teacher),
        job.seed,
        work,
        progress,
    )


def _fresh(job: Job) -> Any:
    return train.seeded(lambda: job.family.net(job.config, len(job.splits.labels)), job.seed)


def _distilled(job: Job, teacher: Teacher | None, examples: Examples, work: Work, progress: Progress) -> Net:
    if teacher is None:
        return _scratch(job, examples, work, progress)
    return work.net("distilled", job.build, partial(_distil, job, teacher.logits, examples, work, progress))


def _distil(job: Job, logits: Array, examples: Examples, work: Work, progress: Progress) -> Net:
    net = _fresh(job)
    distil.distil(
        net,
        logits,
        examples.x,
        examples.y,
        examples.validation,
        recipe=job.recipe(job.size),
        seed=job.seed,
        versions=examples.versions,
        checkpoint=work.epochs("distilled"),
        progress=named(progress, "distil"),
    )
    return Net(net, registry.to_dict(job.config))


def _scratch(job: Job, examples: Examples, work: Work, progress: Progress) -> Net:
    def learn() -> Net:
        net = _fresh(job)
        train.fit_on_arrays(
            net,
            examples.x,
            examples.y,
            examples.validation,
            recipe=job.recipe(job.size),
            seed=job.seed,
            versions=examples.versions,
            checkpoint=work.epochs("scratch"),
            progress=named(progress, "train without a teacher"),
        )
        return Net(net, registry.to_dict(job.config))

    return work.net("scratch", job.build, learn)


def _pruned(
    job: Job, net: Net, teacher: Teacher | None, examples: Examples, work: Work, progress: Progress
) -> Net:
    if job.keep == 1:
        return net

    def shrink() -> Net:
        result = prune.prune(
            job.family,
            job.family.from_dict(net.config),
            net.model,
            examples.x,
            examples.y,
            examples.validation,
            teacher=None if teacher is None else teacher.logits,
            keep=job.keep,
            recipe=job.tuning("prune"),
            seed=job.seed,
            versions=examples.versions,
            checkpoint=work.epochs("pruned"),
            progress=named(progress, "prune"),
        )
        return Net(result.net, registry.to_dict(result.config))

    return work.net("pruned", job.build, shrink)
