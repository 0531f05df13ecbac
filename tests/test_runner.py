"""The runner for Linux machines, part by part: sound, who hears of events, the machine's state."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boards.errors import UserError
from kit.runner import machine, publish, sound
from kit.runner.engines import Measured, best
from kit.targets import release

RATE = 16_000
EVENT = {"event": "Türklingel", "probability": 0.9, "start": 1.25}


def heard(source: str, fast: bool = True, rate: int = RATE) -> np.ndarray[Any, Any]:
    return np.concatenate(list(sound.blocks(source, rate, fast, lambda: False)))


def write_wav(path: Path, samples: np.ndarray[Any, Any], rate: int = RATE, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def test_a_wav_file_comes_whole_and_in_time(tmp_path: Path) -> None:
    samples = np.arange(-4000, 4000, dtype=np.int16)
    path = str(write_wav(tmp_path / "x.wav", samples))
    assert np.array_equal(heard(path), samples)
    start = time.monotonic()
    assert np.array_equal(heard(path, fast=False), samples)
    assert time.monotonic() - start >= 0.5 - 1 / sound.BLOCKS
    both = np.stack([samples, np.full_like(samples, 100)], axis=1)
    mixed = heard(str(write_wav(tmp_path / "two.wav", both)))
    assert np.array_equal(mixed, np.rint((samples.astype(float) + 100) / 2).astype(np.int16))


def test_a_wav_file_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"8000 Hz with 16 bits, the model hears 16000 Hz with 16: sox"):
        heard(str(write_wav(tmp_path / "x.wav", np.zeros(10, np.int16), rate=8000)))
    with pytest.raises(UserError, match="16000 Hz with 8 bits"):
        heard(str(write_wav(tmp_path / "x.wav", np.zeros(10, np.uint8), width=1)))
    (tmp_path / "no.wav").write_bytes(b"RIFFnonsense")
    for name in ("no.wav", "absent.wav"):
        with pytest.raises(UserError, match="not a wav file that can be read here"):
            heard(str(tmp_path / name))


def test_sound_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.arange(1000, dtype=np.int16)
    stdin = io.TextIOWrapper(io.BytesIO(samples.tobytes() + b"\x01"))  # half a sample at the end is none
    monkeypatch.setattr(sys, "stdin", stdin)
    assert np.array_equal(heard("-"), samples)


@pytest.fixture
def arecord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for arecord in front of PATH; it runs what the test writes to the file that is given."""
    script = tmp_path / "arecord"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return script


def stand_in(script: Path, text: str) -> None:
    script.write_text(f'#!/bin/sh\necho "$@" >"{script}.arguments"\n{text}\n')
    script.chmod(0o755)


def test_the_microphone_is_recorded_by_arecord_until_stopped(arecord: Path) -> None:
    stand_in(arecord, "trap 'exit 0' TERM\nwhile :; do printf 0123456789; done")
    blocks: list[Any] = []
    for block in sound.blocks("mic", RATE, False, lambda: len(blocks) == 3):
        blocks.append(block)
    assert [block.size for block in blocks] == [RATE // sound.BLOCKS] * 3
    assert blocks[0].tobytes().startswith(b"0123456789")
    arguments = Path(f"{arecord}.arguments").read_text()
    assert arguments == "-q -D default -f S16_LE -c 1 -r 16000 -t raw\n"
    next(sound.blocks("plughw:CARD=Mic,DEV=0", RATE, False, lambda: False))
    assert "-D plughw:CARD=Mic,DEV=0 " in Path(f"{arecord}.arguments").read_text()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("arecord: main:831: audio open error: Device or resource busy", "is busy: another program records"),
        (
            "ALSA lib: cannot find card '0'\narecord: audio open error",
            "plug it in",
        ),
        ("arecord: main:831: audio open error: Permission denied", "sudo usermod -aG audio"),
        ("arecord: set_params:1349: Channels count non available", "gives no mono int16: use plughw:CARD"),
        ("something new", r"went away \(something new\)"),
        ("", "went away \\(arecord said nothing\\)"),
    ],
)
def test_a_microphone_that_fails_has_one_line(arecord: Path, said: str, line: str) -> None:
    stand_in(arecord, f'echo "{said}" >&2\nexit 1')
    with pytest.raises(UserError, match=line) as caught:
        heard("mic")
    assert "\n" not in str(caught.value)


