"""The command line: help and its speed, usage errors, JSON on stdout, and bad input in one line."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import boards
from boards import computers
from kit import cli

HEAVY = {
    "numpy",
    "pydantic",
    "rich",
    "unicorn",
    "keras",
    "tensorflow",
    "ai_edge_litert",
    "serial",
    "soundfile",
}
Capture = pytest.CaptureFixture[str]


def lines(capture: Capture) -> tuple[str, list[str]]:
    out, err = capture.readouterr()
    return out, err.splitlines()


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_every_verb_shows_an_example_that_parses(verb: str, capsys: Capture) -> None:
    assert cli.main([verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "--json" in out
    example = out.split("example:\n")[1].split()
    assert example[:2] == ["earkit", verb]
    assert cli.parser().parse_args(example[1:]).verb == verb


def test_help_names_every_verb(capsys: Capture) -> None:
    assert cli.main(["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for verb, row in cli.VERBS.items():
        assert verb in out
        assert row.ABOUT in out


def test_help_imports_nothing_heavy_and_is_fast() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "kit", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & HEAVY
    assert min(_seconds([sys.executable, "-m", "kit", "--help"]) for _ in range(5)) < 0.2


def _seconds(command: list[str]) -> float:
    """Return the processor time of a command: what else this machine does must not fail the test."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_version(capsys: Capture) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("earkit ")


USAGE = [
    [],
    ["fly"],
    ["boards", "--jsn"],
    ["boards", "--js"],
    ["compile"],
    ["compile", "model.tflite"],
    ["compile", "", "--board", "virtual-m4"],
    ["compile", "model.tflite", "--board", "virtual-m4", "--toolchain", "tcc"],
    ["run", "build/x"],
    ["run", "build/x", "--input", "x.npy"],
    ["listen", "build/x", "--threshold", "nan"],
    ["listen", "build/x", "--threshold", "1.5"],
    ["listen", "build/x", "--threshold", "loud"],
    ["profile", "build/x", "--samples", "0"],
    ["profile", "build/x", "--samples", "-3"],
    ["profile", "build/x", "--samples", "many"],
    ["profile", "build/x", "--samples", "99999999999999999999"],
    ["compress"],
    ["compress", "panns", "--epochs", "0"],
    ["compress", "panns", "--seed", "-1"],
    ["report"],
]


@pytest.mark.parametrize("argv", USAGE, ids=" ".join)
def test_wrong_usage_is_one_line_and_2(argv: list[str], capsys: Capture) -> None:
    assert cli.main(argv) == 2
    out, err = lines(capsys)
    assert out == ""
    assert len(err) == 1
    assert "earkit" in err[0]


def test_an_unknown_option_leads_to_the_help_of_its_verb(capsys: Capture) -> None:
    assert cli.main(["boards", "pi4", "--jsn"]) == 2
    (line,) = lines(capsys)[1]
    assert line == "earkit boards: unrecognized arguments: --jsn (see earkit boards --help)"


@pytest.mark.parametrize("board", boards.names())
def test_boards_json_is_the_whole_board(board: str, capsys: Capture) -> None:
    assert cli.main(["boards", board, "--json"]) == 0
    out, err = lines(capsys)
    assert err == []
    (found,) = json.loads(out)["boards"]
    assert boards.Board.model_validate(found) == boards.load(board)


def test_boards_table_names_every_board(capsys: Capture) -> None:
    assert cli.main(["boards"]) == 0
    out, err = lines(capsys)
    assert err == []
    for board in (*boards.names(), *computers.names()):
        assert board in out
    assert "128.0 KB + 512.0 KB" in next(line for line in out.splitlines() if "nucleo-h743zi" in line)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_names_stay_whole_on_any_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert cli.main(["boards"]) == 0
    out = re.sub("\x1b\\[\\d+m", "", lines(capsys)[0])
    for board in (*boards.names(), *computers.names()):
        assert any(line.split()[:1] == [board] for line in out.splitlines())
    assert max(map(len, out.splitlines())) <= columns
    assert "cortex-m0plus" in out


@pytest.mark.parametrize("name", computers.names())
def test_boards_json_is_the_whole_computer(name: str, capsys: Capture) -> None:
    assert cli.main(["boards", name, "--json"]) == 0
    out, err = lines(capsys)
    assert err == []
    assert json.loads(out)["boards"] == []
    (found,) = json.loads(out)["computers"]
    assert computers.Computer.model_validate(found) == computers.load(name)


def test_models_lists_every_family(capsys: Capture) -> None:
    from models import registry

    assert cli.main(["models", "--json"]) == 0
    out, err = lines(capsys)
    assert err == []
    cards = {card["name"]: card for card in json.loads(out)["models"]}
    assert sorted(cards) == registry.names()
    assert cli.main(["models"]) == 0
    table = capsys.readouterr().out
    for name, card in cards.items():
        assert name in table
        for facts in card["sizes"].values():
            assert f"{facts['parameters']:,}" in table


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["boards", "virtual-m4f"], "did you mean 'virtual-m4'"),
        (["models", "pans"], "did you mean 'panns'"),
        (["compile", "no.tflite", "--board", "virtual-m4"], "no.tflite"),
        (["compile", "no.tflite", "--board", "virtual-m9"], "virtual-m7"),
        (["compress", "nofamily"], "nofamily"),
        (["compress", "panns", "--size", "nosize"], "nosize"),
        (["compress", "panns", "--board", "noboard"], "noboard"),
        (["compress", "panns", "--data", "nowhere"], "nowhere"),
        (["compress", "panns", "--teacher", "no.keras"], "no.keras"),
        (["run", "nobuild", "--input", "x.npy", "--output", "y.npy"], "nobuild"),
        (["flash", "nobuild"], "nobuild"),
        (["listen", "nobuild", "--source", "x.wav"], "nobuild"),
        (["profile", "nobuild"], "nobuild"),
        (["report", "norun"], "norun"),
        (["demo", "--family", "nofamily"], "nofamily"),
        (["demo", "--board", "noboard"], "noboard"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_names_of_nothing_are_one_line_and_1(
    argv: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == 1
    out, err = lines(capsys)
    assert out == ""
    assert len(err) == 1, err
    assert text in err[0]
    assert list(tmp_path.iterdir()) == []
