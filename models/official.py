"""Official checkpoints: which of their arrays becomes which weight of ours, and how."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from boards.errors import UserError
from models.blocks import cost

Array: TypeAlias = NDArray[Any]
State: TypeAlias = Mapping[str, Array]
Turn: TypeAlias = Callable[..., Array]  # the official arrays of one rule -> our weight
ALIKE = 0.8  # ratio of difflib, from which on a name may be another spelling


def same(value: Array) -> Array:
    """Return `value` as it is."""
    return value


def linear(value: Array) -> Array:
    """Return PyTorch's Linear (out, in) as ours (in, out)."""
    return value.T


def conv1d(value: Array) -> Array:
    """Return PyTorch's Conv1d (out, in, taps) as ours (taps, in, out)."""
    return value.transpose(2, 1, 0)


def conv2d(value: Array) -> Array:
    """Return PyTorch's Conv2d (out, in, height, width) as ours (height, width, in, out)."""
    return value.transpose(2, 3, 1, 0)


def depthwise1d(value: Array) -> Array:
    """Return a depthwise Conv1d (channels, 1, taps) as ours (taps, channels, 1)."""
    return value.transpose(2, 0, 1)


def depthwise2d(value: Array) -> Array:
    """Return a depthwise Conv2d (channels, 1, height, width) as ours (height, width, channels, 1)."""
    return value.transpose(2, 3, 0, 1)


def part(index: int, count: int, turn: Turn = same) -> Turn:
    """Return what takes part `index` of `count` equal parts of the first axis, such as Q of a joint QKV."""
    return lambda value: turn(np.split(value, count)[index])


def weight_norm(axis: int, turn: Turn) -> Turn:
    """Return what joins magnitude g and direction v, g·v/‖v‖ over all axes but `axis` (1602.07868)."""

    def joined(g: Array, v: Array) -> Array:
        others = tuple(i for i in range(v.ndim) if i != axis)
        return turn(g * v / np.sqrt(np.sum(v * v, axis=others, keepdims=True)))

    return joined


@dataclass(frozen=True)
class Rule:
    """Weights of ours whose whole name matches `ours` come from the official `theirs`, turned by `turn`.

    In `theirs` {1} stands for the first group of the match, {1-} for that number less one (we count from 1).
    """

    ours: str
    theirs: str | tuple[str, ...]
    turn: Turn = same


def dense(ours: str, theirs: str) -> tuple[Rule, Rule]:
    """Return the rules of a Dense layer: kernel and bias from PyTorch's Linear."""
    return Rule(f"{ours}/kernel", f"{theirs}.weight", linear), Rule(f"{ours}/bias", f"{theirs}.bias")


def norm(ours: str, theirs: str) -> tuple[Rule, Rule]:
    """Return the rules of a LayerNorm: γ and β from PyTorch's weight and bias."""
    return Rule(f"{ours}/gamma", f"{theirs}.weight"), Rule(f"{ours}/beta", f"{theirs}.bias")


@dataclass(frozen=True)
class Layout:
    """Where the weights of one net are in the official file of it.

    Args:
        source: the official code, owner/name, for messages.
        rules: the first that matches holds; every weight of the net needs one, or stands in `own`.
        prefixes: wrappers before the keys (`module.`), taken off where all else would not fit.
        ignored: patterns of official keys that nothing of ours needs, such as unused heads.
        optional: patterns of our weights that a file may lack, all of a pattern or none (a classifier).
        own: patterns of our weights that no official file has; they keep their values.
        renamed: (pattern, replacement) of official keys that some files write otherwise.
    """

    source: str
    rules: tuple[Rule, ...]
    prefixes: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()


def load(net: Any, state: State, layout: Layout) -> tuple[str, ...]:
    """Give `net` the weights of `state`, and return the names of ours that the file lacks (see `optional`).

    Nothing is assigned unless everything fits. Raises what `matched` raises.
    """
    found, lacking = matched(net, state, layout)
    weights = cost.weights(net)
    for name, value in found.items():
        weights[name].assign(value)
    return lacking