def test_a_microphone_that_is_unplugged_or_silent(arecord: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(arecord, "head -c 1000 /dev/zero\nsleep 0.1\necho 'read error: No such device' >&2\nexit 1")
    with pytest.raises(UserError, match="is not there: plug it in"):
        heard("mic")
    stand_in(arecord, "exec sleep 60")
    monkeypatch.setattr(sound, "QUIET", 0.3)
    with pytest.raises(UserError, match="has said nothing for 0 s"):
        heard("mic")
    monkeypatch.setenv("PATH", str(arecord.parent / "nowhere"))
    with pytest.raises(UserError, match="arecord is not installed: sudo apt install alsa-utils"):
        heard("mic")


def test_websocket_listeners_hear_of_events() -> None:
    client = pytest.importorskip("websocket", reason="needs websocket-client, somebody else's client")
    sink = publish.WebSocket(f"127.0.0.1:{free_port()}")
    try:
        lines = [client.create_connection(f"ws://127.0.0.1:{sink.address[1]}", timeout=20) for _ in range(2)]
        wait_for(lambda: len(sink._listeners) == 2)
        sink.send(EVENT)
        assert [json.loads(line.recv()) for line in lines] == [EVENT] * 2
        lines[0].close()
        wait_for(lambda: sink.send(EVENT) is None and len(sink._listeners) == 1)
        with pytest.raises(UserError, match="it is taken: choose another port, or end who has it"):
            publish.WebSocket(str(sink.address[1]))
        lines[1].close()
    finally:
        sink.close()


def test_a_slow_websocket_listener_loses_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "QUEUED", 3)
    sink = publish.WebSocket(str(free_port()))
    try:
        stuck = publish.queue.Queue[str](publish.QUEUED)
        sink._listeners.add(stuck)
        for number in range(10):
            sink.send({"event": number})
        assert [json.loads(stuck.get())["event"] for _ in range(3)] == [7, 8, 9]
    finally:
        sink.close()


