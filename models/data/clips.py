"""Clip and Dataset: the records that every loader gives, and what a label may be."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from boards.errors import UserError

Samples = npt.NDArray[np.int16]
Progress = Callable[[str, int, int], None]  # stage, done, total
Subset = Literal["", "train", "validation", "test"]

FORBIDDEN = ',{}"\\'  # board protocols split lines at commas and count braces; C strings end at quotes
LABEL_LENGTH = 64  # characters


def quiet(_stage: str, _done: int, _total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class Clip:
    """One labelled recording; its samples are read (or made) when asked for."""

    name: str  # path inside the data set, with forward slashes; the same on every machine
    label: int  # index into the data set's labels; 0 where it has targets
    group: str  # speaker or source recording: never on both sides of a split
    read: Callable[[int], Samples] = field(repr=False, compare=False)  # rate in Hz -> mono int16
    path: Path | None = None  # None: made, not read
    fold: str = ""  # what `held_out` names: a fold's number, a speaker, a room
    subset: Subset = ""  # the side that the data set itself prescribes
    values: tuple[float, ...] = ()  # of each target, where the data set has targets instead of classes

    def samples(self, rate: int = 16_000) -> Samples:
        """Return the clip as mono int16, shape (samples,), at `rate` Hz.

        Raises:
            UserError: the file vanished or broke since it was loaded.
        """
        return self.read(rate)


@dataclass(frozen=True)
class Dataset:
    """Clips and the names of their classes, or of their targets: numbers that every clip has one of each.

    `warnings` are lines that the user must be shown.
    """

    name: str
    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    noise: tuple[Clip, ...] = ()  # background recordings without a class, to be mixed in; label is -1
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def folds(self) -> tuple[str, ...]:
        """Return what `split(held_out=...)` may name, numbers in their order."""
        found = {clip.fold for clip in self.clips if clip.fold}
        return tuple(
            sorted(found, key=lambda fold: (not fold.isdigit(), int(fold) if fold.isdigit() else 0, fold))
        )

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Return the label index of each clip, shape (clips,)."""
        return np.array([clip.label for clip in self.clips], dtype=np.int64)

    @property
    def regression(self) -> bool:
        """Tell whether the clips have values of targets instead of a class."""
        return any(clip.values for clip in self.clips)

    @property
    def truth(self) -> npt.NDArray[np.int64] | npt.NDArray[np.float32]:
        """Return the label index of each clip (clips,), or its values (clips, targets); see models.tasks."""
        if self.regression:
            return np.array([clip.values for clip in self.clips], np.float32)
        return self.classes

    def counts(self) -> dict[str, int]:
        """Return the number of clips of each class."""
        totals = np.bincount(self.classes, minlength=len(self.labels))
        return {label: int(total) for label, total in zip(self.labels, totals, strict=True)}

    def split(self, held_out: str | None = None, seed: int = 0) -> tuple[Dataset, Dataset, Dataset]:
        """Return train, validation and test; see `splits.split`."""
        from models.data.splits import split

        return split(self, held_out, seed)

    def sha256(self) -> str:
        """Return the hash of labels, names and file contents; where the files lie does not matter."""
        whole = hashlib.sha256("\n".join((self.name, *self.labels)).encode())
        for clip in sorted((*self.clips, *self.noise), key=lambda clip: clip.name):
            what = "\0".join(map(repr, clip.values)) or str(clip.label)
            whole.update(f"\0{clip.name}\0{what}\0".encode())
            if clip.path is not None:
                whole.update(file_digest(clip.path))
        return whole.hexdigest()


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file's contents."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def check_label(label: str, where: str) -> str:
    """Return the label, trimmed and in Unicode normal form C.

    Raises:
        UserError: it is empty, too long, or has a character that the outside protocols, C strings or
            csv files would take for their own. Such labels are refused, never changed silently.
    """
    clean = unicodedata.normalize("NFC", label).strip(" \t\r")
    if not clean:
        raise UserError(f"{where}: a label is empty: give every class a name")
    bad = sorted({char for char in clean if char in FORBIDDEN or _invisible(char)})
    if bad:
        cure = " ".join("".join(" " if char in bad else char for char in clean).split()) or "class_1"
        raise UserError(
            f"{where}: label {clean!r} has {' and '.join(map(repr, bad))}, which the boards' line protocols "
            f"use themselves: rename it, for example to {cure!r}"
        )
    if len(clean) > LABEL_LENGTH:
        raise UserError(
            f"{where}: label {clean[:20]!r}… has {len(clean)} characters, at most {LABEL_LENGTH}: shorten it"
        )
    return clean


def _invisible(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in {"Zl", "Zp"}  # controls, formats, line and paragraph ends


def label_names(found: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct labels in order: numbers by value, then names."""
    return tuple(
        sorted(
            set(found), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
        )
    )
