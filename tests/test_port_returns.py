"""Boards that take their serial port along when they are reset: it is found again, or a line says why not."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import tty
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from serial.tools import list_ports

import boards
from boards.errors import UserError
from firmware.compiler import interp
from firmware.compiler.build import Build, load
from kit import device, farm, flash, link, pipeline, port_errors, serial_port, shelf
from kit.device import Device
from kit.flash import serial as resident
from kit.serial_port import SerialWire
from kit.virtual import VirtualBoard
from tests.conftest import earkit
from tests.usb_desk import Desk, Plug

pytestmark = pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo-terminals on this system")

FLASHED = {"board": "b", "build_id": "i", "bytes": 1, "fallback": True, "method": "serial"}


@pytest.fixture(scope="module")
def build(tiny_build: Path) -> Build:
    """Give a build of a board as if it were a real one."""
    made = load(tiny_build)
    return dataclasses.replace(made, board=made.board.model_copy(update={"kind": "mcu", "emulator": "none"}))


def firmware(build: Build) -> VirtualBoard:
    """Return the emulated board with the bootloader and nothing else."""
    return VirtualBoard(boards.load(build.board.name), b"", boot=build.boot)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Desk:
    made = Desk()
    monkeypatch.setattr(list_ports, "comports", made.comports)
    monkeypatch.setattr(serial_port, "memory", lambda: tmp_path / "ports.json")
    monkeypatch.setattr(serial_port, "LOOKS", 0.02)
    return made


@pytest.fixture
def plug(build: Build, desk: Desk) -> Iterator[Plug]:
    with firmware(build) as board, desk.plugged(board, "E661") as plug:
        yield plug


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("comes", [1, 2])
def test_a_board_is_flashed_and_run_through_ports_that_go_and_come(
    build: Build, plug: Plug, comes: int, tells: bool
) -> None:
    plug.comes, plug.tells = comes, tells
    done = flash.flash(build, plug.name)
    assert plug.resets == 1  # from an empty board's bootloader into the application
    assert len(set(plug.names)) == 1 + comes
    assert done == flash.Flashed("serial", plug.name)
    x = np.random.default_rng(1).integers(
        -128, 128, build.graph.tensors[build.graph.inputs[0]].shape, np.int8
    )
    with device.open(build, done.port) as board:
        assert np.array_equal(board.infer(x), interp.run(build.graph, [x])[0].ravel())
        board.reset("boot")
        board.reset("app")
        assert board.info().build_id == build.build_id
        assert board.wire.name == plug.name
        assert np.array_equal(board.infer(x), interp.run(build.graph, [x])[0].ravel())
    assert plug.resets == 3


def test_the_raw_line_is_the_one_behind_the_reset(build: Build, plug: Plug) -> None:
    flash.flash(build, plug.name)
    with device.open(build, plug.name) as board:
        before = plug.name
        wire = board.restart()
        assert wire.name == plug.name != before
        assert wire.read(0) == b""
        assert board.greet().build_id == build.build_id


def test_the_farm_and_the_next_step_are_told_the_port_of_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str | None] = []

    def profile(build: Path, port: str | None, **_: object) -> None:
        asked.append(port)
        raise UserError("enough")

    monkeypatch.setattr(pipeline, "flash", lambda build, **_: {**FLASHED, "port": "/dev/now"})
    monkeypatch.setattr(pipeline, "profile", profile)
    monkeypatch.setattr(farm, "_compiled", lambda *_: None)
    for given in ("/dev/before", "E661", None, "emulator"):
        farm.one("name", "rpi-pico", given, "model", str(tmp_path), {})
    assert asked == ["/dev/now", "/dev/now", None, "emulator"]
    monkeypatch.setattr(shelf, "built", lambda *_: tmp_path)
    for given, told in (("/dev/before", "/dev/now"), ("E661", "E661")):
        assert earkit(capsys, "flash", "b", "--port", given)[1].endswith(
            f"next: earkit listen b --port {told}\n"
        )


def test_permissions_may_come_after_the_port(
    build: Build, plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serial

    with Device(SerialWire(plug.name, build.board)) as board:
        really, refused = serial.Serial.open, [errno.EACCES, errno.EBUSY, errno.EACCES]

        def slowly(port: Any) -> None:
            if refused:
                raise serial.SerialException(number := refused.pop(), os.strerror(number))
            really(port)

        monkeypatch.setattr(serial.Serial, "open", slowly)
        board.reset("boot")
        assert not refused
        assert board.wire.name == plug.name


def test_a_board_that_stays_away_is_told(build: Build, plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "APPEARS", 0.3)
    was, plug.comes = plug.name, 0
    with Device(SerialWire(was, build.board)) as board, pytest.raises(link.GoneError) as told:
        board.reset("boot")
    assert str(told.value) == (
        f"{was} went away when the board was reset, 0 s ago: no port has its USB serial number E661: "
        "unplug it, plug it in and repeat the command"
    )


def test_a_board_that_comes_back_twice_is_told(
    build: Build, plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_port, "APPEARS", 0.5)
    with Device(SerialWire(plug.name, build.board)) as board:
        desk.others.append(SimpleNamespace(device="/dev/ttyX", vid=1, pid=1, serial_number="E661"))
        with pytest.raises(
            link.GoneError, match=r"came back twice \(/dev/.*, /dev/.* have .*E661\): unplug one"
        ):
            board.reset("boot")


def test_boards_that_share_a_number_are_not_taken_for_each_other(
    build: Build, plug: Plug, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only other port with the number is another board's: the name alone counts."""
    monkeypatch.setattr(serial_port, "APPEARS", 0.4)
    with firmware(build) as second, desk.plugged(second, "E661") as other:
        was = plug.name
        with (
            Device(SerialWire(was, build.board)) as board,
            pytest.raises(link.GoneError, match=f"{was}.*such"),
        ):
            board.reset("boot")
        assert other.resets == 0