def matched(net: Any, state: State, layout: Layout) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the values of the weights of `net` by name, and the names that the file lacks.

    Raises:
        UserError: an array is missing, left over, or has another shape; the message names it and the nearest.
    """
    state = stripped(state, layout)
    weights = {name: v for name, v in cost.weights(net).items() if not _any(layout.own, name)}
    found: dict[str, Array] = {}
    lacking: list[str] = []
    wanted: dict[str, str] = {}  # official key -> ours
    for name, variable in weights.items():
        rule, keys = _rule(name, layout)
        missing = [key for key in keys if key not in state]
        if missing and _any(layout.optional, name):
            lacking.append(name)
            continue
        wanted.update(dict.fromkeys(keys, name))
        if not missing:
            found[name] = _turned(rule, keys, state, name, tuple(variable.shape))
    _check_complete(wanted, state, layout)
    _check_optional(lacking, weights, layout)
    extra = [key for key in state if key not in wanted and not _any(layout.ignored, key)]
    if extra:
        shape = state[extra[0]].shape
        raise UserError(
            f"the checkpoint has {len(extra)} arrays that {net.name} has no place for, the first is "
            f"{extra[0]} {shape}; nearest that it has: {_nearest(extra[0], wanted)}: it is of another size, "
            f"or not of {layout.source}"
        )
    return found, tuple(lacking)


def classes(net: Any, state: State, layout: Layout) -> int | None:
    """Return for how many classes the classifier in `state` is; None: it has none that `net` takes."""
    state = stripped(state, layout)
    if "logits/bias" not in cost.weights(net) or _any(layout.own, "logits/bias"):
        return None
    (key, *_) = _rule("logits/bias", layout)[1]
    return max(state[key].shape, default=1) if key in state else None


def recognised(state: State, layout: Layout) -> float:
    """Return the share of the arrays of `state` that stand in `layout`, by their names alone."""
    names = {
        key
        for rule in layout.rules
        for key in ([rule.theirs] if isinstance(rule.theirs, str) else rule.theirs)
    }
    parts = [re.sub(r"\\\{\d(\\-)?\\\}", r"\\w+", re.escape(name)) for name in names]
    state = stripped(state, layout)
    return sum(_any((*parts, *layout.ignored), key) for key in state) / max(1, len(state))


def expected(net: Any, layout: Layout) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each weight of `net` that comes from the file, with its official keys."""
    for name in cost.weights(net):
        if not _any(layout.own, name):
            yield name, _rule(name, layout)[1]


def stripped(state: State, layout: Layout) -> State:
    """Return `state` with the prefix of `layout` that most of its keys have taken off, and keys renamed."""
    for prefix in layout.prefixes:
        with_it = [key for key in state if key.startswith(prefix)]
        if 2 * len(with_it) > len(state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
            break
    for pattern, replacement in layout.renamed:
        state = {re.sub(f"^{pattern}$", replacement, key): value for key, value in state.items()}
    return state


def _any(patterns: Sequence[str], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _rule(name: str, layout: Layout) -> tuple[Rule, tuple[str, ...]]:
    for rule in layout.rules:
        match = re.fullmatch(rule.ours, name)
        if match:
            theirs = (rule.theirs,) if isinstance(rule.theirs, str) else rule.theirs
            return rule, tuple(_filled(template, match) for template in theirs)
    raise UserError(f"{layout.source} published no size that has {name}: give a published --size")


def _filled(template: str, match: re.Match[str]) -> str:
    def value(hole: re.Match[str]) -> str:
        group = match[int(hole[1])]
        return str(int(group) - 1) if hole[2] else group

    return re.sub(r"\{(\d)(-?)\}", value, template)


def _turned(rule: Rule, keys: tuple[str, ...], state: State, name: str, shape: tuple[int, ...]) -> Array:
    given = ", ".join(f"{key} {state[key].shape}" for key in keys)
    try:
        value = rule.turn(*(state[key] for key in keys))
    except (ValueError, IndexError):
        raise UserError(f"{given} cannot become {name} {shape}: the checkpoint is of another size") from None
    if value.shape != shape:
        raise UserError(f"{given} does not fit {name} {shape}: the checkpoint is of another size")
    with np.errstate(over="ignore"):
        bad = int(np.count_nonzero(~np.isfinite(value.astype(np.float32, copy=False))))
    if bad:
        raise UserError(
            f"{given} has {bad} values that are NaN or infinite in float32: the checkpoint is damaged"
        )
    return value


def _check_complete(wanted: Mapping[str, str], state: State, layout: Layout) -> None:
    missing = [key for key in wanted if key not in state]
    if missing:
        more = f" and lacks {len(missing) - 1} more" if len(missing) > 1 else ""
        free = [key for key in state if key not in wanted]  # the rest have their places
        near = _nearest(missing[0], free, ALIKE) or _nearest(missing[0], state) or "none, it has no arrays"
        raise UserError(
            f"the checkpoint has no {missing[0]} ({wanted[missing[0]]}){more}; nearest: {near}: "
            f"it is of another size, or not of {layout.source}"
        )


def _nearest(key: str, known: Iterable[str], alike: float = 0.0) -> str:
    """Return the name of `known` most like `key`, at least by the ratio `alike`; "": there is none."""
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=alike)
    return near[0] if near else ""


def _check_optional(lacking: list[str], weights: Mapping[str, Any], layout: Layout) -> None:
    for pattern in layout.optional:
        group = [name for name in weights if re.fullmatch(pattern, name)]
        gone = [name for name in lacking if re.fullmatch(pattern, name)]
        if gone and len(gone) < len(group):
            there = next(name for name in group if name not in gone)
            raise UserError(f"the checkpoint has {there} but not {gone[0]}: it is not whole")
