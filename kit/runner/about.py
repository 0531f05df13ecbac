"""The model of a release: its front end's sizes, what its outputs mean, and what they must be."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit.detect import Meaning

RECORD, CHECKS, PROGRAM, MODEL, BENCH = "about.json", "checks.npz", "program", "model.tflite", "bench.json"

UNREADABLE = (  # what numpy makes of damaged files
    *(OSError, ValueError, TypeError, AttributeError, KeyError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)

Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Checks:
    """Windows (N, steps, bytes) and what must come of them: (N, bytes) of our program, and of LiteRT."""

    inputs: Int8
    program: Int8
    litert: Int8  # as the host's LiteRT says; empty where LiteRT does not run this model


class About:
    """The record of the release in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.record: dict[str, Any] = dict(json.loads((folder / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder / RECORD}: {damage(error)}") from None

    @property
    def name(self) -> str:
        """Return the name of the model."""
        return str(self.record["name"])

    @property
    def listens(self) -> bool:
        """Tell whether it has a front end."""
        return self.record["frontend"] is not None

    @property
    def meaning(self) -> Meaning:
        """Return how results lie in time and which probabilities they are."""
        front = SimpleNamespace(**self.record["frontend"])  # of a FrontEnd, what Meaning asks for
        return Meaning(cast("Any", front), tuple(self.record["labels"]), **self.record["meaning"])

    def checks(self) -> Checks:
        """Return what is known of its outputs."""
        try:
            packed = io.BytesIO((self.folder / CHECKS).read_bytes())
            with np.load(packed, allow_pickle=False) as arrays:
                return Checks(*(arrays[name] for name in ("inputs", "program", "litert")))
        except UNREADABLE as error:
            raise UserError(f"{self.folder / CHECKS}: {damage(error)}") from None

    def bench(self) -> dict[str, Any]:
        """Return the record of the last measurement, empty without one."""
        try:
            return dict(json.loads((self.folder / BENCH).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}


def damage(error: Exception) -> str:
    """Return the line for a file of a release that cannot be read."""
    reason = " ".join(str(error).split())[:120]
    return f"is damaged ({type(error).__name__}: {reason}): run `earkit flash` again"
