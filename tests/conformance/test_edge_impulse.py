"""The AT commands: an imitation of Edge Impulse's clients runs, replays and records; noise does no harm."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from conftest import TINY
from edge_impulse_client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from boards import BOOT_BYTES
from boards.errors import UserError
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import pipeline, serve
from kit.device import Device
from kit.link import LinkError
from kit.record import decode
from kit.run import dequantise, quantise
from kit.virtual import VirtualBoard
from models import frontend

few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LIMIT = 1_000_000_000  # instructions until a board counts as hung
RATE = TINY.sample_rate


def sound(seconds: float, seed: int = 0) -> npt.NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    return np.clip(rng.normal(0, 4000, round(seconds * RATE)), -32768, 32767).astype(np.int16)


def board_of(build: Build) -> VirtualBoard:
    flash = build.boot.ljust(BOOT_BYTES, b"\xff") + build.image
    return VirtualBoard(build.board, flash, limit=LIMIT)


@pytest.fixture(scope="module")
def build(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    out = tmp_path_factory.mktemp("edge") / "tiny"
    return pipeline.compile(tiny_bundle, "virtual-m4", out, dialect="edge-impulse")


@pytest.fixture(scope="module")
def fuzzed(build: Build) -> VirtualBoard:
    return board_of(build)


@pytest.fixture
def board(build: Build) -> VirtualBoard:
    return board_of(build)


@pytest.fixture
def client(board: VirtualBoard) -> Client:
    made = Client(board)
    made.until(b"> ", 5)
    made.connect()
    return made


def expected(build: Build, samples: npt.NDArray[np.int16]) -> dict[str, float]:
    """Return the host's probabilities for a window of sound."""
    source, target = (
        build.graph.tensors[i].quantisation for i in (*build.graph.inputs, *build.graph.outputs)
    )
    assert source is not None
    assert target is not None
    scale, zero = float(source.scale[0]), int(source.zero_point[0])
    features = frontend.quantise(frontend.features(samples, TINY), scale, zero)
    (output,) = interp.run(build.graph, [features[None]])
    powers = np.exp(dequantise(output.ravel(), target).astype(np.float64))
    return dict(zip(build.labels, powers / powers.sum(), strict=True))


def told(lines: list[str]) -> dict[str, float]:
    """Return the predictions among lines."""
    found = (re.fullmatch(r"  (\S+): (\d\.\d{5})", line) for line in lines)
    return {one[1]: float(one[2]) for one in found if one}


def same(found: dict[str, float], wanted: dict[str, float]) -> None:
    assert found.keys() == wanted.keys()
    assert list(found.values()) == pytest.approx(list(wanted.values()), abs=6e-6)


def test_the_configuration_is_what_the_client_parses(build: Build, client: Client) -> None:
    values = client.config.values
    assert values["Device info"]["id"] == build.build_id
    assert values["Device info"]["type"] == "virtual-m4"
    assert values["Device info"]["data transfer baudrate"] == "115200"  # it never asks for another one
    assert values["Inference"]["sensor"] == "1"
    ((name, most, rates),) = client.config.sensors
    assert name == "Built-in microphone"
    assert rates == [RATE]
    free = build.board.ram_memory.size - build.sizes["ram_bytes"]["total"]
    assert free - 2048 < most * 2 * RATE < free  # all RAM that nobody has


