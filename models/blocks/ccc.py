"""Concordance correlation: how well values agree, as a loss and as a measure (Lin 1989, Biometrics 45)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-8  # keeps two constant sides from 0 / 0


def concordance(wanted: NDArray[Any], given: NDArray[Any]) -> NDArray[np.float64]:
    """Return 2·cov / (var + var + (mean - mean)²) of each column of two arrays (N, targets), as (targets,).

    1: equal; 0: unrelated; -1: opposite. Variances are over N, not N - 1. A column whose two sides are
    constant gives 0.
    """
    a, b = np.asarray(wanted, np.float64), np.asarray(given, np.float64)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"two arrays (N, targets) of one shape are needed, not {a.shape} and {b.shape}")
    da, db = a - a.mean(axis=0), b - b.mean(axis=0)
    apart = (a.mean(axis=0) - b.mean(axis=0)) ** 2
    spread = (da * da).mean(axis=0) + (db * db).mean(axis=0) + apart
    found: NDArray[np.float64] = 2 * (da * db).mean(axis=0) / (spread + EPSILON)
    return found


def loss(wanted: Any, given: Any) -> Any:
    """Return the mean over targets of 1 - concordance within the batch (batch, targets), a scalar.

    A Keras loss function; a batch of one has no variance and no use here.
    """
    from keras import ops  # here, because a board's values are judged without Keras

    wanted = ops.cast(wanted, given.dtype)
    a, b = ops.mean(wanted, axis=0), ops.mean(given, axis=0)
    da, db = wanted - a, given - b
    spread = ops.mean(da * da, axis=0) + ops.mean(db * db, axis=0) + ops.square(a - b)
    return ops.mean(1 - 2 * ops.mean(da * db, axis=0) / (spread + EPSILON))
