"""Boards that talk over USB: whole images on stand-ins of their controllers, under a host that is strict."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import usb_rules
from usb_boards import CHIPS, NAMES, compiled, plugged_in
from usb_host import PACKET, Handshake, Host
from usb_wire import IN, OUT, UsbWire, enumerate_device, line_coding, line_state

import boards
from boards.errors import UserError
from firmware.compiler import interp
from firmware.compiler.build import Build
from firmware.compiler.elf import Elf
from kit import link
from kit.device import Device
from kit.flash import serial

SESSION = 77
HELLO = link.encode(link.HELLO, 0, 0, 0, struct.pack("<II", link.VERSION, SESSION))
PROBE = link.encode(link.PROBE, 9, 0, 0, session=SESSION)
TEN_MILLISECONDS = 100  # times a second


@pytest.fixture(scope="module", params=NAMES)
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    return compiled(boards.load(request.param), tmp_path_factory.mktemp("usb"))


@pytest.fixture(scope="module")
def alive(build: Build) -> Host:
    """An application that many tests talk to: whatever one leaves, the next finds a device."""
    return plugged_in(build, application=True)


@pytest.fixture
def app(alive: Host) -> Host:
    enumerate_device(alive)
    read_all(alive)
    return alive


def read_all(host: Host) -> list[bytes]:
    """Return the packets that the device has until it rests and sends none in two frames."""
    packets, silent = [], 0
    for _ in range(10_000):
        host.bus.work(2000)
        packet = host.bulk_in(IN)
        packets += [packet] if packet is not None else []
        silent = silent + 1 if packet is None and host.bus.rests else 0
        if silent == 2:
            return packets
    raise AssertionError("it never rests")


def answers(packets: list[bytes]) -> int:
    """Return how many frames of the link, each whole, the packets hold."""
    decoder = link.Decoder(SESSION)
    frames = decoder.feed(b"".join(packets))
    assert not decoder.damaged
    assert {frame.kind for frame in frames} <= {link.HELLO, link.ECHO}
    return len(frames)


def send(host: Host, data: bytes) -> None:
    for at in range(0, len(data), PACKET):
        while not host.bulk_out(OUT, data[at : at + PACKET]):
            host.run()


def test_there_is_a_stand_in_for_every_board() -> None:
    assert {boards.load(name).port for name in NAMES} == set(CHIPS)


@pytest.mark.parametrize("application", [False, True], ids=["boot", "app"])
def test_it_says_what_the_rules_want(build: Build, application: bool) -> None:
    host = plugged_in(build, application=application)
    device, configuration = enumerate_device(host)
    usb_rules.check_device(device)
    usb_rules.check_configuration(configuration)
    assert build.board.usb is not None
    vendor, product = struct.unpack_from("<HH", device, 8)
    assert f"{vendor:04x}:{product:04x}" == build.board.usb.id
    strings = [host.control(struct.pack("<BBBBHH", 0x80, 6, i, 3, 0x409, 255)) for i in (0, *device[14:17])]
    languages, maker, title, number = (string or b"" for string in strings)
    assert languages == b"\x04\x03\x09\x04"
    assert usb_rules.text(maker) == "earkit"
    assert usb_rules.text(title) == build.board.title
    assert usb_rules.text(number) == host.bus.serial_number
    assert host.bus.wrong == []


def test_it_sends_no_more_than_was_asked_for(app: Host) -> None:
    whole = app.control(bytes.fromhex("800600020000FF00"))
    assert whole is not None
    for length in range(80):
        assert app.control(struct.pack("<BBHHH", 0x80, 6, 0x200, 0, length)) == whole[:length]
    assert app.bus.wrong == []


def test_a_string_of_a_whole_packet_has_an_end(build: Build, tmp_path: Path) -> None:
    text = (boards.HERE / f"{build.board.name}.toml").read_text(encoding="utf-8")
    title = "t" * 31  # and two bytes before it
    board = boards.parse(
        build.board.name, text.replace(f'title = "{build.board.title}"', f'title = "{title}"')
    )
    host = plugged_in(compiled(board, tmp_path), application=True)
    enumerate_device(host)
    found = host.control(struct.pack("<BBHHH", 0x80, 6, 0x302, 0x409, 255))
    assert found is not None
    assert usb_rules.text(found) == title


def test_it_takes_an_update_and_infers(build: Build) -> None:
    host = plugged_in(build, application=False)
    wire = UsbWire(host)
    with Device(wire, "emulated", build.board.clock_hz) as device:
        assert device.info().mode == "boot"
        serial.update(device, build, lambda *_: None)
        assert device.info().build_id == build.build_id
        rng = np.random.default_rng(3)
        shape = build.graph.tensors[build.graph.inputs[0]].shape
        for _ in range(3):
            x = rng.integers(-128, 128, shape, np.int8)
            assert np.array_equal(device.infer(x), interp.run(build.graph, [x])[0].ravel())
        device.reset("boot")
        assert device.info().mode == "boot"
    chip = host.bus
    assert wire.connections == 3  # bootloader, application, bootloader: the port went away each time
    assert len(chip.gaps) == 2
    assert min(chip.gaps) >= build.board.clock_hz // TEN_MILLISECONDS
    assert chip.wrong == []


def test_a_bootloader_that_starts_an_application_is_never_on_the_bus(build: Build) -> None:
    chip = plugged_in(build, application=True).bus
    assert chip.attaches == 1
    assert build.board.app_origin <= chip.attached_from < build.board.app_origin + build.board.app_size
    assert chip.wrong == []


def test_an_application_leaves_the_bus_that_another_bootloader_was_on(build: Build) -> None:
    chip = plugged_in(build, application=True).bus
    chip.restart_attached()
    chip.work()
    assert chip.attaches == 3  # its first start, the other bootloader, the application anew
    assert chip.gaps[-1] >= build.board.clock_hz // TEN_MILLISECONDS
    assert chip.wrong == []


class CutError(Exception):
    """The bus was reset here."""


class CutHost(Host):
    """A host whose enumeration ends at one token."""

    def __init__(self, host: Host, tokens: int) -> None:
        super().__init__(host.bus)
        self.tokens = tokens

    def run(self) -> None:
        self.tokens -= 1
        if self.tokens < 0:
            raise CutError
        super().run()


def test_the_bus_may_be_reset_at_every_stage(app: Host) -> None:
    for tokens in range(60):
        try:
            enumerate_device(CutHost(app, tokens), address=tokens + 1)
        except CutError:
            continue
        break
    else:
        raise AssertionError("no enumeration came to its end")
    assert tokens > 12
    enumerate_device(app)
    send(app, HELLO)
    assert answers(read_all(app)) == 1
    assert app.bus.wrong == []


def test_the_host_may_go_on_with_another_request_at_any_token(app: Host) -> None:
    request = bytes.fromhex("8006000200004300")  # two packets
    for tokens in range(8):
        for _ in range(2):
            try:
                cut = CutHost(app, tokens)
                cut.address = app.address
                cut.control(request)
            except CutError:
                continue
        answer = app.control(request)
        assert answer is not None
        assert len(answer) == 67
    assert app.bus.wrong == []


def test_what_finds_no_room_waits_on_the_bus(app: Host) -> None:
    """The program works: only its interrupts run. Nothing that was taken is lost."""
    count = 300
    data, taken = HELLO * count, 0
    while app.bulk_out(OUT, data[taken : taken + PACKET]):
        taken += PACKET
        app.bus.only_interrupts()
        assert taken < len(data), "it took all, room or not"
    assert taken > 2048
    for _ in range(50):
        app.bus.only_interrupts()
        assert not app.bulk_out(OUT, data[taken : taken + PACKET])
    found: list[bytes] = []
    while taken < len(data):
        if app.bulk_out(OUT, data[taken : taken + PACKET]):
            taken += PACKET
        app.bus.work(2000)
        packet = app.bulk_in(IN)
        found += [packet] if packet is not None else []
    assert answers(found + read_all(app)) == count
    assert app.bus.wrong == []


def test_a_full_packet_is_never_the_last(app: Host, build: Build) -> None:
    write = Elf((build.path / "firmware.elf").read_bytes()).symbols()["port_uart_write"][0]
    for length in (1, 63, 64, 65, 127, 128, 640, 1000):
        data = bytes(i * 7 % 251 for i in range(length))
        app.bus.says(write, data)
        packets = read_all(app)
        assert b"".join(packets) == data
        assert [len(packet) for packet in packets] == [PACKET] * (length // PACKET) + [length % PACKET]
    for pieces in range(1, 130):  # the first goes out alone, whatever comes meanwhile together
        for _ in range(pieces):
            app.bus.says(write, b"x")
        packets = read_all(app)
        assert sum(map(len, packets)) == pieces
        assert len(packets[-1]) < PACKET
    assert app.bus.wrong == []


def test_a_host_that_does_not_listen_stops_nothing(app: Host) -> None:
    for _ in range(20):
        send(app, HELLO * 10)
        app.bus.work()
    assert app.control(bytes.fromhex("8000000000000200")) == b"\0\0"
    read_all(app)  # what it had kept, cut off somewhere
    send(app, b"\0" + HELLO)
    assert answers(read_all(app)) == 1
    assert app.bus.wrong == []


def test_who_opens_the_port_again_reads_nothing_old(app: Host) -> None:
    line_state(app, dtr=True)
    send(app, HELLO * 20)
    app.bus.work()
    line_state(app, dtr=False)
    line_state(app, dtr=True)
    assert sum(map(len, read_all(app))) <= PACKET  # the packet that was under way
    send(app, HELLO)
    assert answers(read_all(app)) == 1


def test_the_line_keeps_what_was_set(app: Host) -> None:
    get = bytes.fromhex("A121000000000700")
    assert app.control(get) == struct.pack("<IBBB", 115_200, 0, 0, 8)
    line_coding(app, 460_800)
    assert app.control(get) == struct.pack("<IBBB", 460_800, 0, 0, 8)
    enumerate_device(app)
    assert app.control(get) == struct.pack("<IBBB", 115_200, 0, 0, 8)


def test_endpoints_halt_and_go_on(app: Host) -> None:
    for endpoint in (OUT, IN, 0x81):
        status = struct.pack("<BBHHH", 0x82, 0, 0, endpoint, 2)
        assert app.control(struct.pack("<BBHHH", 2, 3, 0, endpoint, 0)) == b""
        assert app.control(status) == b"\1\0"
        number, to_host = endpoint & 15, bool(endpoint & 0x80)
        token: Handshake | None = (
            app.bus.token_in(app.address, number)
            if to_host
            else app.bus.token_out(app.address, number, toggle=False, data=b"x")
        )
        assert token == "stall"
        assert app.control(struct.pack("<BBHHH", 2, 1, 0, endpoint, 0)) == b""
        assert app.control(status) == b"\0\0"
    app.toggles = {}  # each begins with DATA0 again
    send(app, b"\0" + HELLO)
    assert answers(read_all(app)) == 1
    send(app, HELLO)
    app.bus.work()  # a packet waits, with DATA1
    assert app.control(struct.pack("<BBHHH", 2, 1, 0, IN, 0)) == b""
    app.toggles.pop(IN)
    assert answers(read_all(app)) == 1
    assert app.bus.wrong == []


@pytest.mark.parametrize(
    "setup",
    [
        "8006000600000A00",  # a device qualifier: it has one speed
        "80060F0000000500",  # device descriptor 15
        "8006EE030904FF00",  # a string that Microsoft asks for
        "0003010000000000",  # remote wake-up
        "0009020000000000",  # configuration 2
        "010B010000000000",  # alternate setting 1
        "810A000002000100",  # interface 2
        "8200000003000200",  # endpoint 3
        "8000000000000200".replace("8000", "800C"),  # SYNCH_FRAME of a device
        "2123000000000000",  # a break
        "2120000000000600",  # a line coding too short
        "2120000001000700",  # of the other interface
        "C000000000000400",  # a vendor's
    ],
)
def test_what_it_has_not_it_refuses(app: Host, setup: str) -> None:
    assert app.control(bytes.fromhex(setup)) is None
    assert app.control(bytes.fromhex("8008000000000100")) == b"\1"
    assert app.bus.wrong == []


def test_a_touch_leads_to_our_bootloader_and_another_to_the_chips(build: Build) -> None:
    host = plugged_in(build, application=True)
    chip = host.bus
    enumerate_device(host)
    line_state(host, dtr=True)
    line_state(host, dtr=False)
    line_coding(host, 1200)
    line_state(host, dtr=True)
    assert (chip.resets, chip.bootsel) == (0, 0)
    line_state(host, dtr=False)
    chip.work()
    assert (chip.resets, chip.bootsel) == (1, 0)
    with Device(UsbWire(host), "emulated", build.board.clock_hz) as device:
        assert device.info().mode == "boot"
    line_coding(host, 1200)
    line_state(host, dtr=False)
    chip.work()
    assert (chip.resets, chip.bootsel) == (2, 1)
    assert min(chip.gaps) >= build.board.clock_hz // TEN_MILLISECONDS
    assert chip.wrong == []


def test_the_id_must_find_its_port(build: Build) -> None:
    text = (boards.HERE / f"{build.board.name}.toml").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"usb\.id: 1234:5678 is not in serial\.vid_pid"):
        boards.parse("x", text.replace('\nid = "', '\nid = "1234:5678" #'))
    with pytest.raises(UserError, match="title: 70 characters: USB tells at most 63"):
        boards.parse("x", text.replace(f'title = "{build.board.title}"', f'title = "{"t" * 70}"'))
