"""The road through the command line: compile, flash and run one's own model, and what is refused on it."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tflite_writer

import boards
from kit import cli, errors, outputs, run

Capture = pytest.CaptureFixture[str]
SHAPE = (1, 33, 16)
UNICORN = [name for name in boards.names() if boards.load(name).emulator == "unicorn"]


@pytest.fixture
def build(tiny_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of the tiny build as ./build, to spoil at will."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_build, tmp_path / "build"))


def earkit(capsys: Capture, *argv: str | Path) -> tuple[int, str, list[str]]:
    code = cli.main([str(part) for part in argv])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def random_inputs(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-128, 128, (count, *SHAPE[1:])).astype(np.int8)


def oracle(build: Path, x: np.ndarray) -> np.ndarray:
    """Return what TFLM, not ours, makes of a batch."""
    model = (build / "model.tflite").read_bytes()
    return np.concatenate([tflite_writer.invoke(model, one[None])[0] for one in x])


def test_compile_json_is_the_contract(tiny_model: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "made"
    code, text, err = earkit(capsys, "compile", tiny_model, "--board", "virtual-m4", "-o", out, "--json")
    assert (code, err) == (0, [])
    sizes = json.loads(text)
    assert set(sizes) >= {
        "board",
        "core",
        "flash_bytes",
        "ram_bytes",
        "lower_bound_bytes",
        "macs",
        "ops",
        "seconds",
    }
    assert sizes["flash_bytes"]["total"] == (out / "firmware.bin").stat().st_size
    assert sizes["flash_bytes"]["total"] == sum(sizes["flash_bytes"][part] for part in ("code", "weights"))
    assert sizes["ram_bytes"]["total"] == sum(
        sizes["ram_bytes"][p] for p in ("arena", "state", "static", "stack")
    )
    assert sizes["macs"] == 33 * 16 * 13
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "own.tflite"]


def test_compile_names_its_folder_after_model_and_board(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tiny_model.parent)
    code, text, _ = earkit(capsys, "compile", tiny_model.name, "--board", "virtual-m3")
    assert code == 0
    assert (tiny_model.parent / "build" / "own-virtual-m3" / "build.json").is_file()
    assert "build/own-virtual-m3" in text


def test_flash_writes_the_board_and_it_answers(build: Path, capsys: Capture) -> None:
    code, text, err = earkit(capsys, "flash", build, "--json")
    assert (code, err) == (0, [])
    record = json.loads(text)
    assert record["board"] == "virtual-m4"
    assert record["bytes"] == (build / "firmware.bin").stat().st_size
    assert record["build_id"] == json.loads((build / "build.json").read_text())["build_id"]


@pytest.mark.parametrize("board", UNICORN)
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


def drop(name: str) -> Callable[[Path], None]:
    return lambda build: (build / name).unlink()


def flip(name: str) -> Callable[[Path], None]:
    def spoil(build: Path) -> None:
        data = bytearray((build / name).read_bytes())
        data[len(data) // 2] ^= 1
        (build / name).write_bytes(data)

    return spoil


SPOILT = {
    "no build.json": drop("build.json"),
    "no model": drop("model.tflite"),
    "no image": drop("firmware.bin"),
    "model changed": flip("model.tflite"),
    "image changed": flip("firmware.bin"),
    "bootloader changed": flip("boot.bin"),
    "build.json cut": lambda build: (build / "build.json").write_text("{"),
    "build.json empty": lambda build: (build / "build.json").write_text("{}"),
    "build.json of a list": lambda build: (build / "build.json").write_text("[]"),
    "a file": lambda build: (shutil.rmtree(build), build.write_text("x"))[0],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("verb", ["run", "flash", "profile", "listen"])
def test_spoilt_build_is_one_line(
    spoil: Callable[[Path], None], verb: str, build: Path, capsys: Capture
) -> None:
    spoil(build)
    Path("x.npy").write_bytes(GOOD)
    extra = {"run": ["--input", "x.npy", "--output", "y.npy"], "listen": ["--source", "x.wav"]}.get(verb, [])
    code, out, err = earkit(capsys, verb, build, *extra, "--json")
    assert (code, out, len(err)) == (1, "", 1), err
    assert not Path("y.npy").exists()
    assert not Path("runs").exists()


def float_model(tiny_bundle: Path) -> bytes:
    return (tiny_bundle / "model.float.tflite").read_bytes()


BAD_MODELS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "m: not a .tflite"),
    "cut": (lambda model: model[: len(model) // 2], "m"),
    "random": (lambda _: np.random.default_rng(0).bytes(5_000), "m"),
    "text": (lambda _: b"<html>not found</html>", "m"),
    "zip": (lambda _: b"PK\x03\x04" + bytes(100), "m"),
}


@pytest.mark.parametrize(("spoil", "text"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_bad_model_is_one_line_and_leaves_nothing(
    spoil: Callable[[bytes], bytes],
    text: str,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tiny_model.parent)
    Path("m.tflite").write_bytes(spoil(tiny_model.read_bytes()))
    before = sorted(Path().rglob("*"))
    code, out, err = earkit(capsys, "compile", "m.tflite", "--board", "virtual-m4", "--json")
    assert (code, out, len(err)) == (1, "", 1), err
    assert text in err[0]
    assert sorted(Path().rglob("*")) == before


def test_float_model_is_refused_with_the_cure(tiny_bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "f.tflite").write_bytes(float_model(tiny_bundle))
    code, out, err = earkit(
        capsys, "compile", tmp_path / "f.tflite", "--board", "virtual-m4", "-o", tmp_path / "b"
    )
    assert (code, out, len(err)) == (1, "", 1)
    assert "int8" in err[0]
    assert not (tmp_path / "b").exists()


def test_folder_of_others_is_not_overwritten(tiny_model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, err = earkit(capsys, "compile", tiny_model, "--board", "virtual-m4", "-o", tmp_path / "mine")
    assert (code, len(err)) == (1, 1)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_output_under_a_file_is_refused_before_the_board_is_asked(build: Path, capsys: Capture) -> None:
    Path("x.npy").write_bytes(GOOD)
    code, _, err = earkit(capsys, "run", build, "--input", "x.npy", "--output", "x.npy/y.npy")
    assert (code, len(err)) == (1, 1)
    assert "is a file, not a folder" in err[0]


def test_place_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from boards.errors import UserError

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="no permission to write"):
        outputs.room_for(tmp_path / "new" / "y.npy")


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


@pytest.mark.parametrize("verb", ["compile", "run", "flash", "profile"])
def test_ctrl_c_is_130_and_leaves_nothing(
    verb: str, build: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from firmware.compiler import emit
    from kit import device

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(emit, "header", interrupt)
    monkeypatch.setattr(device.Device, "info", interrupt)
    Path("x.npy").write_bytes(GOOD)
    argv = {
        "compile": ["compile", tiny_model, "--board", "virtual-m4", "-o", "made"],
        "run": ["run", build, "--input", "x.npy", "--output", "y.npy"],
        "flash": ["flash", build],
        "profile": ["profile", build],
    }[verb]
    code, out, err = earkit(capsys, *argv)
    assert (code, out, len(err)) == (130, "", 1)
    assert sorted(path.name for path in Path().iterdir()) == ["build", "own.tflite", "x.npy"]


def test_kws_of_others_agrees_with_tflm(kws_model: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "kws"
    assert earkit(capsys, "compile", kws_model, "--board", "virtual-m4", "-o", out)[0] == 0
    x = np.random.default_rng(2).integers(-128, 128, (4, 49, 10, 1)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    code, _, _ = earkit(capsys, "run", out, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), oracle(out, x))


def test_compress_without_its_extra_names_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "keras", None)
    code, out, err = earkit(capsys, "compress", "panns")
    assert (code, out, len(err)) == (1, "", 1), err
    assert "earkit compress needs the 'train' extra" in err[0]
    assert "pip install 'earkit[train]'" in err[0]
    assert list(tmp_path.iterdir()) == []


def test_everything_after_the_bundle_needs_no_extra(tiny_bundle: Path, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(errors.EXTRAS)!r}))\n"
        "sys.modules.update(dict.fromkeys(['scipy', 'tflite_micro', 'hypothesis', 'flatbuffers']))\n"
        "from kit import cli\n"
        "for line in sys.argv[1:]:\n"
        "    code = cli.main(line.split())\n"
        "    assert code == 0, (line, code)\n"
    )
    np.save(tmp_path / "x.npy", random_inputs(1))
    soundfile.write(tmp_path / "clip.wav", np.zeros(20_000, np.int16), 16_000)
    road = [
        "models",
        "boards",
        f"compile {tiny_bundle} --board virtual-m4 -o build",
        "flash build",
        "run build --input x.npy --output y.npy",
        "listen build --source clip.wav --fast",
        "profile build --samples 4 -o run",
        "report run",
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *road],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "report.html").is_file()


def too_big() -> bytes:
    """Return a layer of 1.2 MB of weights; virtual-m4 has 1 MB of flash."""
    x = tflite_writer.Value("x", (1, 1_200), "int8", 0.1)
    y = tflite_writer.Value("y", (1, 1_000), "int8", 0.1)
    weights = np.random.default_rng(0).integers(-127, 128, (1_000, 1_200))
    w = tflite_writer.constant("heavy", weights, "int8", 0.01)
    return tflite_writer.model(
        [x], [tflite_writer.Op("FULLY_CONNECTED", [x, w, None], [y], version=4)], [w], [y]
    )


def unknown_op() -> bytes:
    x = tflite_writer.Value("x", (1, 4, 4, 2), "int8", 0.1)
    y = tflite_writer.Value("y", (1, 2, 2, 8), "int8", 0.1)
    return tflite_writer.model(
        [x], [tflite_writer.Op("SPACE_TO_DEPTH", [x], [y], {"block_size": 2})], [], [y]
    )


@pytest.mark.parametrize(
    ("make", "texts"),
    [(too_big, ("flash", "virtual-m4", "heavy", "--board")), (unknown_op, ("SPACE_TO_DEPTH",))],
    ids=["too big", "unknown op"],
)
def test_model_that_cannot_be_built_is_refused(
    make: Callable[[], bytes],
    texts: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.tflite").write_bytes(make())
    code, out, err = earkit(capsys, "compile", "m.tflite", "--board", "virtual-m4", "--json")
    assert (code, out, len(err)) == (1, "", 1), err
    for text in texts:
        assert text in err[0]
    assert [path.name for path in Path().iterdir()] == ["m.tflite"]
