"""Programs for computers: compiled, run here, equal to what the bundle expects; mix-ups told in a line."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest

from boards.errors import UserError
from firmware.compiler import build
from firmware.compiler.program import Program
from kit import builds, cli, device, pipeline, shelf, targets
from quantize import bundle as bundles
from quantize.bundle import EXPECTED

MODEL = "panns-micro-esc10"
HERE = {"x86_64": "linux-x86_64"}.get(platform.machine(), "pi4")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Program:
    compiled = pipeline.compile(shelf.find(MODEL), HERE, tmp_path_factory.mktemp("program") / "here")
    assert isinstance(compiled, Program)
    return compiled


def test_a_program_says_what_the_bundle_expects(made: Program) -> None:
    expected = bundles.load(shelf.find(MODEL)).arrays(EXPECTED)
    with device.open(made, targets.LOCAL) as board:
        assert board.info().build_id == made.build_id
        said = [board.infer(x) for x in expected["inputs"]]
    assert (np.stack(said) == expected["outputs"].reshape(len(said), -1)).all()


def test_a_program_is_read_back_as_it_was_made(made: Program) -> None:
    again = builds.load(made.path)
    assert isinstance(again, Program)
    assert (again.build_id, again.sizes, again.labels) == (made.build_id, made.sizes, made.labels)


def test_sizes_are_of_the_file(made: Program) -> None:
    flash = made.sizes["flash_bytes"]
    assert flash["total"] == flash["code"] + flash["weights"] == made.program.stat().st_size
    assert made.sizes["ram_bytes"]["arena"] == made.plan.arena


def test_run_and_json(made: Program, tmp_path: Path, capsys: Capture) -> None:
    expected = bundles.load(shelf.find(MODEL)).arrays(EXPECTED)
    np.save(tmp_path / "x.npy", expected["inputs"][0])
    ends = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert cli.main(["run", str(made.path), *ends, "--host", "local", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["board"] == HERE
    assert (np.load(tmp_path / "y.npy").ravel() == expected["outputs"][0].ravel()).all()


def test_a_changed_program_is_not_run(made: Program, tmp_path: Path) -> None:
    for file in made.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "program").write_bytes(made.program.read_bytes() + b"\0")
    with pytest.raises(UserError, match="program is not what was compiled"):
        builds.load(tmp_path)


@pytest.mark.parametrize(
    ("board", "more", "message"),
    [
        ("iphone", {}, "iphone runs no program of the kit: use earkit export --as coreml"),
        ("browser", {}, "browser runs no program of the kit: use earkit phone"),
        ("pi4", {"dialect": "mlperf"}, "pi4 is a computer: --dialect mlperf is for firmware"),
        ("pi4", {"toolchain": "gcc"}, "pi4 is a computer: --toolchain gcc is for firmware"),
        ("pi44", {}, "no board 'pi44'; did you mean 'pi4'"),
    ],
)
def test_what_a_computer_does_not_take(
    board: str, more: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        pipeline.compile(shelf.find(MODEL), board, tmp_path / "out", **more)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_firmware_only_verbs_name_the_mix_up(made: Program) -> None:
    with pytest.raises(UserError, match=f"is a program for {HERE}, not firmware"):
        build.load(made.path)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "is reached over SSH: --host user@name; this machine is --host local"),
        ({"port": "local"}, r"local needs no flashing: listen, run and profile take .* as it lies"),
        ({"port": "local", "method": "serial"}, "--method serial is for microcontrollers"),
    ],
)
def test_flash_of_a_computer_says_what_is_missing(
    made: Program, choices: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        pipeline.flash(made.path, **choices)  # type: ignore[arg-type]


def test_a_program_for_another_machine_is_refused_here(tmp_path: Path) -> None:
    other = "pi4" if HERE != "pi4" else "linux-x86_64"
    made = pipeline.compile(shelf.find(MODEL), other, tmp_path / "other")
    with pytest.raises(UserError, match="compile for another --board"):
        device.open(made, targets.LOCAL)
