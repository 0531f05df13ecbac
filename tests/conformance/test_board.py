"""Whether a board is one: `pytest --board NAME --port P` on a real one, else an emulated one is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import boards
from boards.errors import UserError
from firmware.compiler import build as builds
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import clock, device, first_op, pipeline
from kit import flash as methods
from kit.device import Device
from kit.serial_port import EMULATOR
from models import frontend
from models.frontend import FrontEnd

Int8 = npt.NDArray[np.int8]


@pytest.fixture(scope="module")
def port(request: pytest.FixtureRequest) -> str | None:
    found: str | None = request.config.getoption("--port")
    return found


@pytest.fixture(scope="module")
def build(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Build:
    """Give a small bundle compiled for the board."""
    name = request.config.getoption("--board") or "virtual-m4"
    out = tmp_path_factory.mktemp("conformance") / "build"
    return pipeline.compile(tiny_bundle, name, out)


@pytest.fixture(scope="module")
def bench(build: Build, port: str | None) -> Iterator[Device]:
    """Flash the board by the first of its methods that works, and give it."""
    if port != EMULATOR or build.board.emulated_flash:  # else the image lies there from the start
        port = methods.flash(build, port).port  # on its own USB a board may have another one now
    with device.open(build, port) as board:
        yield board


def drawn(build: Build, seed: int) -> Int8:
    shape = build.graph.tensors[build.graph.inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, shape, np.int8)


def sound(front: FrontEnd, seed: int, more: int = 0) -> npt.NDArray[np.int16]:
    draw = np.random.default_rng(seed)
    count = front.samples + more
    tone = 9000 * np.sin(np.arange(count) * draw.uniform(0.05, 1))
    return np.asarray(tone + draw.normal(0, 700, count), np.int16)


def test_it_says_what_it_runs(bench: Device, build: Build) -> None:
    info = bench.info()
    assert (info.mode, info.build_id, info.nodes) == ("app", build.build_id, len(build.sizes["ops"]))
    assert info.fault_pc == 0


@pytest.mark.parametrize("seed", range(8))
def test_its_outputs_are_the_definitions(seed: int, bench: Device, build: Build) -> None:
    x = drawn(build, seed)
    assert np.array_equal(bench.infer(x), interp.run(build.graph, [x])[0].ravel())


def test_each_of_its_ops_is_the_definitions(bench: Device, build: Build) -> None:
    assert first_op.find(build, bench, [drawn(build, 100)]) is None


def test_it_hears_what_the_host_hears(bench: Device, build: Build) -> None:
    assert build.frontend is not None
    front = FrontEnd(**build.frontend)
    given = build.graph.tensors[build.graph.inputs[0]].quantisation
    assert given is not None
    samples = sound(front, 3, more=2 * front.hop)
    exact = frontend.features(samples[: front.samples], front)
    expected = frontend.quantise(exact, float(given.scale[0]), int(given.zero_point[0]))
    assert np.array_equal(bench.features(samples), expected)
    results = list(bench.stream([samples[:777], samples[777:]], hop_frames=1))
    assert [result.sample for result in results] == [front.samples + i * front.hop for i in range(3)]
    assert [result.dropped for result in results] == [0, 0, 0]
    x = expected.reshape(drawn(build, 0).shape)
    assert np.array_equal(results[0].output, interp.run(build.graph, [x])[0].ravel())


def test_its_memory_is_whole(bench: Device, build: Build) -> None:
    bench.infer(drawn(build, 1))
    used = bench.memory()
    assert used.stack_intact
    assert used.arena_intact
    assert 0 < used.stack_high_water <= used.stack_bytes


def test_its_counts_add_up(bench: Device, build: Build) -> None:
    counts = bench.profile(drawn(build, 2))
    assert len(counts.per_node) == len(build.sizes["ops"])
    assert sum(counts.per_node) <= 1.1 * counts.total
    assert sum(counts.per_node) >= 0.5 * counts.total


def test_its_counter_is_a_clock(bench: Device, build: Build) -> None:
    if bench.origin == "measured":
        told = clock.check(bench, build.board.clock_hz)
        assert told["right"], clock.complaint(told, build.board)
    assert 10_000 <= bench.spin(10_000) < 11_000


def test_it_refuses_what_is_too_short(bench: Device, build: Build) -> None:
    with pytest.raises(UserError):
        bench.infer(np.zeros(3, np.int8))
    x = drawn(build, 4)
    assert np.array_equal(bench.infer(x), interp.run(build.graph, [x])[0].ravel())


def test_it_comes_back_from_its_bootloader(bench: Device, build: Build) -> None:
    if "serial" not in build.board.flash or not (bench.origin == "measured" or build.board.emulated_flash):
        pytest.skip(f"{build.board.name} has no bootloader of ours")
    bench.reset("boot")
    assert bench.info().mode == "boot"
    bench.reset("app")
    assert bench.info().build_id == build.build_id


def test_the_board_is_one_of_ours(build: Build) -> None:
    assert build.board == boards.load(build.board.name)
    assert builds.load(build.path).build_id == build.build_id