def test_boards_that_change_their_names_at_once_are_told_apart(build: Build, desk: Desk) -> None:
    with ExitStack() as stack:
        plugs = [
            stack.enter_context(desk.plugged(stack.enter_context(firmware(build)), number))
            for number in ("A", "B")
        ]
        wires = [stack.enter_context(Device(SerialWire(plug.name, build.board))) for plug in plugs]
        for one in wires:
            one.post(device.RESET, bytes(4))
        for one, plug in zip(wires, plugs, strict=True):
            one.link.rest(0.5)
            assert one.wire.name == plug.name
            assert one.greet().mode == "boot"


def test_a_wire_that_cannot_come_back_stays_gone() -> None:
    class Cut:
        name, live = "cut", True

        def read(self, timeout: float) -> bytes:
            raise link.GoneError("cut went away")

        def write(self, data: bytes) -> None: ...

        def close(self) -> None: ...

    for go in (link.Link(Cut()).reconnect, lambda: link.Link(Cut()).rest(0.1)):
        with pytest.raises(link.GoneError, match=r"^cut went away$"):
            go()


def test_a_board_that_takes_nothing_has_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """USB holds the host back for as long as it likes: a hang is no unplugging."""
    monkeypatch.setattr(serial_port, "PATIENCE", 0.2)
    master, other = os.openpty()
    tty.setraw(other)
    wire = SerialWire(os.ttyname(other), boards.load("virtual-m4"))
    with pytest.raises(link.NoAnswerError, match=r"has taken nothing for 0.2 s: its firmware hangs"):
        wire.write(bytes(1 << 20))
    wire.close()
    os.close(master)
    os.close(other)


