"""`earkit zoo build`: every MICRO from data to a profiled board, on every fold, with several seeds.

First each fold is prepared: features once for all families with the same front end, teachers once for all
students. Then every family is trained on it, with its teacher and without; the first seed goes on to the
board. Processes share the work; what is finished is never done again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import boards
from boards.errors import UserError
from kit.outputs import room_for
from kit.progress import Progress, silent
from kit.zoo_unit import SIZE
from models import data as datasets
from models import registry
from quantize.worker import Call, processes

MOST_FOLDS = 5  # of a data set; evenly spread where it has more
LIMIT_S = 6 * 3600.0  # of one unit
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
UNIT = "kit.zoo_unit"


@dataclass(frozen=True)
class Source:
    """A data set by the name that the table gives it."""

    name: str
    path: str
    title: str
    sha256: str
    regression: bool
    folds: tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """What shall be built."""

    families: tuple[str, ...]
    sources: tuple[Source, ...]
    seeds: int
    board: str
    teacher: str | None  # of all; None: what each recipe says
    epochs: int | None
    jobs: int
    out: Path

    @property
    def pairs(self) -> list[tuple[str, Source]]:
        """Return each family with each data set that asks for what it does: values for regression."""
        wants = {name: registry.card(name).task == "regression" for name in self.families}
        return [
            (name, one) for one in self.sources for name in self.families if wants[name] == one.regression
        ]


@dataclass
class Zoo:
    """What was built: records by (family, data, fold, seed), and what failed by (family, data)."""

    order: Order
    records: dict[tuple[str, str, str, int], dict[str, Any]] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)


def order(
    families: Sequence[str],
    data: Mapping[str, str],
    *,
    seeds: int,
    board: str,
    out: Path,
    teacher: str | None = None,
    epochs: int | None = None,
    folds: int = MOST_FOLDS,
    held_out: Mapping[str, str] | None = None,
    jobs: int | None = None,
    progress: Progress = silent,
) -> Order:
    """Return the order with every choice made and checked; nothing is trained yet.

    Args:
        families: all that have a micro, if empty.
        data: data sets by the names that the table gives them.
        seeds, board, teacher, epochs: as in `Order`.
        out: folder of everything that is built.
        folds: of each data set, at most.
        held_out: the only fold of a data set, by its name.
        jobs: processes; one a core by default.
        progress: told about the reading of the data.

    Raises:
        UserError: no such family, size, board, data or fold; data without two folds.
    """
    boards.load(board)
    room_for(out, folder=True)
    chosen = tuple(families) or tuple(n for n in registry.names() if SIZE in registry.card(n).sizes)
    for name in chosen:
        if SIZE not in registry.card(name).sizes:
            raise UserError(f"{name} has no size {SIZE}")
    only = held_out or {}
    if strange := [name for name in only if name not in data]:
        raise UserError(f"no data set is called {', '.join(strange)}; there are: {', '.join(data)}")
    sources = tuple(_source(name, path, folds, only.get(name), progress) for name, path in data.items())
    made = Order(chosen, sources, seeds, board, teacher, epochs, jobs or os.cpu_count() or 1, out)
    if not made.pairs:
        raise UserError(f"no data set asks for what {', '.join(chosen)} does: values for a regression")
    return made


def _source(name: str, path: str, most: int, only: str | None, progress: Progress) -> Source:
    whole = datasets.load(path, progress=progress)
    folds = whole.folds
    if len(folds) < 2:
        raise UserError(f"{path}: two folds, speakers or rooms at least are needed, it has {len(folds)}")
    if only is not None:
        if only not in folds:
            raise UserError(f"{path}: has no fold {only!r}; there are: {', '.join(folds)}")
        folds = (only,)
    elif len(folds) > most:
        folds = tuple(folds[i] for i in np.linspace(0, len(folds) - 1, most).round().astype(int))
    return Source(name, path, whole.name, whole.sha256(), whole.regression, folds)


def build(wanted: Order, progress: Progress = silent) -> Zoo:
    """Do what is left of the order; a family that fails on a data set is left there, the others go on."""
    zoo, shared = Zoo(wanted), wanted.out / "features"
    with _processes(wanted.jobs) as call:
        _prepare(zoo, shared, call, progress)
        _train(zoo, shared, call, progress)
    if not zoo.failed:
        shutil.rmtree(shared, ignore_errors=True)
    return zoo


def _processes(count: int) -> AbstractContextManager[Call]:
    """Give a function that starts a call in one of `count` processes of one core each."""
    return processes(count, UNIT, LIMIT_S, dict.fromkeys(THREADS, "1"))


def _prepare(zoo: Zoo, shared: Path, call: Call, progress: Progress) -> None:
    order, waiting = zoo.order, {}
    for source in order.sources:
        names = [family for family, one in order.pairs if one is source]
        for fold in source.folds if names else ():
            future = call(
                "prepared",
                source=source.path,
                fold=fold,
                families=names,
                teacher=order.teacher,
                epochs=order.epochs,
                shared=str(shared),
            )
            waiting[future] = source
    for done, future in enumerate(as_completed(waiting), 1):
        source = waiting[future]
        with suppress(UserError):  # a process that died: the students meet the cause again
            for line in future.result():
                family, _, why = line.partition(": ")
                zoo.failed.setdefault((family, source.name), why)
        progress("folds prepared", done, len(waiting))


def _train(zoo: Zoo, shared: Path, call: Call, progress: Progress) -> None:
    order, waiting = zoo.order, {}
    for seed in range(order.seeds):
        for family, source in order.pairs:
            for fold in source.folds if (family, source.name) not in zoo.failed else ():
                place = order.out / source.name / family / f"fold-{fold}-seed-{seed}"
                future = call(
                    "student",
                    source=source.path,
                    fold=fold,
                    family=family,
                    seed=seed,
                    teacher=order.teacher,
                    epochs=order.epochs,
                    board=order.board if seed == 0 else None,
                    shared=str(shared),
                    place=str(place),
                )
                waiting[future] = (family, source.name, fold, seed)
    progress("students trained", 0, len(waiting))
    for done, future in enumerate(as_completed(waiting), 1):
        family, name, fold, seed = waiting[future]
        try:
            record = {"error": "left out"} if future.cancelled() else future.result()
        except UserError as error:  # its process died
            record = {"error": str(error)}
        if "error" in record:
            _give_up(zoo, waiting, (family, name), f"fold {fold}, seed {seed}: {record['error']}")
        else:
            zoo.records[family, name, fold, seed] = record
        progress("students trained", done, len(waiting))


def _give_up(
    zoo: Zoo, waiting: Mapping[Any, tuple[str, str, str, int]], pair: tuple[str, str], why: str
) -> None:
    """Leave a family on a data set: what of it has not begun is not begun."""
    if pair not in zoo.failed:
        zoo.failed[pair] = why
        for future, (family, name, *_) in waiting.items():
            if (family, name) == pair:
                future.cancel()
