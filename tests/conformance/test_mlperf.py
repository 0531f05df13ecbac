"""The `%` commands: an imitation of the runner gets names, times and the host's results, after any noise."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import NO_QEMU, earkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlperf_client import Runner, top_1
from small_nets import tflm

import boards
from boards import BOOT_BYTES
from firmware.compiler import interp
from firmware.compiler.build import Build, load
from kit import pipeline, serve
from kit.device import Device
from kit.device import open as open_device
from kit.flash.serial import EMULATOR
from kit.run import dequantise, quantise
from kit.virtual import VirtualBoard

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LIMIT = 500_000_000  # instructions until a board counts as hung


def board_of(build: Build) -> VirtualBoard:
    flash = build.boot.ljust(BOOT_BYTES, b"\xff") + build.image
    return VirtualBoard(build.board, flash, limit=LIMIT)


@pytest.fixture(scope="module")
def build(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    out = tmp_path_factory.mktemp("mlperf") / "tiny"
    return pipeline.compile(tiny_bundle, "virtual-m4", out, dialect="mlperf=kws01")


@pytest.fixture(scope="module")
def fuzzed(build: Build) -> VirtualBoard:
    return board_of(build)


@pytest.fixture
def runner(build: Build) -> Runner:
    return Runner(board_of(build)).booted()


def drawn(build: Build, count: int, seed: int = 0) -> npt.NDArray[np.int8]:
    shape = build.graph.tensors[build.graph.inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape[1:]), np.int8)


def printed(build: Build, output: npt.NDArray[np.int8]) -> list[str]:
    scaling = build.graph.tensors[build.graph.outputs[0]].quantisation
    assert scaling is not None
    return [f"{value:.3f}" for value in dequantise(output.ravel(), scaling)]


def test_it_boots_as_the_runner_expects(build: Build) -> None:
    lines = [Runner(board_of(build))]
    said = [lines[0].line() for _ in range(4)]
    assert said[0] == "m-timestamp-mode-performance"
    assert said[1].startswith("m-lap-us-")
    assert said[2:] == ["m-init-done", "m-ready"]


def test_name_and_profile_match_the_runners_patterns(runner: Runner) -> None:
    assert runner.name() == "virtual-m4"
    said = runner.profile()
    assert said["model"] == "kws01"
    assert said["profile"].startswith("ULPMark for tinyML Firmware V0.0.1")
    assert "estimated, instructions / 120000000 Hz" in said["profile"]


def test_results_are_the_hosts(build: Build, runner: Runner) -> None:
    for x in drawn(build, 3):
        assert runner.load(x.tobytes()) == ["m-load-done", "m-ready"]
        (expected,) = interp.run(build.graph, [x[None]])
        assert runner.infer(3, 1).texts == printed(build, expected)
        assert runner.command("results")[0] == f"m-results-[{','.join(printed(build, expected))}]"


def test_floats_are_quantised_as_on_the_host(build: Build, runner: Runner) -> None:
    scaling = build.graph.tensors[build.graph.inputs[0]].quantisation
    assert scaling is not None
    x = np.random.default_rng(1).normal(0, 100 * scaling.scale[0], drawn(build, 1)[0].shape)
    x = x.astype(np.float32)
    runner.load(x.tobytes())
    (expected,) = interp.run(build.graph, [quantise(x, scaling, "x")[None]])
    assert runner.infer(1, 0).texts == printed(build, expected)


def test_times_are_the_counted_instructions(build: Build, runner: Runner) -> None:
    runner.load(drawn(build, 1).tobytes())
    elapsed = [runner.infer(count, 0).elapsed for count in (100, 200)]
    wire = runner.port
    assert isinstance(wire, VirtualBoard)
    with Device(wire) as device:
        counted = device.profile(drawn(build, 1)[0]).total
    micro = 100 * counted * 1e6 / build.board.clock_hz
    assert micro < elapsed[1] - elapsed[0] < 2 * micro + 2  # its input is copied in for each run


def test_what_was_loaded_can_be_printed(runner: Runner) -> None:
    data = bytes(range(20))
    runner.load(data)
    rows = ["m-buffer-" + data[at : at + 8].hex("-") for at in (0, 8, 16)]
    assert runner.command("db print") == [*rows, "m-ready"]
    assert "db load" in " ".join(runner.command("help"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("foo", "e-[Unknown command: foo]"),
        ("", "e-[Empty command]"),
        ("infer 0", "e-[Inference iterations must be >0]"),
        ("infer x", "e-[Inference iterations must be >0]"),
        ("infer 1 -1", "e-[Inference warmup must be >=0]"),
        ("infer 1 0", "e-[The input is not loaded"),
        ("db", "e-[Command 'db' needs a subcommand]"),
        ("db load", "e-[Command 'db load' needs a number of bytes]"),
        ("db load 0", "e-[Command 'db load' needs a number of bytes]"),
        ("db load 99999999", "Supplied buffer size 99999999 exceeds maximum of 2112"),
        ("db 00", "e-[No bytes are expected"),
        ("db 0", "e-[Insufficent number of hex digits]"),
        ("db 0g", "e-[Invalid hex digit]"),
        ("db " + "0" * 80, "e-[Command of more than 80 characters]"),
    ],
)
def test_what_is_wrong_is_said_before_m_ready(runner: Runner, text: str, says: str) -> None:
    first, last = runner.command(text)
    assert first.startswith(says)
    assert last == "m-ready"


def test_a_byte_ends_a_run_that_nobody_wants_to_wait_for(build: Build, runner: Runner) -> None:
    runner.load(drawn(build, 1).tobytes())
    runner.port.write(b"infer 2000000000 0%name%")
    while not (line := runner.line()).startswith("m-name"):
        assert not line.startswith("m-results")
    assert runner.line() == "m-ready"


def test_a_hello_hands_the_line_to_the_link_until_a_reset(build: Build, runner: Runner) -> None:
    runner.port.write(b"half a comm")
    wire = runner.port
    assert isinstance(wire, VirtualBoard)
    device = Device(wire)
    x = drawn(build, 1)[0]
    (expected,) = interp.run(build.graph, [x[None]])
    assert np.array_equal(device.infer(x), expected.ravel())
    assert device.info().damaged == 0
    assert Runner(device.restart()).name() == "virtual-m4"


noise = st.binary(max_size=60)
words = st.sampled_from(
    ["name", "profile", "timestamp", "db", "load", "print", "infer", "results", "help", ""]
)
tails = st.lists(words | st.text("0123456789abcdef -.", max_size=9).map(lambda text: text[:4]), max_size=4)
commands = st.tuples(words, tails).map(lambda pair: " ".join([pair[0], *pair[1]]).encode() + b"%")
frames = noise.map(lambda data: b"\0\x02" + data.replace(b"\0", b"\1") + b"\0")


@few
@given(said=st.lists(noise | commands | frames | st.just(b"db load 528%" + b"db 7f%" * 20), max_size=8))
def test_no_bytes_stop_it_or_leave_its_memory(fuzzed: VirtualBoard, said: list[bytes]) -> None:
    fuzzed.power_cycle()
    for piece in said:
        fuzzed.write(piece)
        fuzzed.read(0)
    fuzzed.write(b"\0name%")
    answer = fuzzed.read(0)
    assert answer.endswith(b"m-name-dut-[virtual-m4]\r\nm-ready\r\n")
    memory = Device(fuzzed).memory()
    assert memory.stack_intact
    assert memory.arena_intact


def test_the_runner_scores_kws_as_the_host_does(kws_model: Path, tmp_path: Path) -> None:
    build = pipeline.compile(kws_model, "virtual-m4", tmp_path / "kws", dialect="mlperf")
    samples = drawn(build, 6, seed=3)
    expected = tflm(build.model, samples)
    labels = [*(int(row.argmax()) for row in expected[:4]), 0, 1]  # the last two as may be
    runner = Runner(board_of(build)).booted()
    assert runner.profile()["model"] == "kws01"
    found = []
    for x, row in zip(samples, expected, strict=True):
        runner.load(x.tobytes())
        found.append(runner.infer(1, 0))
        assert found[-1].texts == printed(build, row)
    assert top_1([one.results for one in found], labels) == top_1(
        [[float(text) for text in printed(build, row)] for row in expected], labels
    )


def test_an_autoencoder_says_how_far_it_is_off(shared: Path, tmp_path: Path) -> None:
    model = shared / "models" / "ad01_int8.tflite"
    if not model.is_file():
        pytest.skip(f"no {model}")
    build = pipeline.compile(model, "virtual-m7", tmp_path / "ad", dialect="mlperf")
    source, target = (
        build.graph.tensors[i].quantisation for i in (*build.graph.inputs, *build.graph.outputs)
    )
    assert source is not None
    assert target is not None
    x = np.random.default_rng(5).normal(-20, 10, 640).astype(np.float32)
    (output,) = interp.run(build.graph, [quantise(x, source, "x")[None]])
    error = np.mean((dequantise(output.ravel(), target).astype(np.float64) - x) ** 2)
    runner = Runner(board_of(build)).booted()
    runner.load(x.tobytes())
    (result,) = runner.infer(1, 0).results
    assert result == pytest.approx(error, rel=1e-4)


@pytest.fixture
def served(build: Build) -> Iterator[list[str]]:
    """Give the path of a port behind which the board runs."""
    ports: list[str] = []
    opened, stop = threading.Event(), threading.Event()

    def ready(port: str) -> None:
        ports.append(port)
        opened.set()

    thread = threading.Thread(target=serve.serve, args=(build,), kwargs={"ready": ready, "stop": stop})
    thread.start()
    assert opened.wait(60)
    yield ports
    stop.set()
    thread.join(60)
    assert not thread.is_alive()


def test_a_served_board_is_a_serial_port(build: Build, served: list[str]) -> None:
    import serial

    x = drawn(build, 1)
    (expected,) = interp.run(build.graph, [x])
    for _ in range(2):  # what it said while nobody listened is gone: each client begins afresh
        with serial.Serial(served[0], 115200, timeout=0.1) as port:
            runner = Runner(port)
            assert runner.name() == "virtual-m4"
            runner.load(x.tobytes())
            assert runner.infer(2, 1).texts == printed(build, expected)


def test_serving_ends_with_ctrl_c(build: Build) -> None:
    command = [sys.executable, "-m", "kit", "serve", str(build.path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        told = "".join(process.stdout.readline() for _ in range(3))
        assert Path(json.loads(told)["port"]).is_char_device()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    "name",
    ["virtual-m0plus", *(pytest.param(name, marks=NO_QEMU) for name in ("virtual-m55", "netduinoplus2"))],
)
def test_other_cores_speak_it_too(tiny_model: Path, tmp_path: Path, name: str) -> None:
    build = pipeline.compile(tiny_model, name, tmp_path / "b", dialect="mlperf=kws01")
    x = drawn(build, 1)
    (expected,) = interp.run(build.graph, [x])
    with open_device(build, EMULATOR if build.board.kind == "mcu" else None) as device:
        runner = Runner(device.restart())
        assert runner.name() == name
        runner.load(x.tobytes())
        assert runner.infer(2, 1).texts == printed(build, expected)


def test_a_build_without_a_dialect_has_none_of_it(tiny_build: Path) -> None:
    plain = load(tiny_build)
    assert plain.dialect is None
    assert b"m-ready" not in plain.image
    assert b"ear_dialect" not in (tiny_build / "firmware.elf").read_bytes()


@pytest.mark.parametrize(
    ("argument", "says"),
    [("morse", "mlperf or edge-impulse"), ("mlperf", "mlperf=ID"), ("mlperf=a b", "letters, digits")],
)
def test_a_wrong_dialect_is_one_line(
    tiny_model: Path, capsys: pytest.CaptureFixture[str], argument: str, says: str
) -> None:
    command = (
        "compile",
        tiny_model,
        "--board",
        "virtual-m4",
        "--dialect",
        argument,
        "-o",
        tiny_model.parent / "b",
    )
    code, out, errors = earkit(capsys, *command)
    assert (code, out) == (1, "")
    assert says in errors[-1]
    assert not (tiny_model.parent / "b").exists()


def test_real_boards_have_ports_of_their_own(tiny_build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from boards.errors import UserError

    made = load(tiny_build)
    real = replace(made, board=made.board.model_copy(update={"kind": "mcu"}))
    with pytest.raises(UserError, match="its own port"):
        serve.serve(real, ready=print, stop=threading.Event())
    assert boards.load("virtual-m4").kind == "virtual"