def test_a_listing_that_stumbles_over_a_vanishing_port_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyserial reads an id that is gone as None, and makes a number of it."""
    stumbles = [TypeError("int() argument"), OSError(errno.ENODEV, "gone")]

    def comports() -> list[Any]:
        if stumbles:
            raise stumbles.pop()
        return [SimpleNamespace(device="/dev/a", vid=1, pid=2, serial_number="N")]

    monkeypatch.setattr(list_ports, "comports", comports)
    assert serial_port.serial_numbers() == {"/dev/a": "N"}


def test_a_port_that_goes_while_it_is_opened_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import termios

    import serial

    def going(port: Any) -> None:
        raise termios.error(errno.EIO, "Input/output error")

    monkeypatch.setattr(serial.Serial, "open", going)
    with pytest.raises(serial_port.PortError, match=r"/dev/ttyX cannot be opened \(.*Input/output"):
        serial_port.opened("/dev/ttyX", {})


@pytest.mark.parametrize(
    ("system", "raised", "says"),
    [
        ("linux", OSError(errno.EACCES, "no"), r"dialout.*2e8a.*ID_MM_DEVICE_IGNORE.*/etc/udev/rules.d/60-"),
        ("linux", OSError(errno.EBUSY, "busy"), r"is busy.*ModemManager"),
        ("darwin", OSError(errno.EACCES, "no"), r"chmod a\+rw /dev/x"),
        ("darwin", OSError(errno.EBUSY, "busy"), r"is busy: .*try again$"),
        (
            "win32",
            OSError("could not open port 'COM3': PermissionError(13, 'Access is denied.', None, 5)"),
            "busy",
        ),
        (
            "win32",
            OSError("could not open port 'COM3': FileNotFoundError(2, 'no', None, 2)"),
            "Device Manager",
        ),
        ("win32", OSError("could not open port 'COM3': OSError(22, 'semaphore')"), "cannot be opened"),
    ],
)
def test_each_system_has_its_cure(
    system: str, raised: OSError, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_errors, "SYSTEM", system)
    assert re.search(says, port_errors.explain("/dev/x", raised, "ports here: none", "2e8a"))


def test_macos_gives_the_name_that_waits_for_no_carrier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_errors, "SYSTEM", "darwin")
    assert serial_port.which("/dev/tty.usbmodem1101") == "/dev/cu.usbmodem1101"
    monkeypatch.setattr(port_errors, "SYSTEM", "linux")
    assert serial_port.which("/dev/tty.usbmodem1101") == "/dev/tty.usbmodem1101"


def test_a_board_without_a_driver_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(port_errors, "SYSTEM", "linux")
    monkeypatch.setattr(port_errors, "DEVICES", tmp_path)
    monkeypatch.setattr(list_ports, "comports", list)
    ghost = boards.load("virtual-m4").model_copy(
        update={"name": "ghost", "serial": boards.Serial(vid_pid=("1209:0001",))}
    )
    for name, vendor in (("1-1:1.0", None), ("1-1", "1209"), ("usb1", "1d6b")):
        (tmp_path / name).mkdir()
        if vendor:
            (tmp_path / name / "idVendor").write_text(vendor + "\n")
            (tmp_path / name / "idProduct").write_text("0001\n")
    with pytest.raises(
        serial_port.PortError, match=r"1209:0001 is on the USB without a port, .*modprobe cdc_acm"
    ):
        serial_port.find(ghost)
    seen = SimpleNamespace(device="/dev/a", vid=0x1209, pid=1, serial_number="")
    assert port_errors.portless(["1209:0001"], ["1209:0001"]) is None
    monkeypatch.setattr(list_ports, "comports", lambda: [seen])
    assert serial_port.find(ghost) == "/dev/a"


def test_what_a_modem_manager_asks_disturbs_nothing(build: Build) -> None:
    """Its probes of a new port: AT commands, and Qualcomm's HDLC frames (7E … 7E)."""
    asked = (b"AT\r", b"ATE0\r", b"AT+GCAP\r", b"ATI\r", b"AT+CGMM\r", b"AT+CPIN?\r", b"\x7e\x00\x78\xf0\x7e")
    with firmware(build) as wire:
        for probe in asked:
            wire.write(probe)
            wire.read(0)
        with Device(wire) as board:
            assert board.info().mode == "boot"
            resident.update(board, build, lambda *_: None)
            board.restart()
            for probe in asked:
                wire.write(probe)
                wire.read(0)
            assert board.greet().build_id == build.build_id
