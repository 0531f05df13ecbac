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
from firmware.compiler import compiled, export, interp, toolchain
from firmware.compiler.graph import Graph
from firmware.compiler.plan import plan
from models import frontend
from quantize import bundle as bundles

STRICT = ("-std=c11", "-O2", "-fomit-frame-pointer", "-Wall", "-Wextra", "-Werror", "-Wconversion")
ZIG = (sys.executable, "-m", "ziglang")
ARDUINO = """#include <stdint.h>
struct Console {
    void begin(long);
    void print(const char *);
    void print(uint32_t);
    void println(const char *);
    void println(uint32_t);
};
extern Console Serial;
void delay(int);
"""
ZEPHYR = """#pragma once
#include <stddef.h>
#include <stdint.h>
void printk(const char *, ...);
#define K_SECONDS(n) (n)
void k_sleep(int);
struct k_mem_slab { char *buffer; };
void k_mem_slab_free(struct k_mem_slab *, void *);
#define K_MEM_SLAB_DEFINE_STATIC(name, size, count, align) \\
    static char name##_bytes[(size) * (count)] __attribute__((aligned(align))); \\
    static struct k_mem_slab name = {name##_bytes}
#define DT_NODELABEL(label) &label
#define DEVICE_DT_GET(node) (node)
struct device { int number; };
extern const struct device dmic_dev;
"""
DMIC = """#include <stdbool.h>
#include <zephyr/kernel.h>
struct pcm_stream_cfg {
    uint32_t pcm_rate; uint8_t pcm_width; uint16_t block_size; struct k_mem_slab *mem_slab;
};
struct pdm_io_cfg { uint32_t min_pdm_clk_freq, max_pdm_clk_freq; uint8_t min_pdm_clk_dc, max_pdm_clk_dc; };
struct pdm_chan_cfg { uint32_t req_chan_map_lo, req_chan_map_hi; uint8_t req_num_chan, req_num_streams; };
struct dmic_cfg { struct pdm_io_cfg io; struct pcm_stream_cfg *streams; struct pdm_chan_cfg channel; };
enum dmic_trigger { DMIC_TRIGGER_STOP, DMIC_TRIGGER_START };
enum pdm_lr { PDM_CHAN_LEFT, PDM_CHAN_RIGHT };
uint32_t dmic_build_channel_map(uint8_t, uint8_t, enum pdm_lr);
bool device_is_ready(const struct device *);
int dmic_configure(const struct device *, struct dmic_cfg *);
int dmic_trigger(const struct device *, enum dmic_trigger);
int dmic_read(const struct device *, uint8_t, void **, size_t *, int32_t);
"""
PDM = """struct Microphone {
    void (*call)();
    void onReceive(void (*function)()) { call = function; }
    int begin(int, int);
    int available();
    int read(void *, int);
};
extern Microphone PDM;
"""
DESK = """#include <stdint.h>
#include <stdio.h>
#include <string.h>
struct Console {
    void begin(long) {}
    void print(const char *text) { fputs(text, stdout); }
    void print(uint32_t number) { printf("%u", number); }
    void println(uint32_t number) { printf("%u\\n", number); }
    void println(const char *text) { puts(text); }
} Serial;
void delay(int) {}
#include "@SKETCH@"
Microphone PDM;
static int16_t heard[256];
static int count;
int Microphone::begin(int channels, int rate) { return channels == 1 && rate == @RATE@; }
int Microphone::available() { return count; }
int Microphone::read(void *to, int bytes) {
    memcpy(to, heard, (size_t)bytes);
    return bytes;
}
int main(int, char **arguments) {
    FILE *file = fopen(arguments[1], "rb");
    setup();
    while ((count = (int)fread(heard, 1, sizeof heard, file)) > 0) {
        PDM.call();
        loop();
    }
    return 0;
}
"""


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


