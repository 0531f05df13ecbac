"""Ports to real chips: images laid out as each chip wants; what QEMU models boots, talks and computes."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import earkit

import boards
from boards.errors import UserError
from firmware.compiler import build as builds
from firmware.compiler import image, interp
from firmware.compiler.build import Build
from firmware.compiler.elf import Elf
from kit import device, pipeline
from kit.flash import serial

MODEL = Path(__file__).parent / "corpus" / "seed_fully_connected_int8.tflite"
REAL = [name for name in boards.names() if boards.load(name).kind == "mcu"]
QEMU = [name for name in REAL if boards.load(name).emulator == "qemu"]
NO_QEMU = pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="needs qemu-system-arm")
VECTORS = 16  # of the core, before the chip's


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Build]:
    folder = tmp_path_factory.mktemp("ports")
    return {
        name: builds.compile_model(MODEL.read_bytes(), boards.load(name), folder / name, name="t")
        for name in REAL
    }


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("which", ["boot", "firmware"])
def test_an_image_is_where_its_chip_looks(name: str, which: str, made: dict[str, Build]) -> None:
    build = made[name]
    board, ram = build.board, build.board.ram_memory
    elf = Elf((build.path / f"{which}.elf").read_bytes())
    symbols = elf.symbols()
    origin = board.flash_memory.origin if which == "boot" else board.app_origin
    content, at = (build.boot, symbols["vectors"][0] - origin) if which == "boot" else (build.image, 512)
    assert symbols["vectors"][0] == origin + at
    assert symbols["vectors"][0] % 128 == 0
    stack, *handlers = struct.unpack_from("<16I", content, at)
    assert ram.origin < stack <= ram.origin + ram.size
    assert stack == ram.origin + board.stack
    assert handlers[0] == symbols["Reset_Handler"][0] | 1
    assert handlers[2] == symbols["Fault_Handler"][0] | 1
    if "interrupts" not in symbols:
        return  # of a chip whose peripherals only wake the core
    chip = struct.unpack_from(f"<{symbols['interrupts'][1] // 4}I", content, at + 4 * VECTORS)
    assert symbols["interrupts"][0] == symbols["vectors"][0] + 4 * VECTORS
    assert any(chip)
    assert all(handler == 0 or handler & 1 for handler in chip)
    for handler in filter(None, chip):
        assert origin <= handler < origin + len(content)


@pytest.mark.parametrize("name", REAL)
def test_bootloader_and_application_fit(name: str, made: dict[str, Build]) -> None:
    build = made[name]
    assert len(build.boot) <= boards.BOOT_BYTES
    assert image.unpack(build.image).build_id == build.build_id
    taken = build.sizes["ram_bytes"]["total"] + 32
    assert taken <= build.board.ram_memory.size


def test_the_rom_of_an_rp2040_finds_its_second_stage(made: dict[str, Build]) -> None:
    stage = made["rpi-pico"].boot[:256]
    checksum = 0xFFFFFFFF  # RP2040 datasheet 2.8.1.3.1: CRC-32 of MPEG-2, over the first 252 bytes
    for byte in stage[:252]:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    assert struct.unpack_from("<I", stage, 252) == (checksum,)
    elf = Elf((made["rpi-pico"].path / "boot.elf").read_bytes())
    assert struct.pack("<I", elf.symbols()["vectors"][0]) in stage


def test_the_rom_of_an_rp2350_finds_its_image_definition(made: dict[str, Build]) -> None:
    words = struct.unpack_from("<1024I", made["rpi-pico2"].boot.ljust(4096, b"\xff"))
    at = words.index(0xFFFFDED3)  # RP2350 datasheet 5.9.5: first marker, items, last item, link, last marker
    assert words[at + 1] & 0xFF == 0x42  # image type
    assert words[at + 1] >> 16 == 0x1021  # executable, secure, Arm, RP2350
    assert words[at + 2] == 0xFF | 1 << 8  # one word of items
    assert words[at + 3 : at + 5] == (0, 0xAB123579)


@pytest.mark.parametrize("name", ["rpi-pico", "rpi-pico2"])
def test_without_usb_the_link_is_the_uart(name: str, tmp_path: Path) -> None:
    text = (
        (boards.HERE / f"{name}.toml")
        .read_text(encoding="utf-8")
        .replace("[wiring]", "[wiring]\ntx = 0\nrx = 1")
    )
    board = boards.parse(name, re.sub(r"\[usb\]\n.*\n", "", text))
    build = builds.compile_model(MODEL.read_bytes(), board, tmp_path / "out", name="t")
    symbols = Elf((build.path / "firmware.elf").read_bytes()).symbols()
    assert "port_uart_write" in symbols
    assert not [symbol for symbol in symbols if "usb" in symbol]


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")
@pytest.mark.parametrize("name", REAL)
def test_gcc_builds_it_too(name: str, tmp_path: Path) -> None:
    build = builds.compile_model(
        MODEL.read_bytes(), boards.load(name), tmp_path / "out", name="t", toolchain="gcc"
    )
    assert len(build.boot) <= boards.BOOT_BYTES


@NO_QEMU
@pytest.mark.parametrize("name", QEMU)
def test_an_emulated_chip_computes_what_the_host_does(name: str, made: dict[str, Build]) -> None:
    build = made[name]
    rng = np.random.default_rng(5)
    with device.open(build, serial.EMULATOR) as board:
        assert board.info().build_id == build.build_id
        for _ in range(3):
            x = rng.integers(-128, 128, build.graph.tensors[build.graph.inputs[0]].shape, np.int8)
            counts = board.profile(x)
            assert np.array_equal(counts.output, interp.run(build.graph, [x])[0].ravel())
            assert (counts.unit, counts.origin) == ("instructions", "emulated")
            assert 300 < counts.total < 10_000
        memory = board.memory()
        assert memory.stack_intact
        assert memory.arena_intact
        board.reset("boot")
        assert board.info().app_bytes == build.board.app_size
        board.reset("app")
        assert board.info().build_id == build.build_id


@NO_QEMU
@pytest.mark.parametrize("name", [name for name in QEMU if boards.load(name).emulated_flash])
def test_an_emulated_chip_writes_its_flash(name: str, made: dict[str, Build]) -> None:
    build = made[name]
    (build.path / serial.FLASH_FILE).unlink(missing_ok=True)
    with serial.connect(build, serial.EMULATOR) as board:
        assert board.info().mode == "boot"
        serial.update(board, build, lambda *_: None)
        assert board.info().build_id == build.build_id


@pytest.mark.parametrize("name", [name for name in REAL if boards.load(name).microphone[:4] != "none"])
def test_a_board_with_a_microphone_has_its_driver(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    build = pipeline.compile(tiny_bundle, name, tmp_path / "build")
    symbols = Elf((build.path / "firmware.elf").read_bytes()).symbols()
    assert symbols["port_microphone_start"][1] > 64  # bytes: more than a refusal
    assert symbols["port_microphone_read"][1] > 32


def test_a_real_board_without_emulator_says_so(made: dict[str, Build]) -> None:
    name = next(name for name in REAL if boards.load(name).emulator == "none")
    with pytest.raises(UserError, match=f"{name} has no emulator: name its port with --port"):
        device.open(made[name], serial.EMULATOR)


@pytest.mark.parametrize("name", REAL)
def test_what_has_not_run_says_so(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    board = boards.load(name)
    assert board.proof == ("emulated" if name in QEMU else "untested on hardware")
    code, table, _ = earkit(capsys, "boards", name)
    assert code == 0
    assert board.proof in table


def test_compile_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = earkit(capsys, "compile", MODEL, "--board", "rpi-pico", "-o", tmp_path / "made")
    assert code == 0
    assert "firmware for rpi-pico, untested on hardware; next" in out
