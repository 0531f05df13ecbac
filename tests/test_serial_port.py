"""Serial ports: by which names they are found, what they carry, and how each failure is told apart."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import boards
from kit import link, serial_port
from kit.fake_link import FakeLink


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """Give the master end of a pseudo-terminal, and the name of the other."""
    if not hasattr(os, "openpty"):
        pytest.skip("no pseudo-terminals on this system")
    master, slave = os.openpty()
    yield master, os.ttyname(slave)
    os.close(slave)
    with contextlib.suppress(OSError):
        os.close(master)


BOARD = boards.load("virtual-m4")


def test_a_serial_port_carries_the_link(terminal: tuple[int, str]) -> None:
    master, name = terminal
    fake = FakeLink(lambda message: [message[::-1]])
    stop = threading.Event()

    def pump() -> None:
        while not stop.is_set():
            if data := fake.read(0):
                os.write(master, data)
            else:
                fake.write(os.read(master, 4096))

    thread = threading.Thread(target=pump, daemon=True)
    wire = serial_port.SerialWire(name, BOARD)
    thread.start()
    under_test = link.Link(wire)
    under_test.connect()
    under_test.send(b"message")
    assert under_test.receive() == b"egassem"
    stop.set()
    wire.write(b"\0")  # wakes the thread
    thread.join(5)
    assert not thread.is_alive()
    wire.close()


def test_a_busy_port_is_named(terminal: tuple[int, str]) -> None:
    _, name = terminal
    wire = serial_port.SerialWire(name, BOARD)
    with pytest.raises(serial_port.PortError, match=r"busy.*close"):
        serial_port.SerialWire(name, BOARD)
    wire.close()


def test_a_missing_port_is_named() -> None:
    with pytest.raises(serial_port.PortError, match=r"/dev/ttyNONE: no such port .*--port"):
        serial_port.SerialWire("/dev/ttyNONE", BOARD)
    with pytest.raises(serial_port.PortError, match="cannot be opened"):
        serial_port.SerialWire("nonsense://x", BOARD)


@pytest.mark.parametrize(("number", "cure"), [(13, "dialout.*udev"), (16, "busy"), (5, "cannot be opened")])
def test_each_refusal_of_a_port_has_its_cure(number: int, cure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import serial

    def refuse(self: object) -> None:
        raise serial.SerialException(number, os.strerror(number))

    monkeypatch.setattr(serial.Serial, "open", refuse)
    with pytest.raises(serial_port.PortError, match=cure):
        serial_port.SerialWire("/dev/ttyX", BOARD)


def test_a_port_that_vanishes_is_named(terminal: tuple[int, str]) -> None:
    master, name = terminal
    wire = serial_port.SerialWire(name, BOARD)
    os.close(master)
    with pytest.raises(link.GoneError, match=r"went away.*cable"):
        link.Link(wire).connect()
    wire.close()


@pytest.mark.parametrize(
    ("seen", "says"),
    [
        ({}, "no ghost found.*none"),
        ({"/dev/a": "1209:0001", "/dev/b": "1209:0001"}, "2 boards.*--port"),
        ({"/dev/a": "ffff:0001"}, "no ghost found.*/dev/a ffff:0001"),
    ],
)
def test_ports_are_found_by_their_usb_ids(
    seen: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghost = BOARD.model_copy(update={"name": "ghost", "serial": boards.Serial(vid_pid=("1209:0001",))})
    monkeypatch.setattr(serial_port, "ports", lambda: seen)
    with pytest.raises(serial_port.PortError, match=says):
        serial_port.find(ghost)
    monkeypatch.setattr(serial_port, "ports", lambda: {**seen, "/dev/c": "1209:0001"})
    if len(seen) < 2:
        assert serial_port.find(ghost) == "/dev/c"


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Give the ports of a made-up machine, device → (USB id, serial number), and an empty memory of them."""
    seen = {"/dev/a": ("1209:0001", "A1"), "/dev/b": ("1209:0001", "B2"), "/dev/c": ("0403:6001", "")}
    monkeypatch.setattr(serial_port, "ports", lambda: {port: usb for port, (usb, _) in seen.items()})
    monkeypatch.setattr(serial_port, "serial_numbers", lambda: {port: n for port, (_, n) in seen.items()})
    monkeypatch.setattr(serial_port, "memory", lambda: tmp_path / "config" / "ports.json")
    return seen


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("name", "port"),
    [
        ("/dev/b", "/dev/b"),
        ("/dev/unplugged", "/dev/unplugged"),
        ("socket://host:1", "socket://host:1"),
        ("b2", "/dev/b"),
        ("0403:6001", "/dev/c"),
        ("emulator", "emulator"),
    ],
)
def test_a_port_has_several_names(name: str, port: str) -> None:
    assert serial_port.which(name) == port


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("name", "says"), [("1209:0001", "2 ports have.*/dev/a, /dev/b"), ("C3", "no such port.*ports here")]
)
def test_a_name_of_no_port_or_of_several_is_refused(name: str, says: str) -> None:
    with pytest.raises(serial_port.PortError, match=says):
        serial_port.which(name)


