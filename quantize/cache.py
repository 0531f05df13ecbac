"""Arrays that are kept by what decides them: made once, found again by every job that needs the same."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models import checkpoint
from models.checkpoint import CheckpointError
from quantize.stages import digest

Array = npt.NDArray[Any]
VARIABLE = "EARKIT_CACHE"  # names the folder, unless the user's cache folder shall be it
SETTINGS = "settings"


def folder() -> Path:
    """Return the folder that all work of this user shares; it can be removed at any time."""
    from platformdirs import user_cache_path

    return Path(os.environ.get(VARIABLE) or user_cache_path("earkit"))


def place(name: str) -> Path:
    """Return a folder in it, made where it is not there yet; UserError where it cannot be."""
    path = folder() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        cure = VARIABLE if VARIABLE in os.environ else "XDG_CACHE_HOME"  # which moves the compiler's too
        raise UserError(f"cannot make the cache folder {path}: {error.strerror}: set {cure}") from None
    return path


def teachers() -> Cache:
    """Return where trained teachers are kept."""
    return Cache(place("teachers"))


class Cache:
    """A folder of .npz files, named by the digest of their settings."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def path(self, kind: str, settings: Mapping[str, Any], ending: str = "npz") -> Path:
        """Return where that which `settings` (json types) decide lies."""
        return self.place / f"{kind}-{digest(settings)[:24]}.{ending}"

    def arrays(
        self, kind: str, settings: Mapping[str, Any], make: Callable[[], Mapping[str, Array]]
    ) -> dict[str, Array]:
        """Return the arrays of `settings`; what is not there, damaged or of other settings is made now."""
        path, wanted = self.path(kind, settings), json.dumps(settings, sort_keys=True)
        with contextlib.suppress(CheckpointError):
            if path.exists():
                found = checkpoint.read(path)
                if str(found.pop(SETTINGS, "")) == wanted:
                    return found
        made = dict(make())
        checkpoint.write(path, {**made, SETTINGS: np.array(wanted)})
        return made
