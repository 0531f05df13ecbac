"""The left half of the road: clips → features → teacher → distil → prune → int8 → a bundle with its accuracy.

Every stage is judged on the same held-out clips, which nothing before saw: not training, not the calibration,
not the choice between PTQ and QAT (validation clips decide that).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import registry, tasks, train
from models.colour import Colour, draws
from models.train import Recipe
from quantize import bundle, cache, calibrate, deploy, distil, export, prepare, prune, record, teachers
from quantize.bundle import Bundle
from quantize.cache import Cache
from quantize.evaluate import Stage, ValueStage, Windows
from quantize.jobs import Job, plan
from quantize.prepare import Examples
from quantize.stages import Net, Progress, Work, named, silent
from quantize.teachers import Teacher
from quantize.worker import Worker

Array = npt.NDArray[Any]


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


def run(
    job: Job,
    out: Path,
    progress: Progress = silent,
    *,
    features: Cache | None = None,
    kept: Cache | None = None,
) -> Bundle:
    """Do the job, or what is left of it, and return the bundle at `out`.

    Args:
        job: from `plan`.
        out: as in `compress`.
        progress: told about every stage.
        features: where features are kept that other jobs may need too; by default in the work folder.
        kept: where trained teachers are kept; by default in the user's cache folder.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Work(out, job.digest)
    taught = school(job, features or Cache(work.folder), kept or cache.teachers(), progress)
    examples, test, teacher = taught.examples, taught.test, taught.teacher
    distilled = _distilled(job, taught, work, progress)
    with Worker(export.PRELOAD) as worker:  # imports TensorFlow while pruning trains
        scratch = _scratch(job, examples, work, progress) if job.scratch and teacher else None
        pruned = _pruned(job, distilled, taught, work, progress)
        strata = tasks.of(examples.y).strata(examples.y)
        calibration = examples.x[calibrate.choose(examples.x, strata, seed=job.seed)]
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


def float_only(
    job: Job, out: Path, progress: Progress = silent, *, features: Cache, kept: Cache
) -> list[Stage | ValueStage]:
    """Return teacher, student without it and student with it, in float on the test clips; nothing deploys.

    Unfinished work lies in `<out>.work`; the rest as in `run`.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Work(out, job.digest)
    taught = school(job, features, kept, progress)
    nets = {"scratch": _scratch(job, taught.examples, work, progress)}
    if taught.teacher is not None:
        nets["distilled"] = _distilled(job, taught, work, progress)
    found = record.float_stages(job, taught.teacher, nets, taught.test)
    work.done()
    return found


@dataclass(frozen=True)
class School:
    """What a student is trained and judged with."""

    examples: Examples
    test: Windows
    teacher: Teacher | None

    def lesson(self, job: Job, recipe: Recipe) -> tuple[Examples, Recipe]:
        """Return the examples that the teacher's logits are of, and `recipe` as it fits them.

        A teacher that heard colours has the student hear the same ones, rather than others of its own: then
        both speak of the same sound (Beyer et al. 2022, arXiv 2106.05237).
        """
        if self.teacher is None or not self.teacher.colours:
            return self.examples, recipe
        count, seed = self.teacher.colours, job.splits.record.split_seed
        x = draws(self.examples.x, recipe.colour, count, seed)
        y = np.concatenate([self.examples.y] * count)
        heard = replace(self.examples, x=x, y=y, versions=count * self.examples.versions)
        return heard, replace(recipe, colour=Colour())


def school(job: Job, features: Cache, kept: Cache, progress: Progress) -> School:
    """Return what the job's student is trained and judged with; what is kept already is not made again."""
    recipe, split_seed = job.recipe(job.size), job.splits.record.split_seed
    examples = prepare.training(job.splits, job.fe, job.hearing, recipe, split_seed, features, progress)
    test = prepare.test_windows(job.splits, job.fe, features, progress)
    if job.file is not None:
        return School(examples, test, teachers.from_file(job.file, job.splits, examples.x, test))
    who = job.trained
    if who is None:
        return School(examples, test, None)
    return School(examples, test, teachers.trained(who, job.lesson, recipe, kept, features, progress))


def _fresh(job: Job) -> Any:
    return train.seeded(lambda: job.family.net(job.config, len(job.splits.labels)), job.seed)


def _distilled(job: Job, taught: School, work: Work, progress: Progress) -> Net:
    if taught.teacher is None:
        return _scratch(job, taught.examples, work, progress)
    return work.net("distilled", job.build, partial(_distil, job, taught, taught.teacher, work, progress))


def _distil(job: Job, taught: School, teacher: Teacher, work: Work, progress: Progress) -> Net:
    net = _fresh(job)
    examples, recipe = taught.lesson(job, job.recipe(job.size))
    distil.distil(
        net,
        teacher.logits,
        examples.x,
        examples.y,
        examples.validation,
        recipe=recipe,
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


def _pruned(job: Job, net: Net, taught: School, work: Work, progress: Progress) -> Net:
    if job.keep == 1:
        return net

    def shrink() -> Net:
        examples, recipe = taught.lesson(job, job.tuning("prune"))
        result = prune.prune(
            job.family,
            job.family.from_dict(net.config),
            net.model,
            examples.x,
            examples.y,
            examples.validation,
            teacher=None if taught.teacher is None else taught.teacher.logits,
            keep=job.keep,
            recipe=recipe,
            seed=job.seed,
            versions=examples.versions,
            checkpoint=work.epochs("pruned"),
            progress=named(progress, "prune"),
        )
        return Net(result.net, registry.to_dict(result.config))

    return work.net("pruned", job.build, shrink)
