"""The calibration set: few training windows from which the int8 ranges are taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError

Array = npt.NDArray[Any]
SAMPLES = 128
EXTREMES = 8  # windows kept for their largest value, and as many for their smallest


def choose(features: Array, labels: Array, count: int = SAMPLES, seed: int = 0) -> npt.NDArray[np.int64]:
    """Return sorted indices of `count` training windows: the extremes, then every class equally often.

    Args:
        features: float32 (N, frames, bands), of training data only: test data would leak into the ranges.
        labels: class index of each window, shape (N,).
        count: how many; all of them if there are fewer.
        seed: of the choice within a class.

    Raises:
        UserError: there are no windows, or a value is not finite.
    """
    if not len(features):
        raise UserError("calibration needs at least one training clip; there is none")
    if not np.isfinite(features).all():
        raise UserError("the training features have NaN or infinite values: a clip is damaged")
    if len(features) <= count:
        return np.arange(len(features))
    edge = min(EXTREMES, count // 4)
    flat = features.reshape(len(features), -1)
    loudest = np.argsort(-flat.max(axis=1), kind="stable")[:edge]
    faintest = np.argsort(flat.min(axis=1), kind="stable")[:edge]
    chosen = dict.fromkeys([*loudest.tolist(), *faintest.tolist()])
    for index in _taking_turns(labels, np.random.default_rng(seed)):
        if len(chosen) == count:
            break
        chosen[index] = None
    return np.array(sorted(chosen), np.int64)


def _taking_turns(labels: Array, rng: np.random.Generator) -> list[int]:
    """Return all indices, shuffled, one of each class in turn."""
    order = rng.permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        mine = order[labels[order] == label]
        turn[mine] = np.arange(len(mine))
    return [int(i) for i in order[np.argsort(turn[order], kind="stable")]]
