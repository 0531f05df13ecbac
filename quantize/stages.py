"""The work folder of a long job: each finished stage is one file, so that an interrupted job goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import checkpoint
from models.checkpoint import CheckpointError

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]  # stage, done, total


def silent(_stage: str, _done: int, _total: int) -> None:
    """Report no progress."""


def named(progress: Progress, stage: str) -> Progress:
    """Return a callback that reports under the name of `stage`, whatever the caller calls it."""
    return lambda _inner, done, total: progress(stage, done, total)


def digest(settings: Mapping[str, Any]) -> str:
    """Return the SHA-256 of settings (json types)."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()


@dataclass(frozen=True)
class Net:
    """A trained net and the family's Config it was built from, as json types."""

    model: Any  # keras.Model
    config: dict[str, Any]


class Work:
    """`<out>.work/<settings hash>/`: a change of the settings starts anew, beside what was there."""

    def __init__(self, out: Path, settings: str) -> None:
        self._root = out.with_name(f"{out.name}.work")
        self.folder = self._root / settings[:16]
        self.folder.mkdir(parents=True, exist_ok=True)

    def epochs(self, stage: str) -> Path:
        """Return where the training of `stage` keeps its last epoch."""
        return self.folder / f"{stage}.epochs.npz"

    def arrays(self, stage: str, make: Callable[[], Mapping[str, Array]]) -> dict[str, Array]:
        """Return the arrays of `stage`, made now if they are not there."""
        path = self.folder / f"{stage}.npz"
        with contextlib.suppress(CheckpointError):  # a damaged file is made again
            if path.exists():
                return checkpoint.read(path)
        made = dict(make())
        checkpoint.write(path, made)
        self.epochs(stage).unlink(missing_ok=True)
        return made

    def net(self, stage: str, build: Callable[[dict[str, Any]], Any], train: Callable[[], Net]) -> Net:
        """Return the net of `stage`: built from its stored config and weights, or trained now."""
        fresh: list[Net] = []

        def make() -> Mapping[str, Array]:
            fresh.append(train())
            return packed(fresh[0])

        arrays = self.arrays(stage, make)
        return fresh[0] if fresh else unpacked(arrays, build)

    def done(self) -> None:
        """Remove the whole work folder: the result is in place."""
        shutil.rmtree(self._root, ignore_errors=True)


def packed(net: Net) -> dict[str, Array]:
    """Return a net as arrays."""
    weights = {f"weight{i}": np.array(v) for i, v in enumerate(net.model.variables)}
    return {"config": np.array(json.dumps(net.config)), **weights}


def unpacked(arrays: Mapping[str, Array], build: Callable[[dict[str, Any]], Any]) -> Net:
    """Return the net that was packed, built from its stored config."""
    config = json.loads(str(arrays["config"]))
    model = build(config)
    for i, variable in enumerate(model.variables):
        variable.assign(arrays[f"weight{i}"])
    return Net(model, config)