def test_settings_are_kept(client: Client) -> None:
    client.settle("AT+DEVICEID=aa:bb:cc:dd:ee:ff")
    client.settle("AT+SAMPLESETTINGS=a b>c,0.0625,2500,secret")
    client.settle("AT+UPLOADSETTINGS=ei_1234,/api/training/data")
    client.settle("AT+UPLOADHOST=ingestion.example.com")
    client.settle("AT+MGMTSETTINGS=ws://remote.example.com")
    client.connect()
    values = client.config.values
    assert values["Device info"]["id"] == client.command("AT+DEVICEID?") == "aa:bb:cc:dd:ee:ff"
    assert values["Sampling parameters"] == {
        "label": "a b_c",
        "interval": "0.0625 ms.",
        "length": "2500 ms.",
        "hmac key": "secret",
    }
    upload = {"api key": "ei_1234", "host": "ingestion.example.com", "path": "/api/training/data"}
    assert values["Upload settings"] == upload
    assert values["Remote management"]["url"] == "ws://remote.example.com"
    client.settle("AT+CLEARCONFIG")
    assert "test" in client.command("AT+SAMPLESETTINGS?")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("AT+INFO?", "No handler for command! (AT+INFO?)"),
        ("AT+CONFIG", "No handler for command! (AT+CONFIG)"),
        ("AT+CONFIG=1", "No handler for command! (AT+CONFIG=)"),
        ("AT+NOTHING", "Command not found! (AT+NOTHING)"),
        ("AT+SAMPLESETTINGS=x", "ERR: needs label"),
        ("AT+SAMPLESETTINGS=x,0,1000,k", "ERR: needs label"),
        ("AT+SAMPLESTART=Camera", "ERR: no such sensor"),
        ("AT+READBUFFER=0,10,n", "ERR: the buffer holds 0 bytes"),
        ("AT+READBUFFER=0,0,y", "one baud rate"),
        ("AT+RUNIMPULSESTATIC=n,15999", "ERR: this model takes 16000 values"),
        ("AT+RUNIMPULSESTATIC=n", "ERR: needs y or n"),
        ("AT+RUNIMPULSE", "ERR: no microphone that hears 16000 Hz"),  # nothing is in the air yet
        ("AT+INFO", "ML model name        : tiny"),
        ("AT+HELP", "AT+RUNIMPULSE"),
    ],
)
def test_what_a_command_says(client: Client, text: str, says: str) -> None:
    assert says in client.command(text)


def test_what_is_no_command_is_told_so(board: VirtualBoard, client: Client) -> None:
    board.write(b"hello\r" + b"x" * 400 + b"\r")
    said = client.until(b"longer than", 5)
    assert b"Not a valid AT command (hello)" in said


@pytest.mark.parametrize("command", ["AT+RUNIMPULSE", "AT+RUNIMPULSEDEBUG=n"])
def test_the_microphones_windows_are_classified(
    build: Build, board: VirtualBoard, client: Client, command: str
) -> None:
    samples = sound(1.1)
    board.air(RATE, iter([samples]))
    client.send(command)
    said = client.until(b"whistle_up", 10).decode()
    lines = said.splitlines()
    order = ["Inferencing settings:", "Starting inferencing, press 'b' to break", "Recording...",
             "Recording done", "#Classification predictions:"]  # fmt: skip
    assert [line for line in lines if line in order][: len(order)] == order
    assert re.search(r"Timing: DSP \d+ (ms|us), inference \d+ (ms|us), anomaly 0 ms", said)
    assert "estimated, instructions / 120000000 Hz" in said
    said += client.stop().decode()
    assert said.endswith("Inferencing stopped by user\r\n> ")
    same(told(said.splitlines()), expected(build, samples[:RATE]))
    assert client.command("AT") == "OK"  # the line is in step


