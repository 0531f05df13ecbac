"""Core ML packages: the int8 bytes of the .tflite, each op within a step of LiteRT's, and refusals."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_writer as tw
import tree_sitter
import tree_sitter_swift
from conftest import earkit

from boards.errors import UserError
from firmware.compiler import read_tflite
from quantize import bundle as bundles
from quantize.worker import Worker

ZOO = Path(__file__).parent.parent / "models" / "zoo"
FAMILIES = ("panns", "conette", "tiny_transformer")
STRICT = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-DEAR_MICROPHONE=1", "-Iinclude")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(
        variables={"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parent.parent}"}
    ) as process:
        yield process


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """Give a bundle, its package, and what the export said."""
    from kit.coreml import package

    source = ZOO / f"{request.param}-micro-esc10.zip"
    out = tmp_path_factory.mktemp("coreml") / f"{request.param}.mlpackage"
    return source, out, package.export(source, out)


def test_package_holds_the_very_bytes_of_the_tflite(made: tuple[Path, Path, Any], worker: Worker) -> None:
    source, out, record = made
    found = worker.call("coreml_steps", "constants", package=str(out))
    assert len(found) == record["int8_constants"] > 10
    graph = read_tflite.read(bundles.load(source).model(), "model")
    known: dict[str, set[str]] = {}
    for tensor in graph.tensors:
        if tensor.data is not None and tensor.dtype == "int8":
            for turned in _turned(tensor.data):
                known.setdefault(hashlib.sha256(turned.tobytes()).hexdigest(), set()).add(str(turned.shape))
    for shape, digest in found:
        assert str(tuple(shape)) in known[digest]
    assert record["executed"] is False


def _turned(data: Any) -> Iterator[Any]:
    """Yield the orders in which Core ML may hold a constant."""
    data = data if data.ndim else data.reshape(1)
    yield data
    four = data.reshape((1,) * (4 - data.ndim) + data.shape)
    for order in ((0, 3, 1, 2), (3, 0, 1, 2)):
        yield np.ascontiguousarray(four.transpose(order))
    if data.ndim == 2:
        yield data.reshape(*data.shape, 1, 1)


def test_each_op_is_within_a_step_of_litert(
    made: tuple[Path, Path, Any], worker: Worker, tmp_path: Path
) -> None:
    source, out, record = made
    bundle = bundles.load(source)
    (tmp_path / "m.tflite").write_bytes(bundle.model())
    np.save(tmp_path / "x.npy", bundle.arrays("expected.npz")["inputs"])
    paths = {"model": str(tmp_path / "m.tflite"), "inputs": str(tmp_path / "x.npy")}
    found = worker.call("coreml_steps", "steps", package=str(out), **paths)
    assert len(found) == record["int8_values"]
    assert max(worst for worst, _ in found) <= 1
    assert np.median([share for _, share in found]) < 0.02


def test_whole_model_hears_what_the_host_hears(made: tuple[Path, Path, Any]) -> None:
    evaluated = made[2]["evaluated"]
    assert evaluated["clips"] == 10
    assert evaluated["same_best"] >= 9
    assert evaluated["largest_difference"] <= 16  # as LiteRT's two engines among themselves


def test_swift_parses_and_its_c_compiles_for_apple(made: tuple[Path, Path, Any]) -> None:
    folder = Path(made[2]["swift"])
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))
    for path in folder.rglob("*.swift"):
        assert not parser.parse(path.read_bytes()).root_node.has_error, path
    for path in folder.rglob("*"):
        assert path.is_dir() or not re.search(r"@[A-Z_]+@", path.read_text(encoding="utf-8")), path
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "Nothing here has been built or run" in readme
    sources = folder / "Sources" / "CEar"
    units = sorted(path.name for path in sources.glob("*.c"))
    for target in ("aarch64-ios", "aarch64-macos"):
        for unit in units:
            command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *STRICT, "-c", unit]
            done = subprocess.run(
                [*command, "-o", "unit.o"], cwd=sources, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
    (sources / "unit.o").unlink()


def test_a_changed_weight_is_found(made: tuple[Path, Path, Any], tmp_path: Path, worker: Worker) -> None:
    """The proof can fail: one bit of the weight file, and reading back says so."""
    source, out, _ = made
    spoilt = tmp_path / "spoilt.mlpackage"
    shutil.copytree(out, spoilt)
    (tmp_path / "m.tflite").write_bytes(bundles.load(source).model())
    weights = spoilt / "Data" / "com.apple.CoreML" / "weights" / "weight.bin"
    data = bytearray(weights.read_bytes())
    graph = read_tflite.read(bundles.load(source).model(), "model")
    last = next(node for node in reversed(graph.nodes) if node.op == "FULLY_CONNECTED")
    values = graph.tensors[last.inputs[1]].data
    assert values is not None
    data[data.index(values.tobytes()) + 3] ^= 1
    weights.write_bytes(data)
    paths = {"model": str(tmp_path / "m.tflite"), "package": str(out)}
    assert worker.call("coreml_steps", "read_back", **paths)["int8_constants"] > 10
    with pytest.raises(UserError, match="read back otherwise than written"):
        worker.call("coreml_steps", "read_back", **(paths | {"package": str(spoilt)}))


def _model(node: str, shape: tuple[int, ...] = (1, 8), dtype: str = "int8") -> bytes:
    x, y = tw.Value("x", shape, dtype, 0.1), tw.Value("y", shape, dtype, 0.1)
    axis = [tw.constant("axis", np.array(1), "int32")] if node == "CUMSUM" else []
    return tw.model([x], [tw.Op(node, [x, *axis], [y])], [], [y])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (("CUMSUM",), "CUMSUM at 'y' has no counterpart in Core ML"),
        (("RELU", (1, 2, 2, 2, 2, 2)), "RELU at 'y' has more than 5 axes"),
        (("RELU", (1, 8), "int16"), "RELU at 'y' has int16 values"),
    ],
)
def test_what_has_no_counterpart_is_named(
    model: tuple[Any, ...], words: str, tmp_path: Path, worker: Worker
) -> None:
    (tmp_path / "m.tflite").write_bytes(_model(*model))
    out = tmp_path / "m.mlpackage"
    given = {"model": str(tmp_path / "m.tflite"), "out": str(out), "name": "m", "facts": {}}
    with pytest.raises(UserError, match=words):
        worker.call("kit.coreml.convert", "convert", **given)
    assert not out.exists()
    (tmp_path / "m.tflite").write_bytes(b"TFL3 no")
    with pytest.raises(UserError):
        worker.call("kit.coreml.convert", "convert", **given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x.zip"], "is named NAME.mlpackage"),
        (["-o", "taken.mlpackage"], "exists and is no Core ML package"),
        (["-o", "m.mlpackage", "--board", "virtual-m4"], "leave --board out"),
        (["-o", "beside.mlpackage"], "exists and is not an export"),
    ],
)
def test_bad_requests_are_one_line(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("taken.mlpackage", "beside-swift"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.txt").write_text("mine")
    code, _, lines = earkit(capsys, "export", ZOO / "panns-micro-esc10.zip", "--as", "coreml", *arguments)
    assert code == 1
    assert len(lines) == 1
    assert words in lines[0]
    assert not (tmp_path / "m.mlpackage").exists()


def test_command_says_what_was_verified(
    tiny_bundle: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, lines = earkit(capsys, "export", tiny_model, "--as", "coreml", "-o", tmp_path / "m.mlpackage")
    assert code == 1
    assert "give a bundle" in lines[0]
    for _ in range(2):  # the second one replaces the first
        code, said, lines = earkit(
            capsys, "export", tiny_bundle, "--as", "coreml", "-o", tmp_path / "m.mlpackage"
        )
        assert code == 0, lines
        assert "read back equal" in said
        assert "never executed" in said
    record = json.loads((tmp_path / "m-swift" / "earkit.json").read_text())
    assert record["executed"] is False
    assert (tmp_path / "m.mlpackage" / "Manifest.json").exists()
