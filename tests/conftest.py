"""Fixtures that several areas share: where the models and data of others lie, a small bundle, a firmware."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boards
from kit import cli, progress
from models.frontend import FrontEnd

ROOT = Path(__file__).parent.parent
TINY = FrontEnd(bands=16, window=512, hop=484, frames=33)  # 33 frames cover 1 s exactly
CLIPS_PER_CLASS = 16
CONFORMANCE = "test_board.py"
NO_QEMU = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="needs qemu-system-arm")
VIRTUAL = [  # every emulated board, for parametrize
    pytest.param(name, marks=NO_QEMU) if boards.load(name).emulator == "qemu" else name
    for name in boards.names()
    if boards.load(name).kind == "virtual"
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--board", help="run tests/conformance/test_board.py alone, on this board")
    parser.addoption("--port", help="its serial port; else it is found by its USB id")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With --board, look at nothing but the tests of a board."""
    alone = config.getoption("--board") is not None and collection_path.suffix == ".py"
    return True if alone and collection_path.name not in (CONFORMANCE, "conftest.py") else None


def earkit(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, list[str]]:
    """Run the command line; return exit code, stdout and the lines of stderr without those of progress."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "HEARTBEAT", math.inf)
        code = cli.main([str(part) for part in argv])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def shared_folder() -> Path:
    """Return the folder with models/ and data/: $EARKIT_SHARED, else `shared` beside the checkout."""
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


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle of one linear layer, fitted to synthetic clips by least squares: no training extra."""
    from quantize import bundle, prepare

    splits = prepare.load("synthetic", held_out=None, seed=3, clips_per_class=CLIPS_PER_CLASS)
    layer = _fit(splits)
    evaluation = {
        "schema_version": 1,
        "metric": "accuracy",
        "data": splits.record.model_dump(mode="json"),
        "labels": splits.labels,
        "stages": [_stage("full", 0.9, len(splits.test)), _stage("int8", 0.5, len(splits.test))],
        "confusion": np.eye(len(splits.labels), dtype=int).tolist(),
        "qat": "not used",
        "notes": [],
    }
    files = {
        bundle.MODEL: layer["int8"],
        bundle.FLOAT: layer["float"],
        bundle.CALIBRATION: bundle.write_npz(features=np.zeros((1, TINY.frames, TINY.bands), np.float32)),
        bundle.EVALUATION: json.dumps(evaluation).encode(),
        bundle.EXPECTED: bundle.write_npz(
            inputs=np.zeros((1, 1), np.int8), outputs=np.zeros((1, 1), np.int8)
        ),
    }
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    bundle.save(_manifest(splits, layer), files, path)
    return path


@pytest.fixture(scope="session")
def tiny_build(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the tiny bundle compiled for virtual-m4; copy it before changing it."""
    from kit import pipeline

    out = tmp_path_factory.mktemp("builds") / "tiny"
    pipeline.compile(tiny_bundle, "virtual-m4", out)
    return out


@pytest.fixture
def build(tiny_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of the tiny build as ./build, to spoil at will; the current folder is empty otherwise."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_build, "build")
    return Path("build")


@pytest.fixture
def tiny_model(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Give the tiny bundle's int8 .tflite as somebody's own model: input (1, 33, 16), output (1, 13)."""
    from quantize import bundle

    path = tmp_path / "own.tflite"
    path.write_bytes((tiny_bundle / bundle.MODEL).read_bytes())
    return path


def _stage(name: str, accuracy: float, samples: int) -> dict[str, Any]:
    facts = {"what": "a line of least squares", "parameters": None, "macs": None, "runtime": "numpy"}
    return {"name": name, "accuracy": accuracy, "per_class": {}, "samples": samples, **facts}


def _manifest(splits: Any, layer: dict[str, Any]) -> Any:
    from quantize.bundle import Bundle, Provenance, Tensor

    provenance = Provenance(
        data="synthetic",
        data_sha256=splits.record.sha256,
        held_out=None,
        settings_sha256="0" * 64,
        seed=3,
        git_revision=None,
        teacher="none",
        versions={},
        created="2026-01-01T00:00:00Z",
    )
    x_scale, x_zero = layer["x"]
    y_scale, y_zero = layer["y"]
    return Bundle(
        family="linear",
        size="micro",
        task="classification",
        labels=splits.labels,
        sample_rate=TINY.sample_rate,
        frontend=TINY,
        config={},
        inputs=(
            Tensor(name="features", shape=(1, TINY.frames, TINY.bands), scale=x_scale, zero_point=x_zero),
        ),
        outputs=(Tensor(name="logits", shape=(1, len(splits.labels)), scale=y_scale, zero_point=y_zero),),
        licence="Apache-2.0",
        provenance=provenance,
    )


def _fit(splits: Any) -> dict[str, Any]:
    """Return a linear classifier by ridge regression as int8 and float .tflite, and its scales."""
    from models import data, frontend

    sounds = [data.window(clip.samples(TINY.sample_rate), TINY.samples) for clip in splits.train.clips]
    x = np.stack([frontend.to_float(frontend.features(s, TINY)).ravel() for s in sounds]).astype(np.float64)
    truth = np.eye(len(splits.labels))[splits.train.classes] - 1 / len(splits.labels)
    mean = x.mean(axis=0)
    centred = x - mean
    weights = np.linalg.solve(centred.T @ centred + 1e6 * np.eye(x.shape[1]), centred.T @ truth).T
    bias = -weights @ mean
    x_scale = float((x.max() - x.min()) / 255)
    x_zero = round(-128 - x.min() / x_scale)
    y_scale = float(np.abs(x @ weights.T + bias).max() / 127)
    return {
        **_models(weights, bias, (x_scale, x_zero), (y_scale, 0)),
        "x": (x_scale, x_zero),
        "y": (y_scale, 0),
    }


def _models(
    weights: Any, bias: Any, x_scaling: tuple[float, int], y_scaling: tuple[float, int]
) -> dict[str, bytes]:
    import tflite_writer as writer

    classes, inputs = weights.shape
    w_scale = float(np.abs(weights).max() / 127)
    shape = writer.constant("shape", [1, inputs])
    models = {}
    for kind in ("int8", "float32"):
        whole = kind == "int8"
        ends = (x_scaling, y_scaling) if whole else ((None, 0), (None, 0))
        x = writer.Value("features", (1, TINY.frames, TINY.bands), kind, *ends[0])
        flat = writer.Value("flat", (1, inputs), kind, *ends[0])
        y = writer.Value("logits", (1, classes), kind, *ends[1])
        if whole:
            w = writer.constant("weights", np.rint(weights / w_scale), "int8", w_scale)
            b_scale = w_scale * x_scaling[0]
            b = writer.constant("bias", np.rint(bias / b_scale), "int32", b_scale)
        else:
            w, b = writer.constant("weights", weights, "float32"), writer.constant("bias", bias, "float32")
        nodes = [
            writer.Op("RESHAPE", [x, shape], [flat]),
            writer.Op("FULLY_CONNECTED", [flat, w, b], [y], version=4 if whole else 1),
        ]
        models[kind.removesuffix("32")] = writer.model([x], nodes, [shape, w, b], [y])
    return models
