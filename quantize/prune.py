"""Structured pruning: the least important channels, heads and hidden units go; a family net is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards.errors import UserError
from models.blocks import cost
from models.blocks.groups import Group, Slice
from models.checkpoint import copied
from models.registry import Family
from models.tasks import Floats, Truth
from models.train import Progress, Recipe, gradients, nothing
from quantize.distil import MIX, Mix, Teacher, distil, heard

Kept = NDArray[np.intp]
SAMPLE = 512  # examples over which Taylor importance is averaged, at most
BATCH = 64


@dataclass(frozen=True)
class Pruned:
    """A smaller net of the same family, and what it cost before and after."""

    config: Any  # the family's Config with the new widths; `family.net(config, classes)` has its shape
    net: Any
    parameters: tuple[int, int]  # before, after
    macs: tuple[int, int]
    kept: Mapping[str, tuple[int, ...]]  # field of the Config -> units that stayed, of all rounds together


def prune(
    family: Family,
    config: Any,
    net: Any,
    x: Floats,
    y: Truth,
    validation: tuple[Floats, Truth] | None = None,
    *,
    teacher: Teacher | None = None,
    keep: float = 0.7,
    rounds: int = 1,
    recipe: Recipe,
    seed: int,
    versions: int = 1,
    mix: Mix = MIX,
    checkpoint: Path | None = None,
    progress: Progress = nothing,
) -> Pruned:
    """Return `net` with about `keep` of the units of every group, fine-tuned by distillation.

    `net` is `family.net(config, classes)`, trained. The share falls to `keep` in equal steps over `rounds`,
    each of `recipe.epochs`. The teacher is the unpruned net where none is given. Labels and versions as in
    `quantize.distil.distil`; `checkpoint` gets the round's number in its name.

    Raises:
        UserError: keep is not in (0, 1], rounds not 1 or more, or the net is not of `config`.
        TrainingError, CheckpointError: as `models.train.fit`.
    """
    if not 0 < keep <= 1 or rounds < 1:
        raise UserError(f"keep {keep:g} over {rounds} rounds: keep must be in (0, 1], rounds 1 or more")
    logits = heard(net if teacher is None else teacher, x, net.output_shape[-1], progress)
    result = Pruned(
        config, net, (cost.parameters(net),) * 2, (cost.macs(net),) * 2, _everything(family, config)
    )
    sizes = {group.field: group.units for group in family.groups(config)}
    for number in range(rounds):
        share = keep ** ((number + 1) / rounds)
        wanted = {field: ceil(units * share) for field, units in sizes.items()}
        smaller = cut(family, result.config, result.net, x, y, wanted)
        step = None if checkpoint is None else checkpoint.with_stem(f"{checkpoint.stem}-{number + 1}")
        distil(
            smaller.net,
            logits,
            x,
            y,
            validation,
            recipe=recipe,
            seed=seed,
            versions=versions,
            mix=mix,
            adapted=True,
            checkpoint=step,
            progress=progress,
        )
        progress("prune", number + 1, rounds)
        result = _joined(result, smaller)
    return result


def cut(family: Family, config: Any, net: Any, x: Floats, y: Truth, wanted: Mapping[str, int]) -> Pruned:
    """Return `net` with `wanted[field]` units in each group named there, without any training.

    The number is rounded up to the group's multiple and never falls below its minimum.

    Raises:
        UserError: `net` is not `family.net(config, classes)`.
    """
    weights = _weights(net)
    groups = [group for group in family.groups(config) if group.field in wanted]
    _check(groups, weights, family)
    scored = {part.weight for group in groups if group.importance == "taylor" for part in group.scores}
    slopes = _slopes(net, x, y, scored) if scored else []
    kept = {
        group.field: most_important(group, importance(group, weights, slopes), wanted[group.field])
        for group in groups
    }
    return keep_units(family, config, net, kept)


def keep_units(family: Family, config: Any, net: Any, kept: Mapping[str, Kept]) -> Pruned:
    """Return `net` with the units `kept[field]` alone in each group named there, without any training.

    Raises:
        UserError: `net` is not `family.net(config, classes)`.
    """
    weights = _weights(net)
    groups = [group for group in family.groups(config) if group.field in kept]
    _check(groups, weights, family)
    for group in groups:
        config = with_field(config, group.field, len(kept[group.field]))
    small = family.net(config, net.output_shape[-1])
    _transfer(groups, kept, weights, small)
    return Pruned(
        config,
        small,
        (cost.parameters(net), cost.parameters(small)),
        (cost.macs(net), cost.macs(small)),
        {field: tuple(int(unit) for unit in units) for field, units in kept.items()},
    )


def importance(
    group: Group, weights: Mapping[str, NDArray[Any]], slopes: Sequence[Mapping[str, NDArray[Any]]]
) -> NDArray[np.float64]:
    """Return how much each unit of `group` matters, shape (units,).

    scale: the norm of the unit's weights times |scale| of its BatchNorm (Li et al. 2016, arXiv 1608.08710;
    Liu et al. 2017, 1708.06519). taylor: the change of the loss without it, to first order, |Σ weight ·
    gradient|, squared and summed over batches (Molchanov et al. 2019, 1906.10771).
    """
    if group.importance == "scale":
        norms = [
            np.sqrt((units(group, part, weights[part.weight]) ** 2).sum(axis=-1)) for part in group.scores
        ]
        return np.prod(norms, axis=0)
    total = np.zeros(group.units)
    for slope in slopes:
        products = [units(group, part, weights[part.weight] * slope[part.weight]) for part in group.scores]
        total += sum(product.sum(axis=-1) for product in products) ** 2
    return total


def units(group: Group, part: Slice, values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values of each unit, shape (units, values a unit)."""
    length = values.shape[part.axis]
    moved = np.moveaxis(values, part.axis, 0).reshape(length // (group.units * part.width), group.units, -1)
    return np.moveaxis(moved, 1, 0).reshape(group.units, -1).astype(np.float64)


def most_important(group: Group, scores: NDArray[np.float64], wanted: int) -> Kept:
    """Return the indices of the units that stay, ascending; ties go to the first."""
    count = min(group.units, max(group.minimum, -(-wanted // group.multiple) * group.multiple))
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def with_field(config: Any, path: str, value: Any) -> Any:
    """Return `config` with the field at `path`, such as `blocks.2.widths.0`, set to `value`."""
    head, _, rest = path.partition(".")
    if not dataclasses.is_dataclass(config):
        index = int(head)
        new = with_field(config[index], rest, value) if rest else value
        return (*config[:index], new, *config[index + 1 :])
    new = with_field(getattr(config, head), rest, value) if rest else value
    return replace(config, **{head: new})  # type: ignore[type-var]


def _everything(family: Family, config: Any) -> dict[str, tuple[int, ...]]:
    return {group.field: tuple(range(group.units)) for group in family.groups(config)}


def _joined(first: Pruned, second: Pruned) -> Pruned:
    kept = {field: tuple(first.kept[field][unit] for unit in left) for field, left in second.kept.items()}
    parameters = (first.parameters[0], second.parameters[1])
    return replace(second, parameters=parameters, macs=(first.macs[0], second.macs[1]), kept=kept)


def _check(groups: Sequence[Group], weights: Mapping[str, NDArray[Any]], family: Family) -> None:
    for group in groups:
        for part in group.slices:
            length = weights[part.weight].shape[part.axis] if part.weight in weights else 0
            if length == 0 or length % (group.units * part.width):
                name = family.card.name
                raise UserError(
                    f"{name}: {part.weight} has {length} values for {group.units} units of {group.field}"
                )


def _slopes(net: Any, x: Floats, y: Truth, names: Set[str]) -> list[dict[str, NDArray[Any]]]:
    """Return the gradients of the task's loss, of the weights `names` at least, of batches spread over the
    examples.
    """
    picked = np.linspace(0, len(x) - 1, min(SAMPLE, len(x))).astype(np.intp)
    parts = np.array_split(picked, ceil(len(picked) / BATCH))
    with _thawed(net, names):
        return gradients(net, [(x[part], y[part]) for part in parts])


@contextmanager
def _thawed(net: Any, names: Set[str]) -> Iterator[None]:
    """Let the weights `names` have gradients for a while: what a family freezes matters to its output too."""
    flags = [(part, part.trainable) for part in (*net.layers, *net.variables)]
    for layer in net.layers:
        for weight in layer.weights:
            if f"{layer.name}/{weight.name}" in names:
                layer.trainable = weight.trainable = True
    try:
        yield
    finally:
        for part, trainable in flags:
            part.trainable = trainable


def _weights(net: Any) -> dict[str, NDArray[Any]]:
    return {name: copied(variable) for name, variable in cost.weights(net).items()}


def _transfer(groups: Sequence[Group], kept: Mapping[str, Kept], weights: dict[str, Any], small: Any) -> None:
    values = dict(weights)
    for group in groups:
        for part in group.slices:
            array = values[part.weight]
            places = np.arange(array.shape[part.axis]).reshape(-1, group.units, part.width)
            values[part.weight] = np.take(array, places[:, kept[group.field]].ravel(), part.axis)
    for name, variable in cost.weights(small).items():
        variable.assign(values[name])
