"""Flashing over the link: whole, refused, and cut off at many places; the bootloader always answers."""

from __future__ import annotations

import dataclasses
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

import boards
from boards.errors import UserError
from firmware.compiler import image as images
from firmware.compiler.build import Build, load
from kit import device as devices
from kit import flash
from kit.device import Device
from kit.fake_link import Faults, FaultyWire
from kit.flash import serial
from kit.link import LinkError
from kit.update import COMMIT, ERASE, PAGES, PIECE, WRITE, write_image
from kit.virtual import VirtualBoard


@pytest.fixture(scope="module")
def whole(tiny_build: Path) -> Build:
    return load(tiny_build)


@pytest.fixture
def build(whole: Build, tmp_path: Path) -> Build:
    """Give a build of our own: its directory will hold the board's flash."""
    shutil.copytree(whole.path, tmp_path / "build", ignore=shutil.ignore_patterns("board.flash"))
    return dataclasses.replace(whole, path=tmp_path / "build")


def renamed(build: Build, name: str) -> Build:
    """Return the build with another id of 16 characters, signed again."""

    def image(old: bytes, offset: int) -> bytes:
        body = old[images.HEADER_BYTES :].replace(build.build_id.encode(), name.encode())
        return images.pack(body, name, build.board.app_origin + offset)

    return dataclasses.replace(
        build,
        build_id=name,
        image=image(build.image, 0),
        second=image(build.second, build.board.second_image),
    )


def empty_board(build: Build) -> VirtualBoard:
    return VirtualBoard(build.board, b"", boot=build.boot)


def test_the_verb_flashes_and_the_board_remembers(build: Build) -> None:
    seen: list[tuple[str, int, int]] = []
    flash.flash(build, None, lambda *step: seen.append(step))
    assert {stage for stage, _, _ in seen} == {"write"}
    assert all(0 < done <= total == len(build.image) for _, done, total in seen)
    assert seen[-1] == ("write", len(build.image), len(build.image))
    assert (build.path / serial.FLASH_FILE).stat().st_size == build.board.flash_memory.size
    again: list[str] = []
    with devices.open(build, None, lambda stage, *_: again.append(stage)) as device:
        assert device.info().build_id == build.build_id
    assert again == []


def test_open_flashes_a_virtual_board_that_runs_something_else(build: Build) -> None:
    flash.flash(build, None)
    other = renamed(build, "another-build-id")
    with devices.open(other, None) as device:
        assert device.info().build_id == "another-build-id"


