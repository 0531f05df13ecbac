"""Boards that listen by themselves: the events of kit/detect.py bit for bit, losses, faults, long runs."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import test_stream
import tflite_writer as tfl
from conftest import earkit
from test_stream import Net

import boards
import firmware
from boards.errors import UserError
from firmware.compiler import build as compiler
from firmware.compiler.build import Build
from kit import device, ears, listen
from kit.detect import Meaning, Rules
from kit.fake_link import FakeLink
from kit.virtual import VirtualBoard
from models import frontend
from models.frontend import FrontEnd

Int16 = npt.NDArray[np.int16]
FRONT = FrontEnd(bands=16, window=512, hop=160, frames=36)
HOP = 4
RULES = Rules(threshold=0.3, smoothing=0.12, refractory=0.15)


def compiled(folder: Path, board: str, *, streaming: bool, softmax: bool) -> Build:
    """Compile a small net over frames of sound."""
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_stream, "Q", (0.4, 40))  # decibels
        patch.setattr(test_stream, "RNG", rng)
        net = Net.of(FRONT.frames, FRONT.bands, 1).conv(3, causal=True)
        net.add("MEAN", [tfl.constant("axes", [1])], (1, FRONT.bands, 5), keep_dims=False)
        net.add("RESHAPE", [tfl.constant("flat", [1, 80])], (1, 80))
        weights = tfl.constant("weights", rng.integers(-127, 128, (6, 80)), "int8", 0.004)
        net.add("FULLY_CONNECTED", [weights], (1, 6), 5)
    if softmax:
        shares = tfl.Value("shares", net.last.shape, "int8", 1 / 256, -128)
        net.nodes.append(tfl.Op("SOFTMAX", [net.last], [shares], {"beta": 1.0}, 2))
        net.last = shares
    model = tfl.model([net.input], net.nodes, [], [net.last])
    step = frontend.tables(replace(FRONT, frames=HOP) if streaming else FRONT)
    return compiler.compile_model(
        model,
        boards.load(board),
        folder,
        name="net",
        frontend=asdict(FRONT),
        frontend_tables=step,
        hop=HOP if streaming else None,
    )


def noise(seconds: float, seed: int = 0) -> Int16:
    """Sound whose level and colour change a few times a second."""
    rng, count = np.random.default_rng(seed), int(seconds * FRONT.sample_rate)
    level = np.repeat(10 ** rng.uniform(0, 4, count // 3000 + 1), 3000)[:count]
    pitch = np.repeat(rng.uniform(0.05, 2.5, count // 3000 + 1), 3000)[:count]
    return np.asarray(level * np.sin(np.cumsum(pitch)) + rng.normal(0, 30, count), np.int16)


def blocks(samples: Int16, size: int = 800) -> Iterator[Int16]:
    return iter(np.split(samples, range(size, samples.size, size)))


@pytest.fixture(scope="module", params=["virtual-m4 sliding softmax", "virtual-m0plus streaming logits"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    board, form, end = request.param.split()
    folder = tmp_path_factory.mktemp("builds") / board
    return compiled(folder, board, streaming=form == "streaming", softmax=end == "softmax")


@pytest.fixture
def board(made: Build) -> Iterator[device.Device]:
    with device.open(made, None) as opened:
        yield opened


def heard(board: device.Device, made: Build, samples: Int16, **options: Any) -> ears.Heard:
    assert isinstance(board.wire, VirtualBoard)
    board.wire.air(FRONT.sample_rate, blocks(samples))
    return ears.listen(board, made.board, meant(made), RULES, **options)


def meant(made: Build) -> Meaning:
    return replace(listen.meaning(made), hop_frames=HOP)


def test_board_and_host_hear_the_same_events(made: Build, board: device.Device) -> None:
    samples = noise(20)
    own = heard(board, made, samples)
    told = listen.stream(board, meant(made), blocks(samples), rules=RULES)
    assert own.state.lost == own.state.untold == 0
    assert own.state.taken == samples.size
    assert own.state.results == told.results
    assert own.count == told.events >= 5
    assert [replace(e, end=0) for e in own.events] == [replace(e, end=0) for e in told.listening.events]
    assert list(own.events)[:-1] == list(told.listening.events)[:-1]  # the last may still have lasted


def test_too_slow_a_board_drops_samples_and_says_so(made: Build) -> None:
    slow = made.board.model_copy(update={"clock_hz": 4_000_000})  # instructions a second
    flash = made.boot.ljust(made.board.boot, b"\xff") + made.image
    samples = noise(8)
    with device.Device(VirtualBoard(slow, flash), "emulated") as board:
        own = heard(board, replace(made, board=slow), samples)
    state, hop = own.state, HOP * FRONT.hop
    assert 4000 < state.lost < samples.size
    assert state.taken <= samples.size
    assert state.worst_delay >= 4096 - FRONT.window  # what the microphone keeps had waited
    assert state.results < (samples.size - FRONT.samples) // hop
    assert own.share is not None
    assert own.share > 0.9
    assert f"{state.lost} samples were lost, the board did not keep up" in own.summary()


def test_shares_delay_and_record_of_a_board_that_keeps_up(made: Build, board: device.Device) -> None:
    own = heard(board, made, noise(4))
    record = own.record()
    assert own.share is not None
    assert own.work is not None
    assert own.share == pytest.approx(own.work / made.board.clock_hz)
    assert 0 < own.share < 0.5
    assert own.state.worst_work * FRONT.sample_rate / (HOP * FRONT.hop) >= 0.9 * own.work
    # a result comes late by its own work, and by the rest that 128 samples end
    bound = own.state.worst_work * FRONT.sample_rate / made.board.clock_hz + 128 + 2
    assert 0 < own.state.worst_delay <= bound
    assert record["origin"] == "emulated"
    assert record["worst_delay_milliseconds"] is None
    assert record["cpu_share"] == round(own.share, 6)
    assert "of its time at one instruction a cycle" in own.summary()


def test_listening_again_begins_afresh_and_other_work_ends_it(made: Build, board: device.Device) -> None:
    samples = noise(5, seed=1)
    first, second = (heard(board, made, samples) for _ in range(2))
    assert first.raw == second.raw
    assert isinstance(board.wire, VirtualBoard)
    board.wire.air(FRONT.sample_rate, blocks(samples))
    ears.begin(board, meant(made), RULES)
    assert board.infer(np.zeros(board.info().input_bytes, np.int8)).size == 6
    assert ears.state(board).running == 0


def test_stop_ends_an_endless_air(made: Build, board: device.Device) -> None:
    stop, given = threading.Event(), 0

    def endless() -> Iterator[Int16]:
        nonlocal given
        while not stop.is_set():
            yield np.zeros(16_000, np.int16)
            given += 1
            if given == 40:
                stop.set()

    assert isinstance(board.wire, VirtualBoard)
    board.wire.air(FRONT.sample_rate, endless())
    own = ears.listen(board, made.board, meant(made), RULES, stop=stop)
    assert own.interrupted
    assert own.state.taken == 40 * 16_000


def test_another_rate_is_refused(made: Build, board: device.Device) -> None:
    assert isinstance(board.wire, VirtualBoard)
    board.wire.air(8_000, blocks(noise(1)))
    with pytest.raises(
        UserError, match="does not start at 16000 Hz: it is broken or has no such rate; stream"
    ):
        ears.listen(board, made.board, meant(made), RULES)


def test_too_long_a_memory_is_refused(made: Build, board: device.Device) -> None:
    with pytest.raises(UserError, match="are 375 results, at most 255 are averaged"):
        ears.listen(board, made.board, meant(made), Rules(smoothing=15.0))


def test_a_microphone_that_dies_is_told(made: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ears, "ASK_SECONDS", 0.01)
    monkeypatch.setattr(ears, "DEAD_SECONDS", 0.2)

    def answer(request: bytes) -> Iterator[bytes]:
        if request[0] == 1:
            yield bytes((0x81, 0, 0, 0)) + struct.pack("<16I16s", *[1] * 16, b"x")
        else:
            yield bytes((request[0] | 0x80, 0, 0, 0)) + struct.pack("<Q8I", 5, 1, 16_000, 7, 0, 0, 0, 0, 0)

    wire = FakeLink(answer)
    wire.live = True
    with device.Device(wire) as board, pytest.raises(UserError, match="no sample of its microphone for 0 s"):
        ears.listen(board, made.board, meant(made), RULES)


def test_who_cannot_listen_is_told_what_to_do(made: Build) -> None:
    deaf, real = boards.load("virtual-m55"), made.board.model_copy(update={"kind": "mcu"})
    for board, air, message in (
        (deaf, "x.wav", "virtual-m55 has no microphone: stream the host's with --source mic"),
        (made.board, None, r"Say --air clip\.wav"),
        (real, "x.wav", r"hears the real air: leave --air x\.wav out"),
    ):
        with pytest.raises(UserError, match=message):
            ears.check(board, meant(made), air)
    with pytest.raises(UserError, match="a regression makes no events"):
        ears.check(made.board, replace(meant(made), values=True), "x.wav")


def test_microphones_of_boards_and_their_ports_agree() -> None:
    for board in map(boards.load, boards.names()):
        if board.kind == "virtual":
            port = firmware.port(board.port).read_text()
            assert board.has_microphone == ("bool port_microphone = true;" in port), board.name


def test_the_verb_listens_through_the_board(
    tiny_build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "air.wav", noise(6), 16_000)
    given = ("listen", tiny_build, "--source", "board", "--threshold", "0.05")
    code, out, err = earkit(capsys, *given, "--air", tmp_path / "air.wav", "--json")
    assert code == 0, err
    record = json.loads(out)
    code, out, _ = earkit(
        capsys,
        "listen",
        tiny_build,
        "--source",
        tmp_path / "air.wav",
        "--fast",
        "--threshold",
        "0.05",
        "--json",
    )
    streamed = json.loads(out)
    assert record["results"] == streamed["results"] > 10
    assert record["events"][:-1] == streamed["events"][:-1]
    assert len(record["events"]) == len(streamed["events"]) > 0
    assert (record["lost_samples"], record["origin"]) == (0, "emulated")
    code, out, _ = earkit(capsys, *given, "--air", tmp_path / "air.wav")
    assert code == 0
    assert out.splitlines()[-1].startswith("heard 6.0 s through the microphone of virtual-m4: ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--source", "board"), "what is its microphone to hear? Say --air clip.wav"),
        (("--source", "board", "--air", "no.wav"), "no.wav: no such file"),
        (("--source", "mic", "--air", "a.wav"), "--air a.wav is for --source board"),
        (
            ("--source", "board", "--air", "a.wav", "-o", "run"),
            "-o keeps sound, which the board does not send",
        ),
    ],
)
def test_wrong_wishes_are_told(
    tiny_build: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str
) -> None:
    code, _, err = earkit(capsys, "listen", tiny_build, *argv)
    assert code == 1
    assert message in err[-1]