def test_a_sliding_window_goes_on_every_quarter(build: Build, board: VirtualBoard, client: Client) -> None:
    samples = sound(2)
    board.air(RATE, iter([samples]))
    client.send("AT+RUNIMPULSECONT")
    said = b""
    while more := board.read(0):
        said += more
    results = said.decode().split("#Classification predictions:")[1:]
    slices = range(0, samples.size - RATE + 1, TINY.frames // 4 * TINY.hop)
    assert len(results) == len(slices)
    for result, start in zip(results, slices, strict=True):
        same(told(result.splitlines()), expected(build, samples[start : start + RATE]))
    client.stop()


def test_replayed_sound_gives_the_hosts_probabilities(build: Build, client: Client) -> None:
    samples = sound(1, seed=4)
    for _ in range(2):
        lines = client.replay(samples.astype("<f4").tobytes())
        assert lines[0] == f"TRANSFER COMPLETED {RATE}"
        assert lines[1].startswith("Timing: DSP ")
        assert lines[2] == "Predictions:"
        assert lines[-3:] == ["RESULT 0", "END OUTPUT", "> "]
        same(told(lines), expected(build, samples))


def test_replayed_features_of_a_model_without_front_end(tiny_model: Path, tmp_path: Path) -> None:
    build = pipeline.compile(tiny_model, "virtual-m4", tmp_path / "bare", dialect="edge-impulse")
    source, target = (
        build.graph.tensors[i].quantisation for i in (*build.graph.inputs, *build.graph.outputs)
    )
    assert source is not None
    assert target is not None
    x = np.random.default_rng(2).normal(0, 60 * source.scale[0], (1, TINY.frames, TINY.bands)).astype("<f4")
    (output,) = interp.run(build.graph, [quantise(x, source, "x")])
    powers = np.exp(dequantise(output.ravel(), target).astype(np.float64))
    client = Client(board_of(build))
    client.until(b"> ", 5)
    lines = client.replay(x.tobytes())
    found = [float(line.rpartition(": ")[2]) for line in lines if line.startswith("  class ")]
    assert found == pytest.approx(list(powers / powers.sum()), abs=6e-6)
    assert "no front end" in client.command("AT+RUNIMPULSE")


def test_a_broken_replay_ends(client: Client, board: VirtualBoard) -> None:
    client.send(f"AT+RUNIMPULSESTATIC=n,{RATE}")
    client.until(b"CHUNK=32\r\n", 5)
    board.write(b"AAAA\r")
    assert b"TIMEOUT\r\nEND OUTPUT" in client.until(b"> ", 5)
    assert client.command("AT") == "OK"


def test_a_recording_is_what_was_heard_and_signed(board: VirtualBoard, client: Client) -> None:
    samples = sound(1.5, seed=9)
    board.air(RATE, iter([samples]))
    data = client.sample("yes", 0.0625, 1500, "a key of mine")
    made = decode(data, "a key of mine")
    assert made.rate == RATE
    assert np.array_equal(made.samples, samples)
    with pytest.raises(LinkError, match="signature"):
        decode(data, "another key")
    for at in range(0, len(data), 997):
        spoiled = bytearray(data)
        spoiled[at] ^= 4
        with pytest.raises(LinkError, match=r"damaged|kind"):
            decode(bytes(spoiled), "a key of mine")


def test_a_recording_has_bounds(board: VirtualBoard, client: Client) -> None:
    ((_, most, _),) = client.config.sensors
    client.settle(f"AT+SAMPLESETTINGS=x,0.0625,{round(1000 * most) + 100},k")
    assert "ERR: no room for more than" in client.command("AT+SAMPLESTART=Built-in microphone")
    client.settle("AT+SAMPLESETTINGS=x,0.125,1000,k")
    assert "ERR: the microphone samples at 16000 Hz" in client.command("AT+SAMPLESTART=Built-in microphone")
    client.settle("AT+SAMPLESETTINGS=x,0.06,1000,k")  # as the client may round it
    board.air(RATE, iter([sound(0.5)]))
    client.send("AT+SAMPLESTART=Built-in microphone")
    client.until(b"Sampling...", 5)
    assert b"ERR: stopped" in client.stop()


def test_a_longest_recording_leaves_the_board_whole(board: VirtualBoard, client: Client) -> None:
    ((_, most, _),) = client.config.sensors
    samples = sound(most)
    board.air(RATE, iter([samples]))
    made = decode(client.sample("x", 0.0625, int(1000 * most), "k"), "k")
    assert np.array_equal(made.samples, samples[: made.samples.size])
    assert client.command("AT") == "OK"
    with Device(board) as device:
        assert device.memory().stack_intact
        assert device.memory().arena_intact


noise = st.binary(max_size=60)
names = st.sampled_from(["CONFIG", "HELP", "INFO", "SAMPLESETTINGS", "SAMPLESTART", "READBUFFER", "DEVICEID",
                         "RUNIMPULSE", "RUNIMPULSECONT", "RUNIMPULSESTATIC", "UPLOADHOST", "X"])  # fmt: skip
parts = st.sampled_from(["n", "y", "0", "16000", "0.0625", "4294967296", "", "Built-in microphone"])
forms = st.sampled_from(["", "?", "=", "=,", "=x?"])
commands = st.tuples(names, forms, st.lists(parts | st.text(max_size=5), max_size=5)).map(
    lambda t: f"AT+{t[0]}{t[1]}{','.join(t[2])}\r".encode()
)
STATIC = b"AT+RUNIMPULSESTATIC=n,16000\rAAAA"
frames = noise.map(lambda data: b"\0\x02" + data.replace(b"\0", b"\1") + b"\0")


@few
@given(said=st.lists(noise | commands | frames | st.just(STATIC), max_size=8))
def test_no_bytes_stop_it_or_leave_its_memory(fuzzed: VirtualBoard, said: list[bytes]) -> None:
    fuzzed.power_cycle()
    fuzzed.air(RATE, iter([sound(0.2)]))
    for piece in said:
        fuzzed.write(piece)
        fuzzed.read(0)
    fuzzed.write(b"b\r\0\rAT+DEVICEID=7\rAT+DEVICEID?\r")
    answer = b""
    while more := fuzzed.read(0):
        answer += more
    assert answer.endswith(b"AT+DEVICEID?\r\n7\r\n> ")
    memory = Device(fuzzed).memory()
    assert memory.stack_intact
    assert memory.arena_intact


def test_a_hello_ends_inference_and_hands_the_line_over(
    build: Build, board: VirtualBoard, client: Client
) -> None:
    board.air(RATE, iter([sound(0.5)]))
    client.send("AT+RUNIMPULSE")
    client.until(b"Recording...", 5)
    x = np.zeros((1, TINY.frames, TINY.bands), np.int8)
    (output,) = interp.run(build.graph, [x])
    device = Device(board)
    assert np.array_equal(device.infer(x), output.ravel())
    assert Client(device.restart()).command("AT") == "OK"


@pytest.fixture
def served(build: Build, tmp_path: Path) -> Iterator[str]:
    """Give the path of a port behind which the board runs, and hears some noise."""
    import soundfile

    soundfile.write(tmp_path / "s.wav", sound(5), RATE)
    ports: list[str] = []
    opened, stop = threading.Event(), threading.Event()

    def ready(port: str) -> None:
        ports.append(port)
        opened.set()

    choices = {"ready": ready, "stop": stop, "source": str(tmp_path / "s.wav")}
    thread = threading.Thread(target=serve.serve, args=(build,), kwargs=choices)
    thread.start()
    assert opened.wait(60)
    yield ports[0]
    stop.set()
    thread.join(60)


def test_the_clients_pace_on_a_serial_port(served: str) -> None:
    import serial

    with serial.Serial(served, 115200, timeout=0.1) as port:
        client = Client(port, paced=True)
        client.connect()
        assert client.config.values["Device info"]["type"] == "virtual-m4"
        client.settle("AT+SAMPLESETTINGS=noise,0.0625,1000,key")
        client.send("AT+RUNIMPULSE")
        assert b"Recording done" in client.until(b"whistle_up", 30)
        assert client.stop().endswith(b"Inferencing stopped by user\r\n> ")
        assert client.command("AT") == "OK"


def test_streaming_builds_have_no_dialect(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        pipeline.compile(tiny_model, "virtual-m4", tmp_path / "b", hop="1", dialect="edge-impulse")