def test_a_board_is_looked_for_where_it_answered_last(plugged: dict[str, tuple[str, str]]) -> None:
    ghost = BOARD.model_copy(update={"name": "ghost", "serial": boards.Serial(vid_pid=("1209:0001",))})
    with pytest.raises(serial_port.PortError, match="2 boards may be"):
        serial_port.find(ghost)
    serial_port.remember(ghost, "/dev/b")
    serial_port.remember(ghost, "/dev/c")  # has no serial number to remember
    assert serial_port.find(ghost) == "/dev/b"
    plugged["/dev/z"] = plugged.pop("/dev/b")  # the same adapter under another name
    assert serial_port.find(ghost) == "/dev/z"
    del plugged["/dev/z"]  # stale: the only one that fits is taken
    assert serial_port.find(ghost) == "/dev/a"
    with pytest.raises(serial_port.PortError, match="no virtual-m4 found"):
        serial_port.find(BOARD)  # nothing was remembered of that one


@pytest.mark.parametrize("content", ["nonsense", "[]", '{"ghost": 7}'])
def test_a_spoilt_memory_of_ports_is_ignored(plugged: dict[str, tuple[str, str]], content: str) -> None:
    serial_port.memory().parent.mkdir()
    serial_port.memory().write_text(content)
    del plugged["/dev/b"]
    ghost = BOARD.model_copy(update={"name": "ghost", "serial": boards.Serial(vid_pid=("1209:0001",))})
    assert serial_port.find(ghost) == "/dev/a"
    serial_port.remember(ghost, "/dev/a")
    assert serial_port.find(ghost) == "/dev/a"


def reversed_over(scheme: str, serve: Callable[[socket.socket, FakeLink], object]) -> serial_port.SerialWire:
    """Have a message turned round by a board behind a network port; return the wire, closed."""
    fake = FakeLink(lambda message: [message[::-1]])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            with line:
                serve(line, fake)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        wire = serial_port.SerialWire(f"{scheme}://127.0.0.1:{server.getsockname()[1]}", BOARD)
        under_test = link.Link(wire)
        under_test.connect()
        under_test.send(b"message")
        assert under_test.receive() == b"egassem"
        wire.close()
        thread.join(5)
        assert not thread.is_alive()
    return wire


def test_a_network_port_carries_the_link() -> None:
    def pump(line: socket.socket, fake: FakeLink) -> None:
        while data := line.recv(4096):
            fake.write(data)
            line.sendall(fake.read(0))

    wire = reversed_over("socket", pump)
    with pytest.raises(serial_port.PortError, match="cannot be opened"):
        serial_port.SerialWire(wire.name, BOARD)


def test_a_remote_port_carries_the_link() -> None:
    import serial
    from serial import rfc2217

    class Telnet:
        """The far end of RFC 2217, by pyserial's own manager."""

        def __init__(self, line: socket.socket, fake: FakeLink) -> None:
            self.write = line.sendall
            manager = rfc2217.PortManager(serial.serial_for_url("loop://"), self)
            while data := line.recv(4096):
                fake.write(b"".join(manager.filter(data)))
                line.sendall(b"".join(manager.escape(fake.read(0))))

    reversed_over("rfc2217", Telnet)
