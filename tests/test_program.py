"""The application as a program of Linux: bit for bit the definition, over two pipes in place of a UART."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import programs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import Program

import boards
import firmware
from boards.errors import UserError
from firmware.compiler import interp, linux, toolchain
from kit import clock, device, ears, listen, profile
from kit.detect import Rules
from kit.device import Device
from kit.pipe_wire import PipeWire

pytestmark = programs.HERE_ONLY
Int8 = npt.NDArray[np.int8]
Int16 = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def program(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return programs.here(tiny_bundle, tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def running(program: Program) -> Iterator[Device]:
    with Device(PipeWire((str(program.path),))) as opened:
        yield opened


def draw(program: Program, seed: int) -> Int8:
    shape = program.graph.tensors[program.graph.inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)


def noise(count: int, seed: int = 0) -> Int16:
    rng = np.random.default_rng(seed)
    level = np.repeat(10 ** rng.uniform(0, 4, count // 3000 + 1), 3000)[:count]
    pitch = np.repeat(rng.uniform(0.05, 2.5, count // 3000 + 1), 3000)[:count]
    return np.asarray(level * np.sin(np.cumsum(pitch)) + rng.normal(0, 30, count), np.int16)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_outputs_are_those_of_the_definition(running: Device, program: Program, seed: int) -> None:
    x = draw(program, seed)
    assert np.array_equal(running.infer(x), interp.run(program.graph, [x])[0].ravel())


def test_features_and_streams_are_those_of_the_definition(running: Device, program: Program) -> None:
    front, hop = program.front, 5
    samples = noise(front.samples + 3 * hop * front.hop)
    assert np.array_equal(running.features(samples), program.features(samples[: front.samples]))
    told = list(running.stream(np.split(samples, [7, 4000, 9001]), hop))
    assert [result.sample for result in told] == [front.samples + n * hop * front.hop for n in range(4)]
    for result in told:
        x = program.features(samples[result.sample - front.samples : result.sample])
        wanted = interp.run(program.graph, [x.reshape(draw(program, 0).shape)])[0].ravel()
        assert np.array_equal(result.output, wanted)


def test_it_counts_nanoseconds_of_this_machine(running: Device, program: Program) -> None:
    start = time.perf_counter_ns()
    counts = running.profile(draw(program, 1))
    passed = time.perf_counter_ns() - start
    assert (counts.unit, counts.origin) == ("nanoseconds", "measured")
    assert 0 < counts.total < passed
    assert sum(counts.per_node) < passed
    checked = clock.check(running, clock.NANOSECONDS)
    assert checked["ratio"] == pytest.approx(1, abs=0.2)  # a busy machine; 0.03 is what profile asks for


def test_it_knows_that_no_bootloader_lies_under_it(running: Device) -> None:
    info = running.info()
    assert (info.mode, info.resident, info.build_id, info.app_bytes) == ("app", False, programs.ID, 0)
    with pytest.raises(UserError, match="is a program without a bootloader"):
        running.reset("boot")
    for command in (16, 17, 18, 19, 20):  # erase, write, pages, commit, images
        with pytest.raises(UserError, match="does not know the command"):
            running.call(command, bytes(600 if command == 19 else 8)[: 512 + 4])
    with pytest.raises(UserError, match="does not know the command"):
        running.call(device.RESET, b"\1\0\0\0")
    used = running.memory()
    assert used.stack_intact
    assert used.arena_intact
    assert 0 < used.stack_high_water < used.stack_bytes / 2
    assert used.static_bytes > used.arena_bytes


def test_a_reset_begins_anew_in_the_same_process(program: Program) -> None:
    with Device(PipeWire((str(program.path),))) as opened:
        opened._load(draw(program, 0))
        opened.reset("app")
        with pytest.raises(UserError, match="has not got its whole input"):
            opened.call(device.INFER)
        x = draw(program, 2)
        assert np.array_equal(opened.infer(x), interp.run(program.graph, [x])[0].ravel())


def test_the_end_of_its_input_ends_it(program: Program) -> None:
    done = subprocess.run(
        [program.path], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    closed = subprocess.run(
        ["sh", "-c", f"printf '\\001\\002\\000' | {program.path} >&-"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert closed.returncode == 0


def test_noise_on_the_line_is_no_harm(program: Program) -> None:
    wire = PipeWire((str(program.path),))
    wire.write(np.random.default_rng(0).integers(0, 256, 50_000, np.uint8).tobytes())
    with Device(wire) as opened:
        x = draw(program, 3)
        assert np.array_equal(opened.infer(x), interp.run(program.graph, [x])[0].ravel())
        assert opened.info().damaged > 10


def test_wrong_arguments_are_explained(program: Program) -> None:
    for arguments in (["--help"], ["--microphone"], ["--microphone", "a", "b"]):
        done = subprocess.run(
            [program.path, *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 2
        assert done.stderr.startswith("usage: PROGRAM [--microphone FILE|DEVICE]")


def about(program: Program) -> SimpleNamespace:
    """Return what kit.listen asks of a build."""
    facts = {"frontend": asdict(program.front), "labels": program.bundle.labels, "task": "classification"}
    return SimpleNamespace(path=program.path, stream=None, graph=program.graph, **facts)


RULES = Rules(threshold=0.08, smoothing=0.2, refractory=0.1)


def own_ears(program: Program, command: list[str], environment: dict[str, str] | None = None) -> ears.Heard:
    """Return what a program hears through its own microphone in a while."""
    stop = threading.Event()
    with Device(PipeWire(["env", *(f"{k}={v}" for k, v in (environment or {}).items()), *command])) as opened:
        threading.Timer(2.0, stop.set).start()
        meant = listen.meaning(about(program))
        return ears.listen(opened, boards.load("virtual-m4"), meant, RULES, stop=stop)


def same(own: ears.Heard, running: Device, program: Program, samples: Int16) -> None:
    """Compare with what the program says of the same sound when the host streams it."""
    told = listen.stream(running, listen.meaning(about(program)), iter([samples]), rules=RULES)
    assert (own.state.taken, own.state.lost, own.unit) == (samples.size, 0, "nanoseconds")
    assert own.state.results == told.results
    assert own.count == told.events >= 3
    assert [replace(e, end=0) for e in own.events] == [replace(e, end=0) for e in told.listening.events]
    assert own.share is not None
    assert 0 < own.share < 1


def test_a_file_is_its_microphone(running: Device, program: Program, tmp_path: Path) -> None:
    samples = noise(10 * program.front.sample_rate, 4)
    sound = tmp_path / "sound.raw"
    sound.write_bytes(samples.tobytes() + b"\1")  # half a sample is none
    same(own_ears(program, [str(program.path), "--microphone", str(sound)]), running, program, samples)


ARECORD = """#!/bin/sh
echo "$@" > {folder}/asked
trap 'echo stopped > {folder}/stopped' TERM
cat {folder}/sound.raw
sleep 60 & wait $!
"""


def test_arecord_is_its_microphone(running: Device, program: Program, tmp_path: Path) -> None:
    samples = noise(10 * program.front.sample_rate, 4)
    (tmp_path / "sound.raw").write_bytes(samples.tobytes())
    arecord = tmp_path / "arecord"
    arecord.write_text(ARECORD.format(folder=tmp_path))
    arecord.chmod(0o755)
    paths = {"PATH": f"/nowhere:{tmp_path}:/usr/bin:/bin"}
    same(own_ears(program, [str(program.path)], paths), running, program, samples)
    rate = program.front.sample_rate
    assert (tmp_path / "asked").read_text() == f"-q -D default -t raw -f S16_LE -c 1 -r {rate}\n"
    limit = time.monotonic() + 20
    while not (tmp_path / "stopped").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    assert (tmp_path / "stopped").exists()
    said = "overrun!!! (at least 1.250 ms long)\noverrun!!! (mindestens 12,500 ms lang)\n! no 9 ms!\n"
    arecord.write_text(ARECORD.format(folder=tmp_path).replace("cat ", f"printf '{said}' >&2\ncat "))
    heard = own_ears(program, [str(program.path), "--microphone", "plughw:1,0"], paths)
    assert heard.state.lost == rate * 1250 // 10**6 + rate * 12_500 // 10**6
    assert heard.state.taken == samples.size + heard.state.lost
    assert " -D plughw:1,0 " in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("given", [[], ["--microphone", "/no/such/file"]])
def test_no_microphone_is_explained(program: Program, given: list[str]) -> None:
    with pytest.raises(UserError, match="its microphone does not start at 16000 Hz"):
        own_ears(program, [str(program.path), *given], {"PATH": "/nowhere"})


@pytest.mark.parametrize(
    ("machine", "cpu"), [("x86_64", "x86_64"), ("aarch64", "generic"), ("armv7", "cortex_a7")]
)
def test_the_c_is_clean_on_every_machine(program: Program, machine: str, cpu: str, tmp_path: Path) -> None:
    (tmp_path / "dialect.h").write_text(linux.runner_header(program.graph, None, {}, None))
    for source in (*firmware.PROGRAM, *firmware.RUNNER, program.path.with_name("model.c")):
        toolchain.program(
            (source,),
            (program.path.parent, tmp_path, firmware.ROOT),
            tmp_path / "object.o",
            (*linux.flags(machine, cpu), "-O1", "-Wconversion", "-c"),
            defines={**linux.DEFINES, "EAR_EIM": "1"},
        )


@pytest.mark.parametrize("name", ['a "b c', "b\\b"])
def test_folders_that_zig_cannot_read_have_a_cure(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    source = tmp_path / name / "x.c"
    source.write_text("void _start(void) {}\n")
    with pytest.raises(UserError, match="zig cannot read paths with a backslash, or with quotes and blanks"):
        toolchain.program([source], [source.parent], tmp_path / "out", linux.flags("x86_64", "x86_64"))


def test_an_emulators_time_is_no_figure() -> None:
    cost = profile.Cost(1234, (1000, 234), 55, "nanoseconds", "emulated", (1234, 1300))
    told = replace(cost, origin="measured")
    assert (cost.says_nothing, told.says_nothing) == (True, False)
    assert profile._count(cost) == {"instructions": None, "cycles": None, "nanoseconds": None}
    assert profile._count(told) == {"instructions": None, "cycles": None, "nanoseconds": 1234}
    nodes = SimpleNamespace(
        sizes={"ops": [{"name": "a", "op": "A", "macs": 1}, {"name": "b", "op": "B", "macs": 0}]}
    )
    assert {row["nanoseconds"] for row in profile.per_op(nodes, cost)} == {None}
    assert [row["nanoseconds"] for row in profile.per_op(nodes, told)] == [1000, 234]
