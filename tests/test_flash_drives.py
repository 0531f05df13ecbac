"""Drives that take firmware: UF2 with its files and its touch, ST-LINK and DAPLink with their failures."""

from __future__ import annotations

import dataclasses
import os
import pty
import shutil
import struct
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serial.tools import list_ports

from boards import flashing
from boards.errors import UserError
from boards.flashing import MassStorage, Uf2
from firmware.compiler.build import Build, load
from kit import flash, serial_port
from kit.flash import drives, intel_hex, mass_storage, touch, uf2, uf2_file, whole

RP2040 = 0xE48BFF56
PICO = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"
OFFICIAL = {  # uf2families.json of github.com/microsoft/uf2
    "rp2040": 0xE48BFF56,
    "rp2350-arm-s": 0xE48BFF59,
    "nrf52840": 0xADA52840,
    "samd21": 0x68ED2B88,
    "samd51": 0x55114460,
    "stm32f4": 0x57755A57,
    "esp32s3": 0xC47E5767,
}


def test_families_are_the_official_ones() -> None:
    assert OFFICIAL == flashing.UF2_FAMILIES
    assert Uf2.model_fields["family"].annotation.__args__ == tuple(OFFICIAL)  # type: ignore[union-attr]


def test_a_block_is_as_the_specification_says() -> None:
    file = uf2_file.pack(bytes(range(256)) + b"end", 0x10000000, RP2040)
    assert len(file) == 1024
    for number, block in enumerate((file[:512], file[512:])):
        first, second, flags, address, count, index, total, family = struct.unpack("<8I", block[:32])
        assert (first, second, flags, family) == (0x0A324655, 0x9E5D5157, 0x2000, RP2040)
        assert block[:4] == b"UF2\n"
        assert (address, count, index, total) == (0x10000000 + 256 * number, 256, number, 2)
        assert struct.unpack("<I", block[508:]) == (0x0AB16F30,)
    assert file[32 : 32 + 256] == bytes(range(256))
    assert file[512 + 32 : 512 + 32 + 256] == b"end".ljust(256, b"\xff")


@given(data=st.binary(min_size=1, max_size=2000), page=st.integers(0, 2**24 - 1))
def test_what_is_packed_comes_back(data: bytes, page: int) -> None:
    found = uf2_file.unpack(uf2_file.pack(data, page * 256, RP2040), RP2040)
    assert list(found) == [page * 256 + at for at in range(0, len(data), 256)]
    whole_of_it = b"".join(found.values())
    assert whole_of_it[: len(data)] == data
    assert set(whole_of_it[len(data) :]) <= {0xFF}