def test_a_model_of_the_kit_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, text, _ = earkit(capsys, "export", "tiny_transformer-micro-fsdd", "--as", "c")
    assert (code, text.split(":")[0]) == (0, "export/tiny_transformer-micro-fsdd-c")
    assert "files of portable C; " in text
    assert (tmp_path / "export" / "tiny_transformer-micro-fsdd-c" / "model.c").is_file()


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
    _, graph, _ = compiled.lower(tiny_model.read_bytes(), "own", "c")
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
    sketches = sorted(out.glob("examples/*/*.ino"))
    assert len(sketches) == (2 if (out / "src" / "frontend.c").exists() else 1)
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
    (tmp_path / "PDM.h").write_text(PDM)
    flags += ["-isystem", tmp_path]
    for sketch in sketches:
        assert sketch.stem == sketch.parent.name
        run([*ZIG, "c++", *flags, "-x", "c++", "-c", sketch, "-o", tmp_path / "sketch.o"], out)


def test_the_arduino_microphone_sketch_hears_what_the_host_hears(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = exported(capsys, tiny_bundle, "arduino", tmp_path / "out")
    (sketch,) = out.glob("examples/*_microphone/*.ino")
    sound = np.random.default_rng(9).normal(0, 3000, 40_000).astype("<i2")
    sound.tofile(tmp_path / "sound")
    (tmp_path / "PDM.h").write_text(PDM)
    (tmp_path / "main.cpp").write_text(DESK.replace("@SKETCH@", str(sketch)).replace("@RATE@", "16000"))
    flags = ["-Isrc", f"-I{tmp_path}", "-O1"]
    for unit in ("model.c", "frontend.c"):
        run([*ZIG, "cc", *flags, "-c", f"src/{unit}", "-o", tmp_path / f"{unit}.o"], out)
    objects = [tmp_path / "model.c.o", tmp_path / "frontend.c.o"]
    run([*ZIG, "c++", *flags, tmp_path / "main.cpp", *objects, "-o", tmp_path / "desk"], out)
    said = run([tmp_path / "desk", tmp_path / "sound"], tmp_path).splitlines()

    bundle = bundles.load(tiny_bundle)
    fe = bundle.frontend
    _, graph, _ = compiled.lower(bundle.model(), "own", "c")
    into = graph.tensors[graph.inputs[0]]
    assert into.quantisation is not None
    scale, zero = float(into.quantisation.scale[0]), int(into.quantisation.zero_point[0])
    rows = frontend.quantise(frontend.features(sound, fe), scale, zero)
    ends = range(fe.frames, len(rows) + 1, fe.frames // 4 + 1)
    windows = (rows[end - fe.frames : end].reshape(into.shape) for end in ends)
    best = [int(np.argmax(interp.run(graph, [window])[0])) for window in windows]
    assert len(best) > 3
    assert said == [f"best output: {one}, samples lost: 0" for one in best]


def test_a_zephyr_sample_compiles(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = exported(capsys, source, "zephyr", tmp_path / "out")
    module = dict(re.findall(r"^  (\w+): (\S+)$", (out / "zephyr" / "module.yml").read_text(), re.MULTILINE))
    assert (out / module["kconfig"]).is_file()
    assert (out / module["cmake"] / "CMakeLists.txt").is_file()
    (tmp_path / "zephyr").mkdir()
    (tmp_path / "zephyr" / "kernel.h").write_text(ZEPHYR)
    (tmp_path / "zephyr" / "device.h").write_text("struct device;\n")
    (tmp_path / "zephyr" / "audio").mkdir()
    (tmp_path / "zephyr" / "audio" / "dmic.h").write_text(DMIC)
    applications = sorted(path.parent.parent for path in out.glob("*/src/main.c"))
    assert len(applications) == (2 if (out / "src" / "frontend.c").exists() else 1)
    for folder in applications:
        includes = ("-Isrc", f"-I{tmp_path}")
        run([*ZIG, "cc", *STRICT, *includes, "-c", folder / "src" / "main.c", "-o", tmp_path / "m.o"], out)
        assert f"west build -b BOARD {folder.name}" in (folder / "CMakeLists.txt").read_text()
        assert (
            f"CONFIG_{out.joinpath('Kconfig').read_text().split('config ')[1].split()[0]}=y"
            in (folder / "prj.conf").read_text()
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
