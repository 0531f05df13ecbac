"""Fixtures that several areas share: where somebody else's models and data lie, and a small firmware."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def shared_folder() -> Path:
    """Return the folder with models/ and data/ of others: $EARKIT_SHARED, else `shared` beside the checkout."""
    return Path(os.environ.get("EARKIT_SHARED") or ROOT.parent / "shared")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Give the shared folder, or skip with the reason."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set EARKIT_SHARED to one with models/ and data/")
    return folder


@pytest.fixture(scope="session")
def kws_model(shared: Path) -> Path:
    """Give somebody else's int8 keyword model, or skip with the reason."""
    model = shared / "models" / "kws_ref_model.tflite"
    if not model.is_file():
        pytest.skip(f"no {model}")
    return model


TINY_FRAMES, TINY_BANDS = 12, 16


@pytest.fixture(scope="session")
def tiny_model() -> bytes:
    """Give an int8 .tflite of one fully connected layer: (1, 12, 16) features to 13 classes."""
    return tiny_models()[0]


def tiny_models() -> tuple[bytes, bytes]:
    """Return the same random layer in int8 and in float."""
    import numpy as np
    import tflite_writer as writer

    rng = np.random.default_rng(5)
    inputs, classes = TINY_FRAMES * TINY_BANDS, 13
    weights = rng.integers(-127, 128, (classes, inputs))
    bias = rng.integers(-20_000, 20_000, classes)
    x = writer.Value("features", (1, TINY_FRAMES, TINY_BANDS), "int8", 0.5, -5)
    flat = writer.Value("flat", (1, inputs), "int8", 0.5, -5)
    y = writer.Value("logits", (1, classes), "int8", 0.5, 3)
    shape = writer.constant("shape", [1, inputs])
    w = writer.constant("weights", weights, "int8", 0.005)
    b = writer.constant("bias", bias, "int32", 0.0025)
    nodes = [
        writer.Op("RESHAPE", [x, shape], [flat]),
        writer.Op("FULLY_CONNECTED", [flat, w, b], [y], {"keep_num_dims": False}, version=4),
    ]
    int8 = writer.model([x], nodes, [shape, w, b], [y])
    xf, flatf, yf = (
        writer.Value(v.name, v.shape, "float32") for v in (x, flat, y)
    )
    wf = writer.constant("weights", weights * 0.005, "float32")
    bf = writer.constant("bias", bias * 0.0025, "float32")
    nodes = [
        writer.Op("RESHAPE", [xf, shape], [flatf]),
        writer.Op("FULLY_CONNECTED", [flatf, wf, bf], [yf]),
    ]
    return int8, writer.model([xf], nodes, [shape, wf, bf], [yf])
