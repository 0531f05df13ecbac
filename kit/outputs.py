"""Where results go: the place is checked before the work, and a file is written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards import atomic
from boards.errors import UserError


def room_for(target: Path, *, folder: bool = False) -> Path:
    """Return `target` if a file, or a `folder`, can be written there.

    Raises:
        UserError: something of the other kind is in its place, or there is no permission.
    """
    if os.path.lexists(target) and target.is_dir() is not folder:
        is_a, needed = ("a file", "a folder") if folder else ("a folder", "a file")
        raise UserError(f"{target}: is {is_a}, {needed} is needed; choose another -o")
    place = target.absolute() if folder else target.absolute().parent
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir():
        raise UserError(f"{place}: a part of this path is a file, not a folder; choose another -o")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{place}: no permission to write there; change its mode, or choose another -o")
    return target


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target`, whole or not at all."""
    with _folder_of(target):
        atomic.write(target, data)


def write_text(target: Path, text: str) -> None:
    """Write `text` to `target`, whole or not at all; bytes of a file name that are no UTF-8 are escaped."""
    write_bytes(target, text.encode(errors="backslashreplace"))


def write_npy(target: Path, array: npt.NDArray[Any]) -> None:
    """Write `array` to `target` as .npy under exactly that name, whole or not at all."""
    with _folder_of(target), atomic.replacing(target) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


@contextmanager
def _folder_of(target: Path) -> Iterator[None]:
    """Make the folder of `target`; one that is new goes again if the block fails and left it empty."""
    new = not target.parent.exists()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                target.parent.rmdir()
        raise
