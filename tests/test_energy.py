"""Energy from a power analyser's csv: integrals known beforehand, units, markers, and damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import earkit

from boards.errors import UserError
from kit import energy

Capture = pytest.CaptureFixture[str]


def table(path: Path, head: str, columns: list[np.ndarray], mark: str = ",") -> Path:
    rows = (mark.join(f"{value:.9g}" for value in row) for row in zip(*columns, strict=True))
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


TIME = np.linspace(0, 2, 2001)


@pytest.mark.parametrize(
    ("head", "columns", "mark"),
    [
        ("time (s),current (A),voltage (V)", [TIME, 0.010 + 0 * TIME, 3.0 + 0 * TIME], ","),
        ("#time (s), current (mA), voltage (V)", [TIME, 10 + 0 * TIME, 3.0 + 0 * TIME], ","),
        ("Timestamp [ms];Current [uA];Voltage [mV]", [1e3 * TIME, 1e4 + 0 * TIME, 3e3 + 0 * TIME], ";"),
        ("time_us\tpower_mW", [1e6 * TIME, 30 + 0 * TIME], "\t"),
        ("time (s),temperature,power (µW)", [TIME, 20 + 0 * TIME, 3e4 + 0 * TIME], ","),
    ],
    ids=["A", "mA", "uA", "mW", "µW"],
)
def test_the_whole_file_by_a_count(head: str, columns: list[np.ndarray], mark: str, tmp_path: Path) -> None:
    told = energy.read(table(tmp_path / "e.csv", head, columns, mark), inferences=20)
    assert told["joules_per_inference"] == pytest.approx(0.03 * 2 / 20)
    assert told["mean_watts"] == pytest.approx(0.03)
    assert (told["seconds"], told["by"]) == (pytest.approx(2), "count")


def test_current_alone_needs_the_supply(tmp_path: Path) -> None:
    path = table(tmp_path / "lpm01a.csv", "Time (ms);Current (nA)", [1e3 * TIME, 1e7 + 0 * TIME], ";")
    assert energy.read(path, volts=3.3, inferences=1)["joules_per_inference"] == pytest.approx(0.066)
    with pytest.raises(UserError, match="--volts"):
        energy.read(path, inferences=1)


def test_decimal_commas_behind_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("time (s);power (W)\n0,0;1,5\n0,5;1,5\n1,0;1,5\n")
    assert energy.read(path, inferences=3)["joules_per_inference"] == pytest.approx(0.5)


def test_markers_bound_the_inferences(tmp_path: Path) -> None:
    """Three whole pulses of different power, one that was running at the start and one at the end."""
    marker, power = np.zeros(2001), np.full(2001, 0.001)
    for start, stop, watts in (
        (0, 100, 9),
        (300, 400, 0.02),
        (600, 700, 0.03),
        (900, 1000, 0.05),
        (1900, 2001, 9),
    ):
        marker[start:stop], power[start:stop] = 1, watts
    told = energy.read(table(tmp_path / "e.csv", "time (s),power (W),gpi0", [TIME, power, marker]))
    assert (told["inferences"], told["by"]) == (3, "marker")
    assert told["joules_per_inference"] == pytest.approx(0.03 * 0.1, rel=0.02)
    assert told["min"] == pytest.approx(0.02 * 0.1, rel=0.03)
    assert told["max"] == pytest.approx(0.05 * 0.1, rel=0.02)
    assert told["milliseconds"] == pytest.approx(100, rel=0.01)


GOOD = "time (s),power (W)\n0,1\n1,1\n2,1\n"
BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "0 lines of samples"),
    "a head": ("time (s),power (W)\n", "0 lines of samples"),
    "bytes": (b"\xff\xfe\x00", "not text in UTF-8"),
    "no unit": ("time,power (W)\n0,1\n1,1\n", "column 'time': a unit of s is needed"),
    "odd unit": ("time (s),power (hp)\n0,1\n1,1\n", "a unit of W is needed, such as mW"),
    "no time": ("power (W)\n1\n1\n", "no time column"),
    "no power": ("time (s),voltage (V)\n0,1\n1,1\n", "neither power nor current"),
    "twice": ("time (s),power (W),power (mW)\n0,1,1\n1,1,1\n", "stands in two columns"),
    "word": (GOOD + "3,high\n", "line 5: 'high' is not a number"),
    "nan": (GOOD + "3,nan\n", "line 5: 'nan' is not a number"),
    "cells": (GOOD + "3,1,1\n", "line 5: 3 cells, the head has 2"),
    "back": (GOOD + "1,1\n", "time stands still or goes back after sample 3"),
    "no marker": (GOOD, "no marker column: say how many --inferences"),
    "flat": ("time (s),power (W),marker\n0,1,0\n1,1,0\n", "its marker never rises and falls"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_file_is_one_line(name: str, tmp_path: Path) -> None:
    content, said = BAD[name]
    path = tmp_path / "e.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as error:
        energy.read(path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_profile_takes_it(build: Path, tmp_path: Path, capsys: Capture) -> None:
    path = table(tmp_path / "e.csv", "time (s),power (W)", [TIME, 0.03 + 0 * TIME])
    given = ("--samples", "1", "--energy", path, "--inferences", "20")
    code, text, err = earkit(capsys, "profile", build, *given, "--json")
    assert code == 0, err
    record = json.loads(text)
    assert record["energy"]["joules_per_inference"] == pytest.approx(0.003)
    assert record["origins"]["energy"] == "measured"
    shown = earkit(capsys, "profile", build, *given)[1]
    assert any(
        "microjoules" in line and "3,000" in line and "measured" in line for line in shown.splitlines()
    )


MISUSED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no file": (lambda path: ["--energy", f"{path}/none.csv"], "no such file"),
    "no csv": (lambda path: ["--volts", "3"], "--volts and --inferences are for --energy"),
}


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_one_line_before_the_board_is_asked(name: str, tmp_path: Path, capsys: Capture) -> None:
    make, said = MISUSED[name]
    code, out, err = earkit(capsys, "profile", tmp_path / "nobuild", *make(tmp_path))
    assert (code, out, len(err)) == (1, "", 1)
    assert said in err[0]
