"""A board that answers: bit for bit against the compiler's interpreter and the front end in numpy."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boards.errors import UserError
from firmware.compiler import interp
from firmware.compiler.build import Build, load
from kit import device as devices
from kit import link
from kit.device import Device
from kit.fake_link import FakeLink, Faults, FaultyWire
from kit.update import write_image
from kit.virtual import VirtualBoard
from models import frontend
from models.frontend import FrontEnd

Int16 = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def build(tiny_build: Path) -> Build:
    return load(tiny_build)


@pytest.fixture(scope="module")
def front(build: Build) -> FrontEnd:
    assert build.frontend is not None
    return FrontEnd(**build.frontend)


@pytest.fixture
def board(build: Build) -> Iterator[Device]:
    from boards import BOOT_BYTES

    wire = VirtualBoard(build.board, build.boot.ljust(BOOT_BYTES, b"\xff") + build.image)
    with Device(wire, "emulated") as device:
        yield device


def some_input(build: Build, seed: int = 0) -> npt.NDArray[np.int8]:
    shape = build.graph.tensors[build.graph.inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)


def sound(samples: int, seed: int = 0) -> Int16:
    draw = np.random.default_rng(seed)
    tone = np.sin(np.arange(samples) * draw.uniform(0.05, 1.0)) * draw.uniform(100, 20_000)
    return np.asarray(tone + draw.normal(0, 500, samples), np.int16)


def expected_features(build: Build, front: FrontEnd, samples: Int16) -> npt.NDArray[np.int8]:
    given = build.graph.tensors[build.graph.inputs[0]].quantisation
    assert given is not None
    exact = frontend.features(samples, front)
    return frontend.quantise(exact, float(given.scale[0]), int(given.zero_point[0]))


def test_info_tells_what_was_built(board: Device, build: Build, front: FrontEnd) -> None:
    info = board.info()
    assert (info.mode, info.build_id, info.nodes) == ("app", build.build_id, len(build.sizes["ops"]))
    assert (info.window, info.hop, info.frames, info.features) == (
        front.window,
        front.hop,
        front.frames,
        front.features,
    )
    assert info.unit == "instructions"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_outputs_are_those_of_the_definition(running: Device, build: Build, seed: int) -> None:
    x = some_input(build, seed)
    assert np.array_equal(running.infer(x), interp.run(build.graph, [x])[0].ravel())


@pytest.fixture(scope="module")
def running(build: Build) -> Iterator[Device]:
    from boards import BOOT_BYTES

    with Device(VirtualBoard(build.board, build.boot.ljust(BOOT_BYTES, b"\xff") + build.image)) as device:
        yield device


def test_a_profile_adds_up_and_repeats(board: Device, build: Build) -> None:
    x = some_input(build)
    first, second = board.profile(x), board.profile(x)
    assert (first.total, first.per_node, first.overhead) == (second.total, second.per_node, second.overhead)
    assert first.origin == "emulated"
    assert len(first.per_node) == len(build.sizes["ops"])
    assert abs(first.total - sum(first.per_node)) <= 8 * len(first.per_node) + 8  # tests for the probe itself
    assert 0 < first.overhead < 40
    assert np.array_equal(first.output, board.infer(x))


def test_features_are_those_of_the_definition(board: Device, build: Build, front: FrontEnd) -> None:
    for seed in range(3):
        samples = sound(front.samples + 100, seed)
        expected = expected_features(build, front, samples[: front.samples])
        assert np.array_equal(board.features(samples), expected)


@pytest.mark.parametrize("hop_frames", [1, 5])
def test_a_stream_equals_its_windows(board: Device, build: Build, front: FrontEnd, hop_frames: int) -> None:
    hops = 4
    samples = sound(front.samples + hops * hop_frames * front.hop, 5)
    cuts = np.sort(np.random.default_rng(1).integers(0, samples.size, 20))
    results = list(board.stream(np.split(samples, cuts), hop_frames))
    assert len(results) == hops + 1
    for number, result in enumerate(results):
        end = front.samples + number * hop_frames * front.hop
        window = samples[end - front.samples : end]
        x = expected_features(build, front, window).reshape(some_input(build).shape)
        assert result.sample == end
        assert np.array_equal(result.output, interp.run(build.graph, [x])[0].ravel())
        assert result.dropped == 0
        assert result.instructions > 0


def test_a_stream_costs_less_than_a_tenth_of_real_time(board: Device, front: FrontEnd) -> None:
    import time

    samples = sound(front.sample_rate * 4)
    start = time.perf_counter()
    results = list(board.stream([samples], front.frames))
    assert len(results) == 1 + (samples.size - front.samples) // (front.frames * front.hop)
    assert time.perf_counter() - start < 4.0  # 4 s of sound; a tenth when the machine has nothing else to do


def test_lost_samples_are_counted(board: Device, front: FrontEnd) -> None:
    samples = sound(front.samples)
    results = list(board.stream([samples[:1000], 77, samples[1000:]], front.frames))
    assert [(result.sample, result.dropped) for result in results] == [(front.samples + 77, 77)]


def test_a_stream_left_early_leaves_a_board_that_works(board: Device, build: Build, front: FrontEnd) -> None:
    stream = board.stream([sound(front.samples), sound(front.samples * 3)], 1)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    x = some_input(build)
    assert np.array_equal(board.infer(x), interp.run(build.graph, [x])[0].ravel())

    def broken() -> Iterator[Int16]:
        yield sound(front.samples)
        raise OSError("microphone gone")

    with pytest.raises(OSError, match="microphone gone"):
        list(board.stream(broken(), 1))
    assert np.array_equal(board.infer(x), interp.run(build.graph, [x])[0].ravel())


def test_memory_is_reported(board: Device, build: Build) -> None:
    board.infer(some_input(build))
    used = board.memory()
    assert 0 < used.stack_high_water < used.stack_bytes == 8192
    assert 0 < used.arena_high_water <= used.arena_bytes <= used.static_bytes
    assert used.stack_intact
    assert used.arena_intact


def test_bad_inputs_are_refused_before_they_are_sent(board: Device, build: Build, front: FrontEnd) -> None:
    x = some_input(build)
    for wrong in (x[..., :-1], x.astype(np.float32), np.zeros(0, np.int8)):
        with pytest.raises(UserError, match=rf"needs {x.size} int8 values"):
            board.infer(wrong)
    with pytest.raises(UserError, match=r"needs \d+ samples"):
        board.features(sound(front.samples - 1))
    with pytest.raises(UserError, match="mono int16"):
        list(board.stream([np.zeros((10, 2), np.int16)], 1))
    with pytest.raises(UserError, match="at least 1"):
        list(board.stream([sound(10)], 0))
    with pytest.raises(UserError, match="runs its application"):
        write_image(board, build.image)


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (devices.INFER, b"", "whole input"),
        (devices.PROFILE, b"", "whole input"),
        (16, struct.pack("<I", 0), "does not know"),
        (99, b"", "does not know"),
        (devices.STREAM_START, b"\1", "out of range"),
        (devices.STREAM_START, struct.pack("<II", 0, 0), "out of range"),
    ],
)
def test_the_board_refuses_nonsense(board: Device, command: int, arguments: bytes, says: str) -> None:
    with pytest.raises(UserError, match=says):
        board.call(command, arguments)


def test_the_board_survives_hostile_commands(board: Device, build: Build) -> None:
    draw = np.random.default_rng(0)
    harmless = [c for c in range(256) if c != devices.RESET]
    for _ in range(300):
        message = bytes([draw.choice(harmless)]) + draw.bytes(int(draw.integers(0, link.BODY)))
        board._link.send(message)
        while board._link.poll():
            pass
    x = some_input(build)
    assert np.array_equal(board.infer(x), interp.run(build.graph, [x])[0].ravel())
    assert board.memory().arena_intact


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_line_changes_no_result(build: Build, front: FrontEnd, seed: int) -> None:
    from boards import BOOT_BYTES

    wire = VirtualBoard(build.board, build.boot.ljust(BOOT_BYTES, b"\xff") + build.image)
    faults = Faults(loss=0.05, damage=0.05, repeat=0.05, noise=0.05)
    with Device(FaultyWire(wire, faults, seed)) as device:
        x = some_input(build, seed)
        assert np.array_equal(device.infer(x), interp.run(build.graph, [x])[0].ravel())
        samples = sound(front.samples, seed)
        assert np.array_equal(device.features(samples), expected_features(build, front, samples))


def test_a_board_that_goes_away_is_named(build: Build) -> None:
    from boards import BOOT_BYTES

    wire = VirtualBoard(build.board, build.boot.ljust(BOOT_BYTES, b"\xff") + build.image)
    with (
        Device(FaultyWire(wire, Faults(cut_after=200), 0)) as device,
        pytest.raises(link.GoneError, match="went away"),
    ):
        device.infer(some_input(build))


def test_a_foreign_answer_is_named() -> None:
    with pytest.raises(UserError, match="earkit flash"):
        Device(FakeLink(lambda _: [b"\x81\0\0\0short"]))
    with pytest.raises(UserError, match="to command 1"):
        Device(FakeLink(lambda _: [b"zzzz"]))


def test_a_model_without_front_end_says_so() -> None:
    info = devices._INFO.pack(1, 1, 8, 8, 1, 64, *([0] * 10), b"bare")
    device = Device(FakeLink(lambda _: [b"\x81\0\0\0" + info]))
    with pytest.raises(UserError, match="no front end"):
        device.features(sound(100))
