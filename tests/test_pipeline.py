"""The road through the command line: compile and flash one's own model, and what is refused on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tflite_writer
from conftest import earkit

from kit import errors, outputs

Capture = pytest.CaptureFixture[str]
GOOD = np.zeros((1, 33, 16), np.int8)


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
    assert earkit(capsys, "flash", build)[1].splitlines()[-1] == f"next: earkit listen {build}"


def drop(name: str) -> Callable[[Path], None]:
    return lambda build: (build / name).unlink()


def flip(name: str) -> Callable[[Path], None]:
    def spoil(build: Path) -> None:
        data = bytearray((build / name).read_bytes())
        data[len(data) // 2] ^= 1
        (build / name).write_bytes(data)

    return spoil


def edited(**fields: object) -> Callable[[Path], None]:
    def spoil(build: Path) -> None:
        record = json.loads((build / "build.json").read_text())
        (build / "build.json").write_text(json.dumps({**record, **fields}))

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
    "build.json nested": lambda build: (build / "build.json").write_text("[" * 100_000),
    "build.json without a name": edited(name=None),
    "build.json without a board": edited(board=None),
    "build.json with a number for labels": edited(labels=5),
    "build.json with text for sizes": edited(sizes="big"),
    "build.json with a list for the front end": edited(frontend=[1]),
    "a file": lambda build: (shutil.rmtree(build), build.write_text("x"))[0],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("verb", ["run", "flash", "profile", "listen"])
def test_spoilt_build_is_one_line(
    spoil: Callable[[Path], None], verb: str, build: Path, capsys: Capture
) -> None:
    spoil(build)
    np.save("x.npy", GOOD)
    extra = {"run": ["--input", "x.npy", "--output", "y.npy"], "listen": ["--source", "x.wav"]}.get(verb, [])
    code, out, err = earkit(capsys, verb, build, *extra, "--json")
    assert (code, out, len(err)) == (1, "", 1), err
    assert not Path("y.npy").exists()
    assert not Path("runs").exists()


def test_build_without_its_bundle_is_not_profiled_as_a_bare_model(build: Path, capsys: Capture) -> None:
    (build / "bundle.zip").unlink()
    code, out, err = earkit(capsys, "profile", build)
    assert (code, out, len(err)) == (1, "", 1), err
    assert "bundle.zip is missing" in err[0]
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


def test_place_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from boards.errors import UserError

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="no permission to write"):
        outputs.room_for(tmp_path / "new" / "y.npy")


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
    np.save("x.npy", GOOD)
    argv = {
        "compile": ["compile", tiny_model, "--board", "virtual-m4", "-o", "made"],
        "run": ["run", build, "--input", "x.npy", "--output", "y.npy"],
        "flash": ["flash", build],
        "profile": ["profile", build],
    }[verb]
    code, out, err = earkit(capsys, *argv)
    assert (code, out, len(err)) == (130, "", 1)
    assert sorted(path.name for path in Path().iterdir()) == ["build", "own.tflite", "x.npy"]


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
    np.save(tmp_path / "x.npy", GOOD)
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
    y = tflite_writer.Value("y", (1, 4, 4, 2), "int8", 0.1)
    return tflite_writer.model([x], [tflite_writer.Op("RFFT2D", [x], [y])], [], [y])


@pytest.mark.parametrize(
    ("make", "texts"),
    [(too_big, ("flash", "virtual-m4", "heavy", "--board")), (unknown_op, ("RFFT2D", "spectrogram"))],
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
