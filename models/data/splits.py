"""Train, validation and test that never share a speaker or a source recording."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from boards.errors import UserError
from models.data.clips import Clip, Dataset, Subset

SHARES: Mapping[Subset, int] = {"train": 70, "validation": 15, "test": 15}  # percent
Groups = Mapping[str, Sequence[Clip]]


def split(dataset: Dataset, held_out: str | None = None, seed: int = 0) -> tuple[Dataset, Dataset, Dataset]:
    """Return train, validation and test, disjoint by group and the same on every machine.

    `held_out` names the fold, speaker or room that becomes the test set. Without it the data set's own
    subsets are kept where it prescribes them; what remains is dealt 70:15:15 by group, each class as
    evenly as the groups allow. Validation always comes out of the training groups.

    Raises:
        UserError: no such fold, too few groups, a class without training clips, or a group that the data
            set itself puts on both sides.
    """
    sides = _held_out(dataset, held_out, seed) if held_out is not None else _prescribed(dataset, seed)
    _disjoint(dataset, sides)
    parts = tuple(
        replace(dataset, clips=tuple(c for c in dataset.clips if sides[c.name] == name), warnings=())
        for name in SHARES
    )
    warnings = (*dataset.warnings, *_gaps(dataset, parts))
    train, validation, test = (replace(part, warnings=warnings) for part in parts)
    return train, validation, test


def _held_out(dataset: Dataset, held_out: str, seed: int) -> dict[str, Subset]:
    if held_out not in dataset.folds:
        known = ", ".join(dataset.folds[:12]) or "none: leave it out"
        raise UserError(f"{dataset.name}: nothing to hold out is called {held_out!r}; there is {known}")
    test = [clip for clip in dataset.clips if clip.fold == held_out]
    shared = {clip.group for clip in test}
    rest = [clip for clip in dataset.clips if clip.fold != held_out and clip.group not in shared]
    sides: dict[str, Subset] = {
        clip.name: "" for clip in dataset.clips
    }  # "": shares a source with the test fold
    sides |= {clip.name: "test" for clip in test}
    return sides | _deal(dataset, rest, ("train", "validation"), seed)


def _prescribed(dataset: Dataset, seed: int) -> dict[str, Subset]:
    sides: dict[str, Subset] = {clip.name: clip.subset for clip in dataset.clips if clip.subset}
    free = [clip for clip in dataset.clips if not clip.subset]
    if not sides:
        return _deal(dataset, free, ("train", "validation", "test"), seed)
    if "train" not in sides.values() and free:  # the data set names its exceptions only
        sides |= dict.fromkeys((clip.name for clip in free), "train")
    elif free:
        raise UserError(
            f"{dataset.name}: {len(free)} of {len(dataset)} clips have no split, the first is {free[0].name}"
        )
    if "train" not in sides.values():
        given = " or ".join(sorted(set(sides.values())))
        raise UserError(f"{dataset.name}: every clip is prescribed for {given}: none is left for training")
    missing: list[Subset] = [name for name in SHARES if name not in sides.values()]
    train = [clip for clip in dataset.clips if sides[clip.name] == "train"]
    return sides | (_deal(dataset, train, ("train", *missing), seed) if missing else {})


def _deal(dataset: Dataset, clips: Sequence[Clip], names: tuple[Subset, ...], seed: int) -> dict[str, Subset]:
    """Deal whole groups to the subsets: iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011)."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        groups[clip.group].append(clip)
    if len(groups) < len(names):
        raise UserError(
            f"{dataset.name}: {len(clips)} clips from {len(groups)} speakers or recordings cannot be split "
            f"into {', '.join(names)}: add recordings from at least {len(names)} sources"
        )
    wants = {name: SHARES[name] * _per_class(clips, len(dataset.labels)) for name in names}
    whole = sum(SHARES[name] for name in names)
    side: dict[str, Subset] = {}
    order = sorted(groups, key=lambda group: (-len(groups[group]), _rank(seed, group)))
    for label in np.argsort(_per_class(clips, len(dataset.labels)), kind="stable"):
        for group in order:
            if group in side or all(clip.label != label for clip in groups[group]):
                continue
            most = max(names, key=lambda name: (wants[name][label], wants[name].sum()))
            side[group] = most
            wants[most] = wants[most] - whole * _per_class(groups[group], len(dataset.labels))
    _fill_empty(groups, side, names)
    return {clip.name: side[clip.group] for clip in clips}


def _fill_empty(groups: Groups, side: dict[str, Subset], names: tuple[Subset, ...]) -> None:
    """Give a subset that got nothing the smallest group of the subset with the most groups."""
    for name in names:
        if name not in side.values():
            held = list(side.values())
            rich = max(names, key=held.count)
            side[min((g for g in side if side[g] == rich), key=lambda g: (len(groups[g]), g))] = name


def _per_class(clips: Sequence[Clip], classes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount([clip.label for clip in clips], minlength=classes).astype(np.int64)


def _rank(seed: int, group: str) -> bytes:
    return hashlib.sha256(f"{seed}/{group}".encode()).digest()


def _disjoint(dataset: Dataset, sides: Mapping[str, Subset]) -> None:
    first: dict[str, Clip] = {}
    for clip in dataset.clips:
        if not sides[clip.name]:
            continue
        other = first.setdefault(clip.group, clip)
        if sides[other.name] != sides[clip.name]:
            raise UserError(
                f"{dataset.name}: {clip.group!r} is in {sides[other.name]} ({other.name}) and in "
                f"{sides[clip.name]} ({clip.name}): keep each speaker or recording in one split"
            )


def _gaps(dataset: Dataset, parts: Sequence[Dataset]) -> list[str]:
    """Return a warning for each class that a subset lacks; training may lack none."""
    lines = []
    left = len(dataset) - sum(map(len, parts))
    if left:
        lines.append(f"{left} clips share a source recording with the held-out fold and were left out")
    for name, part in zip(SHARES, () if dataset.regression else parts, strict=False):
        absent = [label for label, count in part.counts().items() if count == 0]
        if not absent:
            continue
        if name == "train":
            total = dataset.counts()[absent[0]]
            raise UserError(
                f"{dataset.name}: class {absent[0]!r} has {total} clip{'s'[: total != 1]}, none is left for "
                "training: add recordings from other speakers or sources (at least 3)"
            )
        lines.append(f"no {name} clip of {', '.join(absent)}: too few different recordings")
    return lines
