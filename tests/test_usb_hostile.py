"""Boards that talk over USB: hosts that ask for nonsense, break off, and speak while the flash is blind."""

from __future__ import annotations

import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_usb import HELLO, answers, read_all, send
from usb_boards import NAMES, compiled, plugged_in
from usb_host import PACKET, Bus, Host
from usb_nrf52 import Nrf52
from usb_wire import IN, OUT, UsbWire, enumerate_device

import boards
from firmware.compiler.build import Build
from kit.device import Device
from kit.flash import serial

ERASE = 16  # EAR_ERASE
GET_STATUS = bytes.fromhex("8000000000000200")
SETUPS = st.builds(
    struct.pack,
    st.just("<BBHHH"),
    st.sampled_from([0, 1, 2, 0x21, 0x80, 0x81, 0x82, 0xA1, 0x40, 0xC0, 0x22, 0x83]) | st.integers(0, 255),
    st.integers(0, 12) | st.sampled_from([0x20, 0x21, 0x22, 0x23]) | st.integers(0, 255),
    st.sampled_from([0, 1, 2, 0x100, 0x200, 0x300, 0x301, 0x303, 0x600]) | st.integers(0, 65535),
    st.sampled_from([0, 1, 2, 0x81, 0x82, 0x80, 0x409]) | st.integers(0, 65535),
    st.sampled_from([0, 1, 2, 7, 8, 18, 64, 67, 255]) | st.integers(0, 300),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("control"), SETUPS),
        st.tuples(st.just("break off"), SETUPS),
        st.tuples(st.just("out"), st.binary(max_size=PACKET)),
        st.tuples(st.sampled_from(["in", "reset", "enumerate"]), st.just(b"")),
    ),
    min_size=1,
    max_size=20,
)


@pytest.fixture(scope="module", params=NAMES)
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    return compiled(boards.load(request.param), tmp_path_factory.mktemp("usb"))


@pytest.fixture(scope="module")
def alive(build: Build) -> Host:
    return plugged_in(build, application=True)


def step(host: Host, what: str, data: bytes) -> None:
    length = int.from_bytes(data[6:8], "little")
    if what == "control":
        answer = host.control(data, b"" if data[0] & 0x80 else bytes(length))
        assert answer is None or len(answer) <= length
        host.toggles = {} if data[:2] == b"\0\x09" else host.toggles
    elif what == "break off":
        assert host.bus.token_setup(host.address, data)
        host.run()
    elif what == "reset":
        host.reset()
    elif what == "enumerate":
        enumerate_device(host)
    elif what == "out":
        host.bus.token_out(host.address, OUT, toggle=False, data=data)
    else:
        host.bus.token_in(host.address, IN & 15)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_a_host_asks_the_next_finds_a_device(alive: Host, steps: list[tuple[str, bytes]]) -> None:
    enumerate_device(alive)
    for what, data in steps:
        step(alive, what, data)
    enumerate_device(alive)
    read_all(alive)
    send(alive, b"\0" + HELLO)
    assert answers(read_all(alive)) == 1
    assert alive.bus.resets == 0
    assert alive.bus.wrong == []


class BusyHost(Host):
    """A host that speaks while a page is erased."""

    erases, asked = 0, False

    def __init__(self, bus: Bus) -> None:
        super().__init__(bus)
        self.early: list[bytes] = []  # packets that it took meanwhile

    def bulk_in(self, endpoint: int) -> bytes | None:
        return self.early.pop(0) if self.early else super().bulk_in(endpoint)

    def speak(self) -> None:
        self.erases += 1
        ready = super().bulk_in(IN)  # one may lie there
        self.early += [ready] if ready is not None else []
        for _ in range(3):
            assert self.bus.token_in(self.address, IN & 15) == "nak"
            assert self.bus.token_in(self.address, 0) == "nak"
        if not self.asked:
            self.asked = True
            assert self.bus.token_setup(self.address, GET_STATUS)
            assert self.bus.token_in(self.address, 0) == "nak"


def test_while_a_page_is_erased_the_bus_waits(build: Build) -> None:
    host = BusyHost(plugged_in(build, application=True).bus)
    with Device(UsbWire(host), "emulated", build.board.clock_hz) as device:
        device.reset("boot")
        filled = build.board.app_origin + build.board.second_image - build.board.flash_memory.origin
        host.bus.flash[filled : filled + 64] = bytes(64)  # what lay there must go
        host.bus.on_erase = host.speak
        serial.update(device, build, lambda *_: None)
        assert device.info().build_id == build.build_id
    assert host.erases
    assert host.bus.wrong == []


def test_a_request_of_that_time_is_answered_after_it(build: Build) -> None:
    host = BusyHost(plugged_in(build, application=True).bus)
    with Device(UsbWire(host), "emulated", build.board.clock_hz) as device:
        device.reset("boot")
        host.bus.on_erase = host.speak
        device.link.send(struct.pack("<BxxxI", ERASE, 0))
        host.run()
        assert host.erases == 1
        assert host.bus.token_in(host.address, 0) == (True, b"\0\0")
        host.run()
        assert host.bus.token_out(host.address, 0, toggle=True, data=b"") == "ack"
        host.run()
        assert device.answer(ERASE) == struct.pack("<II", 0, 4096)
        assert host.bus.wrong == []


def test_an_old_rp2040_gets_over_its_reset_on_a_busy_bus(build: Build) -> None:
    if build.board.port != "rp2040":
        pytest.skip("RP2040-E5 is not its erratum")
    host = plugged_in(build, application=True)
    chip = host.bus
    chip.revision = 1
    pin, pad = (chip.values.get(at, 0) for at in (0x4001407C, 0x4001C040))
    enumerate_device(host)
    assert (chip.values[0x4001407C], chip.values[0x4001C040]) == (pin, pad)
    with Device(UsbWire(host), "emulated", build.board.clock_hz) as device:
        assert device.info().build_id == build.build_id
    assert chip.wrong == []


def test_a_board_with_another_supply_knows_its_cable(build: Build) -> None:
    chip = plugged_in(build, application=True).bus
    if not isinstance(chip, Nrf52):
        pytest.skip("its controller has power without a cable")
    for _ in range(3):
        chip.plug(cable=False)
        chip.work()
        assert not chip.attached
        chip.plug(cable=True)
        chip.work()
        assert chip.attached
        with Device(UsbWire(Host(chip)), "emulated", build.board.clock_hz) as device:
            assert device.info().build_id == build.build_id
    chip.cable = False
    chip.power_on()
    chip.work()
    assert not chip.attached
    chip.plug(cable=True)
    chip.work()
    assert chip.attached
    assert chip.wrong == []


def test_power_may_go_and_come(build: Build) -> None:
    chip = plugged_in(build, application=True).bus
    for _ in range(3):
        chip.power_on()
        chip.work()
        with Device(UsbWire(Host(chip)), "emulated", build.board.clock_hz) as device:
            assert device.info().build_id == build.build_id
    assert chip.wrong == []
