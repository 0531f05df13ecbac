"""Running inputs through the board: what TFLM says comes back, and every bad .npy is refused in one line."""

from __future__ import annotations

import errno
import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tflite_writer
from conftest import VIRTUAL, earkit

from kit import run

Capture = pytest.CaptureFixture[str]
SHAPE = (1, 33, 16)


def random_inputs(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (count, *SHAPE[1:])).astype(np.int8)


def oracle(build: Path, x: np.ndarray) -> np.ndarray:
    """Return what TFLM, not ours, makes of a batch."""
    model = (build / "model.tflite").read_bytes()
    return np.concatenate([tflite_writer.invoke(model, one[None])[0] for one in x])


@pytest.mark.parametrize("board", VIRTUAL)
def test_run_agrees_with_tflm_on_every_board(
    board: str, tiny_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "b"
    assert earkit(capsys, "compile", tiny_model, "--board", board, "-o", out)[0] == 0
    x = random_inputs(12)
    np.save(tmp_path / "x.npy", x)
    code, text, err = earkit(
        capsys, "run", out, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", "--json"
    )
    assert (code, err) == (0, [])
    y = np.load(tmp_path / "y.npy")
    np.testing.assert_array_equal(y, oracle(out, x))
    record = json.loads(text)
    assert (record["inputs"], record["shape"], record["origin"]) == (12, [12, 13], "emulated")


@pytest.mark.parametrize("shape", [(1, 33, 16), (33, 16)])
def test_one_input_with_or_without_its_leading_1(
    build: Path, shape: tuple[int, ...], capsys: Capture
) -> None:
    x = random_inputs(1)
    np.save("x.npy", x.reshape(shape))
    assert earkit(capsys, "run", build, "--input", "x.npy", "--output", "y.npy")[0] == 0
    np.testing.assert_array_equal(np.load("y.npy"), oracle(build, x))


def test_float_is_quantised_and_comes_back_as_float(build: Path, capsys: Capture) -> None:
    from firmware.compiler import build as builds

    graph = builds.load(build).graph
    into, out = (graph.tensors[i].quantisation for i in (graph.inputs[0], graph.outputs[0]))
    assert into is not None
    assert out is not None
    x = random_inputs(3)
    np.save("x.npy", run.dequantise(x, into) + np.float32(0.4) * into.scale[0])
    assert earkit(capsys, "run", build, "--input", "x.npy", "--output", "deep/er/y.npy")[0] == 0
    y = np.load("deep/er/y.npy")
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, run.dequantise(oracle(build, x), out), rtol=1e-6)


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def saved(array: np.ndarray, **options: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


GOOD = saved(np.zeros(SHAPE, np.int8))
ONE_NAN = np.zeros(SHAPE, np.float32)
ONE_NAN[0, 2, 3] = np.nan
BAD_INPUTS = {
    "missing": (None, "no such file"),
    "empty": (b"", "not a .npy"),
    "text": (b"1,2,3\n", "not a .npy"),
    "cut header": (GOOD[:40], "not a .npy"),
    "cut data": (GOOD[:-7], "cut short"),
    "pickle": (saved(np.array([{"a": 1}], dtype=object), allow_pickle=True), "pickle"),
    "npz": (b"PK\x03\x04" + bytes(60), "not a .npy"),
    "no header": (npy("{"), "not a .npy"),
    "code as header": (npy("__import__('os').system('true')"), "not a .npy"),
    "huge shape": (
        npy("{'descr': '|i1', 'fortran_order': False, 'shape': (1000000, 1000000, 1000000)}"),
        "cut short",
    ),
    "negative shape": (npy("{'descr': '|i1', 'fortran_order': False, 'shape': (-1, 16)}"), "x.npy"),
    "wrong shape": (saved(np.zeros((33, 15), np.int8)), "shape (33, 15), needs (1, 33, 16)"),
    "transposed": (saved(np.zeros((16, 33), np.int8)), "shape (16, 33)"),
    "a number": (saved(np.zeros((), np.int8)), "shape ()"),
    "batch of none": (saved(np.zeros((0, 33, 16), np.int8)), "shape (0, 33, 16)"),
    "float64": (saved(np.zeros(SHAPE)), "float64"),
    "uint8": (saved(np.zeros(SHAPE, np.uint8)), "uint8"),
    "int16": (saved(np.zeros(SHAPE, np.int16)), "int16"),
    "text array": (saved(np.full(SHAPE, "a")), "needs int8 or float32"),
    "NaN": (saved(ONE_NAN), "1 values are NaN or infinite, the first at (0, 0, 2, 3)"),
    "infinite": (saved(np.full(SHAPE, np.inf, np.float32)), "528 values are NaN or infinite"),
}


@pytest.mark.parametrize(("content", "text"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_bad_input_of_run_is_one_line(content: bytes | None, text: str, build: Path, capsys: Capture) -> None:
    if content is not None:
        Path("x.npy").write_bytes(content)
    before = sorted(Path().rglob("*"))
    code, out, err = earkit(capsys, "run", build, "--input", "x.npy", "--output", "y.npy", "--json")
    assert (code, out, len(err)) == (1, "", 1), err
    assert text in err[0]
    assert sorted(Path().rglob("*")) == before
    Path("x.npy").write_bytes(GOOD)
    assert earkit(capsys, "run", build, "--input", "x.npy", "--output", "y.npy")[0] == 0  # a second try works


def test_output_under_a_file_is_refused_before_the_board_is_asked(build: Path, capsys: Capture) -> None:
    Path("x.npy").write_bytes(GOOD)
    code, _, err = earkit(capsys, "run", build, "--input", "x.npy", "--output", "x.npy/y.npy")
    assert (code, len(err)) == (1, 1)
    assert "is a file, not a folder" in err[0]


def test_full_disk_leaves_the_old_output(
    build: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Path("x.npy").write_bytes(GOOD)
    Path("y.npy").write_bytes(b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", full)
    code, out, err = earkit(capsys, "run", build, "--input", "x.npy", "--output", "y.npy", "--json")
    assert (code, out, len(err)) == (1, "", 1)
    assert "disk is full" in err[0]
    assert Path("y.npy").read_bytes() == b"old"
    assert sorted(path.name for path in Path().iterdir()) == ["build", "x.npy", "y.npy"]


def test_kws_of_others_agrees_with_tflm(kws_model: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "kws"
    assert earkit(capsys, "compile", kws_model, "--board", "virtual-m4", "-o", out)[0] == 0
    x = np.random.default_rng(2).integers(-128, 128, (4, 49, 10, 1)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    code, _, _ = earkit(capsys, "run", out, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), oracle(out, x))
