"""The farm: fleets that are read or refused, boards that fail alone, and a table that mixes no origins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_writer as writer
from conftest import earkit

import boards
from boards.errors import UserError
from kit import farm, pipeline

Capture = pytest.CaptureFixture[str]


def listed(folder: Path, *entries: str, model: str = "") -> Path:
    path = folder / "fleet.toml"
    path.write_text(model + "".join(f"[[boards]]\n{entry}\n" for entry in entries), encoding="utf-8")
    return path


def large_model(path: Path, inputs: int) -> Path:
    """Write a layer of one output."""
    x = writer.Value("x", (1, inputs), "int8", 0.1)
    y = writer.Value("y", (1, 1), "int8", 0.1)
    w = writer.constant("w", np.ones((1, inputs)), "int8", 0.01)
    b = writer.constant("b", np.zeros(1), "int32", 0.001)
    op = writer.Op("FULLY_CONNECTED", [x, w, b], [y], version=4)
    path.write_bytes(writer.model([x], [op], [w, b], [y]))
    return path


def test_boards_run_together_and_one_that_fails_leaves_the_others(tmp_path: Path, capsys: Capture) -> None:
    most = boards.load("virtual-m3").ram_memory.size  # so long an input leaves no room
    assert most < boards.load("virtual-m4").ram_memory.size * 3 / 4
    large_model(tmp_path / "wide.tflite", most)
    entries = ('board = "virtual-m4"', 'board = "virtual-m3"\nname = "full"', 'board = "virtual-m4"')
    fleet = listed(tmp_path, *entries, model='model = "wide.tflite"\n')
    out = tmp_path / "out"
    code, text, err = earkit(capsys, "farm", fleet, "--samples", "1", "--jobs", "2", "-o", out, "--json")
    assert code == 1
    assert "1 of 3 boards failed: full" in err[-1]
    record = json.loads(text)
    assert json.loads((out / "farm.json").read_text()) == record
    first, full, second = record["boards"]
    assert [first["name"], second["name"]] == ["virtual-m4", "virtual-m4-2"]
    assert full["error"].startswith("compile: ")
    assert "counts" not in full
    for row in (first, second):
        assert row["error"] is None
        profile = json.loads((out / "run" / row["name"] / "profile.json").read_text())
        assert row["counts"]["instructions"] == {"value": profile["instructions"], "origin": "emulated"}
        assert row["flash_bytes"] == (out / "build" / row["name"] / "firmware.bin").stat().st_size
    assert first["counts"] == second["counts"]  # the same firmware on the same board
    assert first["counts"]["mismatches"]["value"] == 0


def test_a_bundle_brings_its_accuracy(tiny_bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    fleet = listed(tmp_path, 'board = "virtual-m0plus"', 'board = "virtual-m4"')
    code, text, err = earkit(capsys, "farm", fleet, tiny_bundle, "--samples", "6", "-o", tmp_path / "out")
    assert code == 0, err
    assert "accuracy, emulated" in text
    assert "measured" not in text.replace("bytes, measured", "")
    rows = json.loads((tmp_path / "out" / "farm.json").read_text())["boards"]
    assert {row["counts"]["accuracy"]["value"] for row in rows} == {rows[0]["host_int8"]}


def test_a_build_is_for_its_board_only(tiny_build: Path, tmp_path: Path) -> None:
    build = shutil.copytree(tiny_build, tmp_path / "build", ignore=shutil.ignore_patterns("board.flash"))
    fleet = farm.Fleet.model_validate({"boards": [{"board": "virtual-m4"}, {"board": "virtual-m0plus"}]})
    good, other = farm.run(fleet, str(build), tmp_path / "out", samples=2)
    assert good["error"] is None
    assert good["build_id"] == json.loads((build / "build.json").read_text())["build_id"]
    assert "a build for virtual-m4" in other["error"]
    assert not (build / "board.flash").exists()  # it was copied


WRONG = {
    "no file": (None, "no such file"),
    "not TOML": ("[[boards", "not TOML"),
    "no boards": ("model = 'x'\n", "boards: Field required"),
    "empty list": ("boards = []\n", "boards: List should have at least 1 item"),
    "not tables": ("boards = ['virtual-m4']\n", "boards: entry 1"),
    "no board": ("[[boards]]\nport = '/dev/ttyX'\n", "boards: entry 1: board: Field required"),
    "number": ("[[boards]]\nboard = 4\n", "boards: entry 1: board: Input should be a valid string"),
    "misspelt": ("[[boards]]\nboard = 'virtual-m4'\nprt = 'x'\n", "boards entry 1 unknown key 'prt'"),
    "top misspelt": ("modell = 'x'\n[[boards]]\nboard = 'virtual-m4'\n", "unknown key 'modell'"),
    "no such board": ("[[boards]]\nboard = 'virtual-m44'\n", "entry 1: board: no board 'virtual-m44'"),
    "bad name": ("[[boards]]\nboard = 'virtual-m4'\nname = '../up'\n", "boards: entry 1: name:"),
    "virtual port": ("[[boards]]\nboard = 'virtual-m4'\nport = '/dev/ttyX'\n", "entry 1: port: virtual-m4"),
    "same name": (
        "[[boards]]\nboard = 'virtual-m4'\nname = 'a'\n[[boards]]\nboard = 'virtual-m7'\nname = 'a'\n",
        "entry 2: name 'a' is that of entry 1",
    ),
}


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_fleet_is_one_line_with_the_key(
    text: str | None, said: str, tmp_path: Path, capsys: Capture
) -> None:
    if text is not None:
        (tmp_path / "fleet.toml").write_text(text)
    code, out, err = earkit(capsys, "farm", tmp_path / "fleet.toml", "m.tflite", "-o", tmp_path / "out")
    assert (code, out, len(err)) == (1, "", 1)
    assert said in err[0]
    assert not (tmp_path / "out").exists()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a board be real: `nucleo`."""
    load = boards.load
    real = load("virtual-m4").model_copy(update={"name": "nucleo", "kind": "mcu", "emulator": "none"})
    monkeypatch.setattr(boards, "load", lambda name: real if name == "nucleo" else load(name))


