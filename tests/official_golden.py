"""Official outputs, recorded once from the official code with weights that anyone can draw again.

A golden is `tests/golden/<name>.npz`: `keys` (json: official key -> shape), the inputs, and what the official
code answered. `drawn` gives the weights, by key and shape alone: the same numbers for the official code when
a golden is made and for ours when it is compared.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from math import prod, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent / "golden"
Array = npt.NDArray[np.float32]


def drawn(shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Return a weight for each key: norms near one, variances positive, matrices that keep the variance."""
    return {key: _value(key, tuple(shape)) for key, shape in shapes.items()}


def _value(key: str, shape: tuple[int, ...]) -> Array:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if "running_var" in key:
        value = rng.uniform(0.5, 1.5, shape)
    elif key.rpartition(".")[2] in ("A_log", "A_b_log"):
        value = np.log(rng.uniform(1, 8, shape))
    elif len(shape) < 2 and key.endswith(("weight", "gamma", "weight_g")):
        value = 1 + 0.1 * rng.normal(size=shape)
    elif len(shape) < 2:
        value = 0.1 * rng.normal(size=shape)
    else:
        value = rng.normal(size=shape) / sqrt(prod(shape[1:]))
    return np.asarray(value, np.float32)


def write(name: str, shapes: Mapping[str, Sequence[int]], **arrays: npt.NDArray[np.generic]) -> None:
    """Record a golden; for whoever makes it with the official code at hand."""
    FOLDER.mkdir(exist_ok=True)
    keys = json.dumps({key: list(shape) for key, shape in shapes.items()})
    np.savez_compressed(FOLDER / f"{name}.npz", allow_pickle=False, keys=np.array(keys), **arrays)


def read(name: str) -> tuple[dict[str, Array], dict[str, npt.NDArray[np.generic]]]:
    """Return the drawn official state and the arrays of golden `name`."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    return drawn(json.loads(str(arrays.pop("keys")))), arrays
