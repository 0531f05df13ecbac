"""Checkpoints: named arrays in one .npz file that is whole or the old one, never half."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards import atomic
from boards.errors import UserError
from models import npz


class CheckpointError(UserError):
    """A checkpoint cannot be read, or is of another run."""


def copied(variable: Any) -> NDArray[Any]:
    """Return the value of a Keras variable; np.asarray gives views that training steps change."""
    from keras import ops

    return np.array(ops.convert_to_numpy(variable))


def write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write `arrays` to `path` through a temporary file beside it: a cut leaves the old one.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of `path`.

    Raises:
        CheckpointError: it is no whole .npz file without objects.
    """
    try:
        return npz.read(path, "remove it to start anew")
    except UserError as error:
        raise CheckpointError(str(error)) from None
