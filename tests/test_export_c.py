"""Exports: sources that build alone under the strictest warnings, and compute what the model means."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import earkit

import boards
from boards.errors import UserError
from firmware.compiler import build, export, interp, toolchain
from firmware.compiler.graph import Graph
from firmware.compiler.plan import plan

STRICT = ("-std=c11", "-O2", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-Wconversion")
ZIG = (sys.executable, "-m", "ziglang")
ARDUINO = """#include <stdint.h>
struct Console { void begin(long); void print(const char *); void println(uint32_t); };
extern Console Serial;
void delay(int);
"""
ZEPHYR = (
    "#include <stdint.h>\nvoid printk(const char *, ...);\n#define K_SECONDS(n) (n)\nvoid k_sleep(int);\n"
)


@pytest.fixture(params=["model", "bundle"])
def source(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue("tiny_model" if request.param == "model" else "tiny_bundle")
    return found


def exported(capsys: pytest.CaptureFixture[str], source: Path, form: str, out: Path, *more: str) -> Path:
    code, _, lines = earkit(capsys, "export", source, "--as", form, "-o", out, *more)
    assert code == 0, lines
    return out


def run(command: list[str | Path], folder: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_c_builds_and_runs_here(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(capsys, source, "c", tmp_path / "out")
    units = sorted(path.name for path in out.glob("*.c"))
    run([*ZIG, "cc", *STRICT, "-I.", *units, "-o", "example"], out)
    assert run([out / "example"], out).startswith("best output: ")


@pytest.mark.parametrize("board", [name for name in boards.names() if boards.load(name).kind == "virtual"])
@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_each_core_builds_it(
    board: str,
    kind: toolchain.Toolchain,
    tiny_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        command = toolchain.driver(kind)
    except UserError as error:
        pytest.skip(str(error))
    out = exported(capsys, tiny_bundle, "c", tmp_path / "out", "--board", board)
    target = boards.load(board)
    for unit in ("model.c", "frontend.c"):
        flags = (*toolchain.core_flags(target, kind), *STRICT, "-ffreestanding", "-I.")
        run([*command, *flags, "-c", unit, "-o", f"{unit}.o"], out)


def test_the_example_of_c_says_what_the_model_means(tiny_model: Path, tmp_path: Path) -> None:
    _, graph, _ = build.lower(tiny_model.read_bytes(), "own", "c")
    export.export(graph, plan(graph), "c", tmp_path / "out", name="own")
    run([*ZIG, "cc", *STRICT, "-I.", "model.c", "example.c", "-o", "example"], tmp_path / "out")
    said = run([tmp_path / "out" / "example"], tmp_path)
    assert said == f"best output: {_best(graph)}\n"


def _best(graph: Graph) -> int:
    zeros = np.zeros(graph.tensors[graph.inputs[0]].shape, np.int8)
    return int(np.argmax(interp.run(graph, [zeros])[0]))


def test_cmake_configures_and_builds(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("cmake") is None or shutil.which("cc") is None:
        pytest.skip("needs cmake and a C compiler of the system")
    out = exported(capsys, source, "cmake", tmp_path / "out")
    run(["cmake", "-S", ".", "-B", "made"], out)
    run(["cmake", "--build", "made"], out)
    assert run([out / "made" / "example"], out).startswith("best output: ")


def test_an_arduino_sketch_compiles_as_cpp(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(capsys, source, "arduino", tmp_path / "out")
    properties = dict(line.split("=", 1) for line in (out / "library.properties").read_text().splitlines())
    assert (out / "src" / properties["includes"]).is_file()
    (sketch,) = out.glob("examples/*/*.ino")
    assert sketch.stem == sketch.parent.name
    (tmp_path / "Arduino.h").write_text(ARDUINO)
    flags: list[str | Path] = [
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Isrc",
        "-include",
        tmp_path / "Arduino.h",
    ]
    run([*ZIG, "c++", *flags, "-x", "c++", "-c", sketch, "-o", tmp_path / "sketch.o"], out)


def test_a_zephyr_sample_compiles(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = exported(capsys, source, "zephyr", tmp_path / "out")
    module = dict(re.findall(r"^  (\w+): (\S+)$", (out / "zephyr" / "module.yml").read_text(), re.MULTILINE))
    assert (out / module["kconfig"]).is_file()
    assert (out / module["cmake"] / "CMakeLists.txt").is_file()
    (tmp_path / "zephyr").mkdir()
    (tmp_path / "zephyr" / "kernel.h").write_text(ZEPHYR)
    run(
        [*ZIG, "cc", *STRICT, "-Isrc", f"-I{tmp_path}", "-c", "sample/src/main.c", "-o", tmp_path / "m.o"],
        out,
    )


def test_an_export_is_the_same_each_time_and_says_what_it_is(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = (exported(capsys, tiny_model, "c", tmp_path / name) for name in ("first", "again"))
    assert [path.read_bytes() for path in sorted(first.rglob("*.*"))] == [
        path.read_bytes() for path in sorted(again.rglob("*.*"))
    ]
    record = json.loads((first / export.RECORD).read_text())
    assert {*record["files"], export.RECORD} == {
        path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()
    }


def test_a_folder_that_is_no_export_is_left_alone(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    code, _, lines = earkit(capsys, "export", tiny_model, "--as", "c", "-o", mine)
    assert (code, len(lines)) == (1, 1)
    assert "is not an export" in lines[0]
    assert (mine / "thesis.txt").read_text() == "mine"
    out = exported(capsys, tiny_model, "c", tmp_path / "out")
    exported(capsys, tiny_model, "cmake", out)  # an export gives way to the next
    assert not (out / "model.c").exists()


def test_every_form_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, lines = earkit(capsys, "export", "x.tflite", "--as", "none")
    assert code == 2
    assert all(form in lines[-1] for form in export.FORMS)
