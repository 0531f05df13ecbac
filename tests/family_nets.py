"""Nets of every family for tests that walk the registry: without memory, thinned, or down to int8."""

from __future__ import annotations

import dataclasses
import fcntl
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import small_nets

from models import registry
from models.blocks import cost
from quantize.prune import with_field

BOARD = "virtual-m7"
CLASSES = 7
DEPTH = 2  # of thinned nets, where layers are alike


@dataclass(frozen=True)
class Artefacts:
    """What becomes of an untrained micro net, and what it was calibrated on, (N, frames, features)."""

    folder: Path
    calibration: np.ndarray

    def read(self, name: str) -> bytes:
        """Return `float.tflite`, `int8.tflite`, `float.onnx` or `qdq.onnx`."""
        return (self.folder / name).read_bytes()


def blank(name: str, size: str) -> Any:
    """Return the net of a size without memory, with the classes of its card."""
    family = registry.load(name)
    return cost.shape_only(lambda: family.net(family.sizes[size], family.card.sizes[size].classes))


def thin(family: registry.Family, size: str, units: int = 8, seconds: float = 1.0) -> Any:
    """Return the config of a size with few layers, channels and hidden units, and short clips."""
    config = shallow(family.config(size, seconds=seconds))
    for group in family.groups(config):
        config = with_field(config, group.field, min(units, group.units))
    return config


def shallow(value: Any) -> Any:
    """Return a config of which every run of equal layers is cut to two."""
    if isinstance(value, tuple):
        alike = len(value) > DEPTH and dataclasses.is_dataclass(value[0]) and len(set(value)) == 1
        return value[:DEPTH] if alike else tuple(shallow(one) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(
            value, **{f.name: shallow(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        )
    return value


def inputs(net: Any, count: int, seed: int = 0) -> np.ndarray:
    """Return features of sound for `net`, in the range of the device's decibels, or of a normalised front."""
    raw = any(layer.name == "bn0" for layer in net.layers)
    level, spread = (-40, 10) if raw else (0, 1)
    shape = (count, *net.input_shape[1:])
    return np.random.default_rng(seed).normal(level, spread, shape).astype(np.float32)


def artefacts(name: str) -> Artefacts:
    """Return the files of a family's micro net, made once for all processes of a test run."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    root = Path(tempfile.gettempdir()) / f"earkit-families-{run}"
    root.mkdir(exist_ok=True)
    folder = root / name
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "calibration.npy").exists():
            folder.mkdir(exist_ok=True)
            _make(name, folder)
    return Artefacts(folder, np.load(folder / "calibration.npy"))


def _make(name: str, folder: Path) -> None:
    from quantize import export, int8, qdq

    family = registry.load(name)
    net = family.net(family.sizes["micro"], CLASSES)
    x = inputs(net, 48)
    worker = small_nets.worker()
    export.both(net, folder / "float.tflite", folder / "float.onnx", worker=worker)
    float_model, onnx = ((folder / part).read_bytes() for part in ("float.tflite", "float.onnx"))
    (folder / "int8.tflite").write_bytes(int8.quantise(float_model, x, worker=worker))
    (folder / "qdq.onnx").write_bytes(qdq.quantise(onnx, x, worker=worker))
    np.save(folder / "calibration.npy", x)
