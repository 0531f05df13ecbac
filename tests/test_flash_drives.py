"""Drives that take firmware: UF2 with its files and its touch, ST-LINK and DAPLink with their failures."""

from __future__ import annotations

import dataclasses
import os
import pty
import shutil
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from serial.tools import list_ports

import boards
from boards.errors import UserError
from boards.flashing import MassStorage, Uf2
from firmware.compiler.build import Build, load
from kit import flash, serial_port
from kit.flash import drives, intel_hex, mass_storage, touch, uf2, uf2_file, whole

RP2040 = 0xE48BFF56
PICO = "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n"


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
    for module, name in ((uf2, "RESTARTS"), (whole, "APPEARS"), (touch, "APPEARS")):
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

    def vanished(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", vanished)
        drives.copy(
            drives.Drive(place), "all.uf2", b"all", lambda *_: None
        )  # taken, whatever the system says
    assert (place / "all.uf2").read_bytes() == b"all"

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
    assert serial_port.again("/dev/ttyACM1", "A") == "/dev/ttyACM3"


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


def test_one_micro_bit_is_not_taken_for_the_other() -> None:
    tables = [boards.load(name).mass_storage for name in ("microbit", "microbit-v2")]
    assert all(table is not None and table.codes for table in tables)
    assert len({code for table in tables if table for code in table.codes}) == 6


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