@pytest.mark.parametrize("address", ["", "x", "host:", "1:99999", "0", "mqtt://x"])
def test_addresses_of_websockets_that_are_none(address: str) -> None:
    with pytest.raises(UserError, match="is no address: give a port, or host:port"):
        publish.WebSocket(address)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    """Give the port of a mosquitto that wants a name and a password."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    maker = shutil.which("mosquitto_passwd")
    if program is None:
        pytest.skip("needs mosquitto")
    port = free_port()
    config = f"listener {port} 127.0.0.1\n" + ("user root\n" if os.geteuid() == 0 else "")
    if maker:
        subprocess.run([maker, "-b", "-c", tmp_path / "users", "ear", "s3:/@"], check=True)
        config += f"allow_anonymous false\npassword_file {tmp_path}/users\n"
    else:
        config += "allow_anonymous true\n"
    (tmp_path / "conf").write_text(config)
    process = subprocess.Popen([program, "-c", str(tmp_path / "conf")], stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def test_a_broker_hears_of_events_even_of_those_before_it_came(broker: int) -> None:
    from paho.mqtt import client

    got: list[tuple[str, Any]] = []
    listener = client.Client(client.CallbackAPIVersion.VERSION2)
    listener.username_pw_set("ear", "s3:/@")
    subscribed = threading.Event()
    listener.on_connect = lambda *_: listener.subscribe("home/#", qos=1)
    listener.on_subscribe = lambda *_: subscribed.set()
    listener.on_message = lambda _c, _d, message: got.append((message.topic, json.loads(message.payload)))
    while listener_fails(listener, broker):
        time.sleep(0.1)
    listener.loop_start()
    assert subscribed.wait(20)
    sink = publish.Mqtt(f"mqtt://ear:s3%3A%2F%40@127.0.0.1:{broker}/home/ears")
    sink.send(EVENT)  # before it is connected: it waits
    sink.send({"event": "second"})
    wait_for(lambda: len(got) == 2)
    sink.close()
    listener.disconnect()
    listener.loop_stop()
    assert got == [("home/ears", EVENT), ("home/ears", {"event": "second"})]


def listener_fails(listener: Any, port: int) -> bool:
    try:
        listener.connect("127.0.0.1", port)
    except OSError:
        return True
    return False


@pytest.mark.parametrize("address", ["broker", "http://x/y", "mqtt://", ""])
def test_addresses_of_brokers_that_are_none(address: str) -> None:
    with pytest.raises(UserError, match="is no broker: mqtt://host:1883/topic"):
        publish.Mqtt(address)


def test_an_absent_broker_stops_nothing() -> None:
    sink = publish.Mqtt(f"mqtt://127.0.0.1:{free_port()}")
    start = time.monotonic()
    sink.send(EVENT)
    sink.close()
    assert time.monotonic() - start < 10


def test_the_state_of_a_raspberry_pi(tmp_path: Path) -> None:
    for name, text in {
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1500000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand\n",
        "sys/class/thermal/thermal_zone0/temp": "71234\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50001\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    state = machine.state(tmp_path)
    assert state["model"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert (state["governor"], state["mhz"], state["most_mhz"]) == (["ondemand"], [600.0], [1500.0])
    assert state["celsius"] == 71.234
    assert state["throttled"] == [
        "under-voltage now",
        "under-voltage since it started",
        "throttled since it started",
    ]
    said = machine.complaints({**state, "load": 0.0}, {**state, "cores": 4})
    assert said == [
        "the machine was slowed: under-voltage now",
        "the clock is governed by ondemand: `performance` gives steadier times",
    ]
    busy = machine.complaints({**state, "load": 3.0}, {**state, "cores": 4, "throttled": [], "governor": []})
    assert busy == ["other work ran beside it: a load of 3.0 on 4 cores"]


def test_vcgencmd_is_asked_where_the_kernel_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.throttled(tmp_path) is None
    for said, found in (("throttled=0x0", []), ("throttled=0x4", ["throttled now"]), ("VCHI failed", None)):
        (tmp_path / "vcgencmd").write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / "vcgencmd").chmod(0o755)
        assert machine.throttled(tmp_path) == found
    bare = machine.state(tmp_path)
    assert (bare["celsius"], bare["mhz"], bare["governor"]) == (None, [], [])
    assert bare["model"]


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({("program", 1): 100, ("litert", 1): 120, ("litert", 4): 60}, ("litert", 4)),
        ({("program", 1): 100, ("litert", 1): 99, ("litert", 4): 97}, ("program", 1)),
        ({("program", 1): 200, ("litert", 1): 102, ("litert", 2): 100}, ("litert", 1)),
        ({("program", 1): 5}, ("program", 1)),
    ],
)
def test_the_fastest_engine_is_taken_and_of_equals_the_one_with_fewer_threads(
    times: dict[tuple[str, int], float], chosen: tuple[str, int]
) -> None:
    found = [Measured(*key, time, time, time, 9, 0) for key, time in times.items()]
    one = best(found)
    assert (one.engine, one.threads) == chosen


def test_what_goes_to_the_machine_is_python_of_2020_and_imports_nothing_else() -> None:
    for name in release.MODULES:
        ast.parse((release.ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 9))
    code = (
        "import sys, kit.runner.__main__, kit.runner.publish\n"
        "print(*{m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name for name in done.stdout.split() if not name.startswith("_")} <= {
        "boards",
        "kit",
        "numpy",
    } | ours()
    there = {f"kit/{name}" for name in ("device.py", "detect.py", "pipe_wire.py")}
    assert there <= set(release.MODULES)


def ours() -> set[str]:
    """Return what the whole kit's own __init__ modules import, which stay here."""
    code = "import sys, boards, kit\nprint(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def wait_for(true: Any) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
