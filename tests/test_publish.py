"""Who hears of a runner's events: listeners of a WebSocket and an MQTT broker, also those that misbehave."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boards.errors import UserError
from kit.runner import publish

EVENT = {"event": "Türklingel", "probability": 0.9, "start": 1.25}


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


def test_listeners_that_read_nothing_or_speak_something_else_hold_nobody_up(
    capfd: pytest.CaptureFixture[str],
) -> None:
    client = pytest.importorskip("websocket", reason="needs websocket-client, somebody else's client")
    sink = publish.WebSocket(str(free_port()))
    with socket.create_connection(sink.address) as garbage:
        garbage.sendall(b"\x16\x03\x01" + bytes(range(256)) * 40)
        small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]
        stuck = client.create_connection(f"ws://127.0.0.1:{sink.address[1]}", timeout=20, sockopt=small)
        odd = client.create_connection(f"ws://127.0.0.1:{sink.address[1]}", timeout=20)
        wait_for(lambda: len(sink._listeners) == 2)
        odd.sock.sendall(b"\xff" * 5000)
        start = time.monotonic()
        for _ in range(2500):  # more than the kernel keeps
            sink.send({"event": "x" * 4000})
        assert time.monotonic() - start < 10
        sink.close()
        assert time.monotonic() - start < 10
        stuck.shutdown()
        odd.shutdown()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("address", ["", "x", "host:", "1:99999", "0", "mqtt://x", "9" * 5000, "h:٣x"])
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


BROKERS = (
    "broker",
    "http://x/y",
    "mqtt://",
    "",
    "mqtt://h:99999/t",
    "mqtt://h:x/t",
    "mqtt://h:0/t",
    "mqtt://[::1",
)


@pytest.mark.parametrize("address", [*BROKERS, "mqtt://a..b/t", f"mqtt://{'x' * 70}/t"])
def test_addresses_of_brokers_that_are_none(address: str) -> None:
    with pytest.raises(UserError, match="is no broker: mqtt://host:1883/topic"):
        publish.Mqtt(address)


@pytest.mark.parametrize("topic", ["a/#", "+/b", "x" * 2000])
def test_topics_that_nobody_can_be_told_under(topic: str) -> None:
    with pytest.raises(UserError, match="no topic to tell events under: leave out # and"):
        publish.broker(f"mqtt://host/{topic}")


def test_a_broker_that_turns_us_away_is_told_of(broker: int, capfd: pytest.CaptureFixture[str]) -> None:
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs mosquitto_passwd")
    said = ""

    def turned_away() -> bool:
        nonlocal said
        said += capfd.readouterr().err
        return "turns us away" in said

    sink = publish.Mqtt(f"mqtt://ear:wrong@127.0.0.1:{broker}")
    wait_for(turned_away)
    sink.send(EVENT)
    sink.close()
    assert "look at user and password; the last 1,000 events wait for it" in said
    assert said.count("turns us away") == 1


def test_an_absent_broker_stops_nothing_and_is_told_of(capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    sink = publish.Mqtt(f"mqtt://127.0.0.1:{port}")
    said: list[str] = []
    wait_for(lambda: said.append(capfd.readouterr().err) or "".join(said).endswith("\n"))
    assert "".join(said) == f"broker 127.0.0.1:{port} cannot be reached: the last 1,000 events wait for it\n"
    start = time.monotonic()
    sink.send(EVENT)
    sink.close()
    assert time.monotonic() - start < 10


def wait_for(true: Any) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
