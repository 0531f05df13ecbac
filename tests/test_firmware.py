"""The firmware's own sources: images, linker scripts, sizes, and each compiler for each core."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_firmware import MODEL_C, MODEL_H

import boards
import firmware
from boards.errors import UserError
from firmware.compiler import image, link_script, signing, toolchain
from firmware.compiler.elf import Elf
from kit import device, update
from kit.virtual import VirtualBoard

RUNTIME_LIMIT = 6 * 1024  # bytes of application without model and front end, on the M4
COMPILERS = [
    "zig",
    pytest.param(
        "gcc",
        marks=pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="no arm-none-eabi-gcc"),
    ),
]


@settings(max_examples=50, deadline=None)
@given(body=st.binary(min_size=1, max_size=3000), name=st.text("0123456789abcdef", min_size=1, max_size=16))
def test_an_image_is_unpacked_as_it_was_packed(body: bytes, name: str) -> None:
    packed = image.pack(body, name, 0x8000)
    header = image.unpack(packed)
    assert packed[image.HEADER_BYTES :][: len(body)] == body
    assert len(packed) == image.HEADER_BYTES + header.length
    assert header.sha256 == hashlib.sha256(packed[image.HEADER_BYTES :]).digest()
    assert header.build_id == name


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=700))
def test_nothing_else_is_an_image(data: bytes) -> None:
    with pytest.raises(UserError, match="image"):
        image.unpack(data)
    with pytest.raises(UserError, match="image"):
        image.unpack(struct.pack("<I", image.MAGIC) + data)


def test_an_image_of_another_version_is_named() -> None:
    packed = bytearray(image.pack(b"body", "id", 0))
    packed[4] = 9
    with pytest.raises(UserError, match="version 9"):
        image.unpack(bytes(packed))


@pytest.mark.parametrize("name", ["", "x" * 17, "ü"])
def test_a_build_id_has_its_bounds(name: str) -> None:
    with pytest.raises(ValueError, match=r"build id|ascii"):
        image.pack(b"body", name, 0)


def stand_in(folder: Path, board: boards.Board, kind: toolchain.Toolchain) -> tuple[bytes, bytes, Elf]:
    """Return bootloader, application body and its ELF, around a model of no size."""
    (folder / "model.h").write_text(MODEL_H)
    (folder / "model.c").write_text(MODEL_C)
    found = []
    for which, sources in (("boot", firmware.BOOT), ("app", (*firmware.APP, folder / "model.c"))):
        out = folder / f"{which}.elf"
        inputs = (*sources, *firmware.chip(board))
        script = link_script.script(board, "boot" if which == "boot" else "app")
        includes, defines = (folder, firmware.ROOT), board.defines
        if which == "boot":
            defines = {**defines, **signing.defines(signing.public())}
        toolchain.compile(inputs, includes, board, script, out, "s", defines=defines, toolchain=kind)
        found.append(Elf(out.read_bytes()))
    boot, app = found
    return (
        boot.image(board.flash_memory.origin),
        app.image(board.app_origin + image.HEADER_BYTES),
        app,
    )


@pytest.mark.parametrize("kind", COMPILERS)
@pytest.mark.parametrize("name", boards.names())
def test_every_board_builds_small_and_runs(name: str, kind: toolchain.Toolchain, tmp_path: Path) -> None:
    board = boards.load(name)
    boot, app, elf = stand_in(tmp_path, board, kind)
    assert len(boot) <= boards.BOOT_BYTES // 2
    assert board.name != "virtual-m4" or len(app) <= RUNTIME_LIMIT
    used = [part for part in elf.sections() if part.address >= board.ram_memory.origin]
    assert {part.name for part in used} >= {".stack", ".bss"}
    if board.emulator != "unicorn":
        return
    content = boot.ljust(boards.BOOT_BYTES, b"\xff") + image.pack(app, "stand-in", board.app_origin)
    with device.Device(VirtualBoard(board, content)) as running:
        import numpy as np

        assert running.info().build_id == "stand-in"
        assert running.infer(np.arange(8, dtype=np.int8)).tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
        assert running.memory().stack_high_water < 1024


@pytest.mark.parametrize("which", ["boot", "app"])
@pytest.mark.parametrize("name", boards.names())
def test_linker_scripts_keep_to_the_boards_memories(name: str, which: str, tmp_path: Path) -> None:
    board = boards.load(name)
    text = link_script.script(board, "boot" if which == "boot" else "app")
    flash, ram = board.flash_memory, board.ram_memory
    start = flash.origin if which == "boot" else board.app_origin + image.HEADER_BYTES
    size = board.boot if which == "boot" else flash.origin + flash.size - start
    assert f"ORIGIN = {start:#010x}, LENGTH = {size:#x}" in text
    assert f"ORIGIN = {ram.origin:#010x}, LENGTH = {ram.size - link_script.HANDOVER_BYTES:#x}" in text


def test_an_application_too_large_for_flash_does_not_link(tmp_path: Path) -> None:
    board = boards.load("virtual-m4")
    small = board.flash_memory.model_copy(update={"size": boards.BOOT_BYTES + 2048})
    with pytest.raises(UserError):
        stand_in(tmp_path, board.model_copy(update={"memory": {**board.memory, "flash": small}}), "zig")


def test_the_python_and_c_headers_name_the_same_numbers() -> None:
    from kit import link

    text = (firmware.ROOT / "link.h").read_text()
    for name, value in {"EAR_LINK_VERSION": link.VERSION, "EAR_LINK_BODY": link.BODY}.items():
        assert f"#define {name} {value}u" in text
    for name in ("HELLO", "DATA", "ACK", "PROBE", "ECHO"):
        assert f"EAR_{name} = {getattr(link, name)}," in text
    names = (
        "INFO",
        "LOAD",
        "INFER",
        "PROFILE",
        "STREAM_START",
        "STREAM_DATA",
        "STREAM_STOP",
        "STREAM_RESULT",
    )
    for name in (*names, "MEMORY", "RESET"):
        assert f"EAR_{name} = {getattr(device, name)}," in text
    for name in ("ERASE", "WRITE", "PAGES", "COMMIT", "IMAGES"):
        assert f"EAR_{name} = {getattr(update, name)}," in text
    fields = {field.name for field in dataclasses.fields(device.Info)}
    for name in fields - {"mode", "build_id", "resident"}:
        assert name in text


@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="qemu-system-arm is not installed")
def test_a_crash_under_qemu_names_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    board = boards.load("virtual-m55")
    text = MODEL_C.replace("memory[7 - i]", "*(volatile int8_t *)0x4F000000u")
    monkeypatch.setattr("test_firmware.MODEL_C", text)
    boot, app, _ = stand_in(tmp_path, board, "zig")
    content = boot.ljust(boards.BOOT_BYTES, b"\xff") + image.pack(app, "crash", board.app_origin)
    wire = VirtualBoard(board, content)
    with device.Device(wire) as running:
        with pytest.raises(UserError, match=r"crashed at PC 0x0000\w{4}, address 0x4f000000"):
            running.infer(np.zeros(8, np.int8))
        wire.power_cycle(boot_pin=True)
        assert device.Device(wire).info().mode == "boot"
        wire.power_cycle()
        assert device.Device(wire).info().mode == "app"