@pytest.mark.usefixtures("desk")
def test_no_two_entries_for_one_port(tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyACM0")
    ports = [f'board = "nucleo"\nport = "{tmp_path / name}"' for name in ("ttyACM0", "by-id")]
    with pytest.raises(UserError, match=r"entry 2: port '.*ttyACM0' is that of entry 1 already"):
        farm.read(listed(tmp_path, *ports))
    with pytest.raises(UserError, match=r"entry 2: the only nucleo by its USB id .*is that of entry 1"):
        farm.read(listed(tmp_path, 'board = "nucleo"', 'board = "nucleo"\nname = "b"'))
    assert len(farm.read(listed(tmp_path, 'board = "nucleo"', ports[0])).boards) == 2
    emulated = 'board = "nucleo"\nport = "emulator"'
    assert len(farm.read(listed(tmp_path, emulated, emulated)).boards) == 2


def test_a_real_board_that_is_not_there(tiny_bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    entry = f'board = "nucleo-f446re"\nport = "{tmp_path}/ttyACM0"'
    fleet = listed(tmp_path, entry, 'board = "virtual-m4"')
    code, text, _ = earkit(
        capsys, "farm", fleet, tiny_bundle, "--samples", "2", "-o", tmp_path / "out", "--json"
    )
    assert code == 1
    desk, here = json.loads(text)["boards"]
    assert desk["error"].startswith("flash: ")
    assert f"{tmp_path}/ttyACM0" in desk["error"]
    assert desk["proof"] == boards.load("nucleo-f446re").proven
    assert here["error"] is None


@pytest.mark.parametrize("stage", ["flash", "profile"])
def test_what_a_board_fails_of_is_one_line(
    stage: str, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise UserError("/dev/ttyACM0 is busy")

    monkeypatch.setattr(pipeline, stage, broken)
    told = farm.one("a", "virtual-m4", None, str(build), str(tmp_path), {})
    assert told == {"error": f"{stage}: /dev/ttyACM0 is busy"}

    def buggy(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(pipeline, stage, buggy)
    assert farm.one("a", "virtual-m4", None, str(build), str(tmp_path), {}) == {
        "error": f"{stage}: ZeroDivisionError: of ours"
    }


def row(name: str, **given: Any) -> dict[str, Any]:
    return {"name": name, "board": name, "proof": "emulated", "error": None, **given}


def test_the_table_mixes_no_origins() -> None:
    sizes = {"samples": 4, "ram_bytes": 1000, "flash_bytes": 2000}
    desk_counts = {"cycles": 7, "milliseconds": 0.5, "accuracy": 0.75, "mismatches": 0}
    rows = [
        row("desk", counts={k: {"value": v, "origin": "measured"} for k, v in desk_counts.items()}, **sizes),
        row("here", counts={"instructions": {"value": 9, "origin": "emulated"}}, **sizes),
        row("gone") | {"error": "flash: no such port"},
    ]
    columns, cells = farm.table(rows)
    counts = ["cycles, measured", "instructions, emulated", "milliseconds, measured", "accuracy, measured"]
    assert columns[3:7] == counts
    assert columns[-1] == "trouble"
    cycles = columns.index("cycles, measured")
    assert [cells[0][cycles], cells[1][cycles]] == [7, None]
    assert cells[1][columns.index("instructions, emulated")] == 9
    assert cells[2][3:] == [None] * (len(columns) - 4) + ["flash: no such port"]
    assert "trouble" not in farm.table(rows[:2])[0]


def test_a_crash_takes_no_other_board_along(
    tiny_build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process of one board dies of a signal, from the sitecustomize of a test's own."""
    shutil.copytree(tiny_build, tmp_path / "build")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def hook(event, args):\n"
        "    if event == 'open' and 'doomed' in str(args[0]): os.kill(os.getpid(), 9)\n"
        "sys.addaudithook(hook)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    entries = [{"board": "virtual-m4", "name": "doomed"}, {"board": "virtual-m4", "name": "well"}]
    doomed, well = farm.run(
        farm.Fleet.model_validate({"boards": entries}), str(tmp_path / "build"), tmp_path, jobs=1, samples=2
    )
    assert "signal 9" in doomed["error"]
    assert well["error"] is None