@pytest.mark.parametrize("second", [True, False])
def test_the_verb_says_whether_there_is_a_way_back(
    build: Build, second: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from firmware.compiler import build as builds
    from kit import cli

    made = build if second else dataclasses.replace(build, second=b"")
    monkeypatch.setattr(builds, "load", lambda _: made)
    assert cli.main(["flash", str(build.path)]) == 0
    assert ("no old one to fall back to" in capsys.readouterr().out) != second


def test_a_new_image_that_does_not_answer_is_named(build: Build) -> None:
    flash.flash(build, None)
    origin = build.board.app_origin + build.board.second_image
    dead = images.pack(struct.pack("<II", 0x2000_1000, origin + 0x209) + b"\x00\xde" * 8, "dead", origin)
    broken = dataclasses.replace(build, build_id="dead", second=dead)
    with pytest.raises(
        UserError, match=rf"build dead .* does not answer .*; build {build.build_id} runs again"
    ):
        flash.flash(broken, None)


def test_a_virtual_board_has_no_port(build: Build) -> None:
    with pytest.raises(UserError, match="leave --port /dev/ttyX out"):
        flash.flash(build, "/dev/ttyX")


def test_a_dead_application_is_replaced(build: Build) -> None:
    origin = build.board.app_origin
    dead = images.pack(struct.pack("<II", 0x2000_1000, origin + 0x209) + b"\x00\xde" * 8, "dead", origin)
    with Device(VirtualBoard(build.board, build.path / serial.FLASH_FILE, boot=build.boot)) as device:
        write_image(device, dead)
    with pytest.raises(UserError, match="crashed"):
        Device(VirtualBoard(build.board, build.path / serial.FLASH_FILE))
    with devices.open(build, None) as device:
        assert device.info().build_id == build.build_id


def test_an_empty_board_stays_in_its_bootloader(build: Build) -> None:
    with Device(empty_board(build)) as device:
        assert device.info().mode == "boot"
        with pytest.raises(LinkError, match=r"no valid application.*earkit flash"):
            device.reset("app")
        assert device.info().mode == "boot"


def test_stay_and_boot_pin(build: Build) -> None:
    wire = empty_board(build)
    with Device(wire) as device:
        write_image(device, build.image)
        device.reset("app")
        device.reset("boot")
        device.reset("boot")
        device.reset("app")
        wire.power_cycle()
        assert Device(wire).info().mode == "app"
        wire.power_cycle(boot_pin=True)
        assert Device(wire).info().mode == "boot"
        wire.power_cycle()
        assert Device(wire).info().mode == "app"


def test_flashing_over_a_bad_line(build: Build) -> None:
    wire = FaultyWire(empty_board(build), Faults(loss=0.05, damage=0.05, repeat=0.05, noise=0.05), 4)
    with Device(wire) as device:
        write_image(device, build.image)
        device.reset("app")
        assert device.info().build_id == build.build_id


@pytest.mark.parametrize("place", [0, 4, 8, 12, 16, 60, 70, 130, images.HEADER_BYTES, -1])
def test_a_damaged_image_is_refused_before_anything_is_erased(build: Build, place: int) -> None:
    damaged = bytearray(build.image)
    damaged[place] ^= 1
    wire = empty_board(build)
    with Device(wire) as device:
        before = wire.flash_contents()
        with pytest.raises(UserError, match=r"image"):
            write_image(device, bytes(damaged))
        assert wire.flash_contents() == before


def test_the_bootloader_itself_refuses_a_wrong_sha256(build: Build) -> None:
    header = build.image[: images.USED_BYTES]
    other = images.pack(build.image[images.HEADER_BYTES :][::-1], build.build_id, build.board.app_origin)
    for wrong, says in (
        (other[: images.USED_BYTES], "does not match its SHA-256"),
        (bytes(images.USED_BYTES), "out of range"),
        (header[:70] + bytes([header[70] ^ 1]) + header[71:], "another key has signed"),
        (header[:50] + b"x" + header[51:], "another key has signed"),
    ):
        with Device(empty_board(build)) as device:
            write_body(device, build)
            with pytest.raises(UserError, match=says):
                device.call(COMMIT, bytes(4) + wrong)
            with pytest.raises(LinkError, match="no valid application"):
                device.reset("app")


def write_body(device: Device, build: Build) -> None:
    end = 0
    while end < len(build.image):
        end = sum(struct.unpack("<II", device.call(ERASE, struct.pack("<I", end))))
    for offset in range(images.HEADER_BYTES, len(build.image), PIECE):
        device.post(WRITE, struct.pack("<I", offset) + build.image[offset : offset + PIECE])


def test_a_flipped_bit_in_flash_keeps_the_application_from_starting(build: Build) -> None:
    content = bytearray(build.boot.ljust(boards.BOOT_BYTES, b"\xff") + build.image)
    content[boards.BOOT_BYTES + 2000] ^= 4
    with Device(VirtualBoard(build.board, bytes(content))) as device:
        assert device.info().mode == "boot"


def test_the_bootloader_tells_what_its_pages_hold(build: Build) -> None:
    import zlib

    data = np.random.default_rng(0).bytes(5000)
    content = build.boot.ljust(boards.BOOT_BYTES, b"\xff") + data
    with Device(VirtualBoard(build.board, content)) as device:
        for start, length in ((0, 5000), (100, 300), (4000, 200), (4096, 904), (0, 0)):
            answer = device.call(PAGES, struct.pack("<II", start, length))
            found = list(struct.iter_unpack("<II", answer))
            ends = (
                [min(start + length, 4096), start + length]
                if start < 4096 < start + length
                else [start + length]
            )
            pieces = [data[at:end] for at, end in zip([start, *ends], ends, strict=False) if end > at]
            assert found == [(len(piece), zlib.crc32(piece)) for piece in pieces]


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (ERASE, struct.pack("<I", 2**31), "out of range"),
        (ERASE, b"\0", "out of range"),
        (PAGES, struct.pack("<II", 0, 2**32 - 1), "out of range"),
        (PAGES, struct.pack("<II", 2**32 - 1, 1), "out of range"),
        (COMMIT, b"\0" * 10, "out of range"),
        (COMMIT, b"\xff" * 200, "out of range"),
        (devices.INFER, b"", "does not know"),
    ],
)
def test_the_bootloader_refuses_nonsense(build: Build, command: int, arguments: bytes, says: str) -> None:
    with Device(empty_board(build)) as device, pytest.raises(UserError, match=says):
        device.call(command, arguments)


@pytest.mark.parametrize("offset", [0, 511, 514, 2**32 - 4, 2**31])
def test_the_bootloader_writes_nowhere_else(build: Build, offset: int) -> None:
    wire = empty_board(build)
    with Device(wire) as device:
        before = wire.flash_contents()
        device.post(WRITE, struct.pack("<I", offset) + bytes(8))
        device.info()
        assert wire.flash_contents() == before


def test_an_image_too_large_is_refused(build: Build) -> None:
    huge = images.pack(bytes(build.board.app_size), "huge", build.board.app_origin)
    with Device(empty_board(build)) as device, pytest.raises(UserError, match=r"image of \d+ bytes"):
        write_image(device, huge)


def test_a_real_board_with_another_build_is_not_flashed_unasked(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = dataclasses.replace(build, board=build.board.model_copy(update={"kind": "mcu"}))
    monkeypatch.setattr(serial, "connect", lambda *_: Device(empty_board(build)))
    with pytest.raises(UserError, match=r"runs its bootloader.*earkit flash"):
        devices.open(real, "/dev/ttyX")


def test_every_method_that_a_board_names_exists() -> None:
    from importlib import import_module

    for name in boards.names():
        for method in boards.load(name).flash:
            assert callable(import_module(f"kit.flash.{method}").flash)