@given(st.data())
def test_damaged_files_are_refused_or_harmless(data: st.DataObject) -> None:
    """A flipped bit in what says where data goes is seen, or leaves every other byte in its place."""
    content = bytes(range(256)) * 3
    file = bytearray(uf2_file.pack(content, 0x10000000, RP2040))
    bit = data.draw(st.integers(0, len(file) * 8 - 1))
    place = bit // 8 % 512
    file[bit // 8] ^= 1 << bit % 8
    if 32 <= place < 508 or 8 <= place < 12:  # data itself, and flags that mean nothing here
        return
    try:
        found = uf2_file.unpack(bytes(file), RP2040)
    except UserError as error:
        said = str(error)
        assert said.startswith("UF2: ")
        assert "\n" not in said
        return
    assert 12 <= place < 20, "only address and count may change the meaning unseen"
    assert len(found) == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: b"", "0 bytes"),
        (lambda file: file[:-1], "1535 bytes are no whole number"),
        (lambda file: file[:512] + file[1024:], "2 blocks for family 0xe48bff56, not all of one file"),
        (lambda file: file + file[:512], "block 3 lies over another at 0x10000000"),
        (lambda file: b"X" + file[1:], "block 0 is damaged"),
        (lambda file: file[:1535] + b"X", "block 2 is damaged"),
        (lambda file: file[:16] + struct.pack("<I", 477) + file[20:], "block 0 is damaged"),
        (lambda file: file.replace(struct.pack("<I", RP2040), bytes(4)), "0 blocks for family"),
    ],
)
def test_files_that_are_not_whole_are_named(spoil: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        uf2_file.unpack(spoil(uf2_file.pack(bytes(700), 0x10000000, RP2040)), RP2040)


def test_blocks_of_another_family_are_left_out() -> None:
    ours, theirs = uf2_file.pack(b"a" * 256, 0, RP2040), uf2_file.pack(b"b" * 256, 0, 0xADA52840)
    assert uf2_file.unpack(theirs + ours, RP2040) == {0: b"a" * 256}


@given(data=st.binary(min_size=1, max_size=200), address=st.integers(0, 2**32 - 300) | st.just(0x0800FFF0))
def test_intel_hex_means_its_data(data: bytes, address: int) -> None:
    memory, upper = {}, 0
    lines = intel_hex.pack(data, address).decode("ascii").split("\r\n")
    assert lines[-2:] == [":00000001FF", ""]
    for line in lines[:-2]:
        assert line[0] == ":"
        record = bytes.fromhex(line[1:])
        count, offset, kind = record[0], int.from_bytes(record[1:3], "big"), record[3]
        assert sum(record) % 256 == 0
        assert len(record) == count + 5
        assert offset + count <= 0x10000
        if kind == 4:
            upper = int.from_bytes(record[4:6], "big") << 16
        else:
            memory |= {upper + offset + at: byte for at, byte in enumerate(record[4:-1])}
    assert memory == {address + at: byte for at, byte in enumerate(data)}


@pytest.fixture(scope="module")
def made(tiny_build: Path) -> Build:
    return load(tiny_build)


@pytest.fixture
def pico(made: Build) -> Build:
    return with_method(made, "uf2", Uf2(family="rp2040", board_id="RPI-RP2"))


@pytest.fixture
def nucleo(made: Build) -> Build:
    return with_method(made, "mass_storage", MassStorage(labels=("NODE_L476RG",)))


def with_method(build: Build, method: str, table: Any) -> Build:
    board = build.board.model_copy(update={"kind": "mcu", "flash": (method,), method: table})
    return dataclasses.replace(build, board=board)


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder whose folders are the mounted drives; no port is plugged in, and nobody waits long."""
    folder = tmp_path / "media"
    folder.mkdir()
    table = tmp_path / "mounts"
    monkeypatch.setattr(drives, "MOUNTS", table)
    monkeypatch.setattr(drives, "BY_LABEL", tmp_path / "by-label")
    read = Path.read_text

    def now(path: Path, *more: Any, **settings: Any) -> str:
        if path == table:
            places = [str(place).replace(" ", "\\040") for place in sorted(folder.iterdir())]
            return "proc /proc proc rw 0 0\n" + "".join(f"/dev/null {at} vfat rw 0 0\n" for at in places)
        return read(path, *more, **settings)

    monkeypatch.setattr(Path, "read_text", now)
    monkeypatch.setattr(list_ports, "comports", list)
    for module, name in ((uf2, "APPEARS"), (uf2, "RESTARTS"), (whole, "APPEARS"), (touch, "APPEARS")):
        monkeypatch.setattr(module, name, 1.0)
    for module in (drives, whole, touch):
        monkeypatch.setattr(module, "LOOKS", 0.02)
    return folder


def drive(media: Path, name: str = "RPI-RP2", **files: str) -> Path:
    folder = media / name
    folder.mkdir()
    for file, text in (files or {"INFO_UF2": PICO}).items():
        (folder / f"{file}.TXT").write_text(text, newline="")
    return folder


@contextmanager
def bootloader(folder: Path, size: int) -> Iterator[list[bytes]]:
    """Take the file that is copied to a drive once it has `size` bytes, and go away with the drive."""
    taken: list[bytes] = []
    over = threading.Event()

    def live() -> None:
        while not over.is_set():
            for file in folder.glob("earkit.*"):
                if file.stat().st_size == size:
                    taken.append(file.read_bytes())
                    shutil.rmtree(folder)
                    return
            time.sleep(0.01)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join(10)


def uf2_bytes(build: Build) -> int:
    return -(-len(whole.contents(build)) // 256) * 512


def test_uf2_copies_and_looks_for_the_board(
    pico: Build, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, int, int]] = []
    monkeypatch.setattr(whole, "see", lambda build, port, number: "/dev/ttyNEW")
    with bootloader(drive(media), uf2_bytes(pico)) as taken:
        done = flash.flash(pico, None, lambda *step: seen.append(step))
    assert done == flash.Flashed("uf2", "/dev/ttyNEW")
    found = uf2_file.unpack(taken[0], RP2040)
    assert min(found) == pico.board.flash_memory.origin
    assert b"".join(found.values()).startswith(whole.contents(pico))
    assert seen[-1] == ("write", uf2_bytes(pico), uf2_bytes(pico))


def test_uf2_without_a_drive_or_with_the_wrong_ones(pico: Build, media: Path) -> None:
    with pytest.raises(UserError, match=r"no drive with INFO_UF2.TXT of RPI-RP2, and no virtual-m4 found"):
        flash.flash(pico, None)
    drive(media, "FEATHER", INFO_UF2="UF2 Bootloader\r\nBoard-ID: SAMD51J19A-Feather-M4-v0\r\n")
    (media / "unreadable").mkdir()
    still = with_method(pico, "uf2", Uf2(family="rp2040", board_id="RPI-RP2", touch=False))
    with pytest.raises(UserError, match=r"no drive with INFO_UF2.TXT of RPI-RP2: hold the boot button"):
        flash.flash(still, None)
    drive(media, "one two")
    drive(media, "two")
    with pytest.raises(UserError, match=r"2 drives may be virtual-m4 \(.*one two.*\): unplug all but one"):
        flash.flash(pico, None)


def test_uf2_drive_that_stays_or_is_full(pico: Build, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = drive(media)
    with pytest.raises(UserError, match=r"RPI-RP2 is still there 1 s after the copy: .*rp2040"):
        flash.flash(pico, None)
    assert (place / "earkit.uf2").stat().st_size == uf2_bytes(pico)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(
        UserError, match=rf"No space left on device after 0 of {uf2_bytes(pico)} bytes: unplug"
    ):
        flash.flash(pico, None)


def test_the_touch_is_1200_baud_and_brings_the_drive(
    pico: Build, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    board = SimpleNamespace(device=os.ttyname(slave), vid=0x2E8A, pid=0xA, serial_number="E66")
    monkeypatch.setattr(list_ports, "comports", lambda: [board])
    monkeypatch.setattr(touch, "PAUSE", 0.0)
    opened = serial_port.opened
    speeds: list[int] = []

    def watched(*given: Any, **settings: Any) -> Any:
        port = opened(*given, **settings)
        speeds.append(termios.tcgetattr(slave)[4])
        if speeds == [termios.B1200]:
            drive(media)
        return port

    looked: list[Any] = []
    monkeypatch.setattr(serial_port, "opened", watched)
    monkeypatch.setattr(whole, "see", lambda build, port, number: looked.append((port, number)))
    try:
        with bootloader(media / "RPI-RP2", uf2_bytes(pico)) as taken:
            flash.flash(pico, board.device)
    finally:
        os.close(master)
        os.close(slave)
    assert len(taken) == 1
    assert looked == [(board.device, "E66")]


def test_a_board_is_known_again_by_its_serial_number(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = [
        SimpleNamespace(device="/dev/ttyACM1", serial_number="B"),
        SimpleNamespace(device="/dev/ttyACM3", serial_number="A"),
        SimpleNamespace(device="/dev/ttyS0", serial_number=None),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    assert touch.serial_number("/dev/ttyACM1") == "B"
    assert touch.serial_number("/dev/ttyS0") is None
    assert touch.port_of("A") == "/dev/ttyACM3"
    assert touch.port_after("/dev/ttyACM0", "A") == "/dev/ttyACM3"
    assert touch.port_after("/dev/null", None) == "/dev/null"
    with pytest.raises(UserError, match=r"/dev/gone did not come back within 1 s of the 1200-baud touch"):
        touch.port_after("/dev/gone", None)


def test_a_probe_drive_takes_a_bin(nucleo: Build, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "see", lambda build, port, watch: port)
    drive(media, "OTHER", DETAILS="x")
    place = drive(media, "NODE_L476RG", DETAILS="Version: 0221")
    assert flash.flash(nucleo, "/dev/ttyACM0").port == "/dev/ttyACM0"
    assert (place / "earkit.bin").read_bytes() == whole.contents(nucleo)


def test_a_probe_drive_takes_a_hex(nucleo: Build, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "see", lambda build, port, watch: port)
    table = MassStorage(labels=("DAPLINK", "MICROBIT"), codes=("9904", "9905"), format="hex")
    build = with_method(nucleo, "mass_storage", table)
    other = drive(media, "DAPLINK", DETAILS="# DAPLink\r\nUnique ID: 0240000034544e45\r\n")
    with pytest.raises(UserError, match="DAPLINK belongs to a board with code 0240, virtual-m4 has 9904 or"):
        flash.flash(build, None)
    place = drive(media, "MICROBIT", DETAILS="# DAPLink\r\nUnique ID: 9904360251544e45\r\n")
    flash.flash(build, None)
    expected = intel_hex.pack(whole.contents(build), build.board.flash_memory.origin)
    assert (place / "earkit.hex").read_bytes() == expected
    assert not (other / "earkit.hex").exists()


def test_the_board_of_a_probe_is_read_from_either_file(media: Path) -> None:
    place = drive(media, "A", DETAILS="nothing")
    (place / "MBED.HTM").write_text('<meta content="0; url=http://mbed.org/device/?code=07700221A0"/>')
    assert mass_storage._code(drives.Drive(place)) == "0770"


def test_what_a_probe_says_of_its_failure_is_told(
    nucleo: Build, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = drive(media, "NODE_L476RG", FAIL="an old failure")

    def copy(*_: Any) -> None:
        (place / "FAIL.TXT").write_text("error: The interface firmware FAILED\r\ntype: target\r\n")

    monkeypatch.setattr(drives, "copy", copy)
    with pytest.raises(
        UserError, match=r"NODE_L476RG: the probe failed: error: The interface.* type: target"
    ):
        flash.flash(nucleo, None)
    monkeypatch.setattr(drives, "copy", lambda *_: None)
    with pytest.raises(
        UserError, match="no virtual-m4 found on a serial port"
    ):  # the old failure is not told
        flash.flash(nucleo, None)


def test_probe_drives_that_are_missing_unmounted_or_too_many(
    nucleo: Build, media: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"no drive called NODE_L476RG: plug the .* in by its debug port"):
        flash.flash(nucleo, None)
    (tmp_path / "by-label").mkdir()
    (tmp_path / "by-label" / "NODE_L476RG").symlink_to("/dev/sdz9")
    with pytest.raises(UserError, match="NODE_L476RG is not mounted: udisksctl mount -b /dev/sdz9"):
        flash.flash(nucleo, None)
    (tmp_path / "by-label" / "NODE_L476RG").unlink()
    drive(media, "NODE_L476RG", DETAILS="")
    (tmp_path / "elsewhere").mkdir()
    twice = with_method(nucleo, "mass_storage", MassStorage(labels=("NODE_L476RG", "NODE2")))
    drive(media, "NODE2", DETAILS="")
    with pytest.raises(UserError, match=r"2 drives may be virtual-m4 \(.*\): unplug all but one"):
        flash.flash(twice, None)


def test_labels_come_from_the_device_where_linux_tells(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "sdz"
    device.touch()
    (tmp_path / "by-label").mkdir()
    (tmp_path / "by-label" / "NODE\\x20L4").symlink_to(device)
    assert drives.Drive(tmp_path / "mnt", device).label == "NODE L4"
    assert drives.Drive(tmp_path / "mnt", tmp_path / "other").label == "mnt"


def test_a_board_that_came_back_elsewhere_is_found(
    made: Build, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its serial number where it has one; else at the port that it had."""
    tried: list[str | None] = []

    def wire(port: str | None, _: Any) -> Any:
        tried.append(port)
        raise serial_port.PortError(f"{port}: no such port")

    monkeypatch.setattr(whole, "SerialWire", wire)
    monkeypatch.setattr(whole, "APPEARS", 0.0)
    new = SimpleNamespace(device="/dev/ttyACM7", serial_number="E66")
    for ports, expected in (([new], "/dev/ttyACM7"), ([], "/dev/ttyACM0")):
        monkeypatch.setattr(list_ports, "comports", lambda ports=ports: ports)
        with pytest.raises(UserError, match=rf"{expected}: no such port"):
            whole.see(made, "/dev/ttyACM0", "E66")
    assert set(tried) == {"/dev/ttyACM7", "/dev/ttyACM0"}
