"""The STM32 ports against stand-ins of their chips: clocks, baud rate, flash, bytes that come meanwhile."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from stm32_chip import APB, FLASH, Chip

import boards
from firmware.compiler import build as builds
from firmware.compiler.build import Build

MODEL = Path(__file__).parent / "corpus" / "seed_fully_connected_int8.tflite"
USART = {  # where the manuals say that each board's USART lies
    "netduinoplus2": 0x40011000,
    "nucleo-f446re": 0x40004400,
    "stm32f407g-disc1": 0x40004400,
    "disco-f746ng": 0x40011000,
    "nucleo-l4r5zi": 0x40008000,
    "nucleo-h743zi": 0x40004800,
}
STM32 = [name for name in boards.names() if boards.load(name).port.startswith("stm32")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Build]:
    folder = tmp_path_factory.mktemp("chips")
    return {
        name: builds.compile_model(MODEL.read_bytes(), boards.load(name), folder / name, name="t")
        for name in STM32
    }


def clocks(chip: Chip) -> tuple[float, float]:
    """Return the core's and the USART's clock, from what the registers mean."""
    board, hsi = chip.build.board, 64e6 if chip.build.board.port == "stm32h7" else 16e6
    hse = board.wiring.get("hse_hz", 0)
    if board.port == "stm32h7":
        if chip.rcc(0x10) & 7 != 3:
            return hsi, hsi
        source, divisors = chip.rcc(0x28), chip.rcc(0x30)
        reference = (hse if source & 3 == 2 else hsi) / (source >> 4 & 63)
        assert 2e6 <= reference <= 4e6
        vco = reference * ((divisors & 511) + 1)
        assert 192e6 <= vco <= 836e6
        core = vco / ((divisors >> 9 & 127) + 1)
        assert chip.rcc(0x18) & 15 == 8
        return core, core / 2 / APB[chip.rcc(0x1C) >> 4 & 7]
    configuration, pll = chip.rcc(8), chip.rcc(0xC if board.port == "stm32l4" else 4)
    if board.port == "stm32l4":
        if configuration & 3 != 3:
            return hsi, hsi
        assert pll & 3 == 2
        vco = hsi / ((pll >> 4 & 15) + 1) * (pll >> 8 & 127)
        assert 96e6 <= vco <= 344e6
        core = vco / (2 * ((pll >> 25 & 3) + 1))
        return core, core * 256
    if configuration & 3 != 2:
        return hsi, hsi
    reference = (hse if pll & 1 << 22 else hsi) / (pll & 63)
    assert 0.95e6 <= reference <= 2.1e6
    vco = reference * (pll >> 6 & 511)
    assert 100e6 <= vco <= 432e6
    core = vco / (2 * ((pll >> 16 & 3) + 1))
    shift = 13 if chip.usart == 0x40011000 else 10
    return core, core / APB[configuration >> shift & 7]


@pytest.mark.parametrize("name", STM32)
@pytest.mark.parametrize(("crystal", "pll"), [(True, True), (False, True), (True, False)])
def test_core_and_line_run_at_their_rates(
    name: str, crystal: bool, pll: bool, made: dict[str, Build]
) -> None:
    chip = Chip(made[name], USART[name], crystal, pll)
    core, usart = clocks(chip)
    if pll:
        assert core == chip.build.board.clock_hz
    elif chip.build.board.port == "stm32l4":
        usart *= 256
    divisor = chip.values[chip.usart + chip.family.usart["baud"]]
    off = 0.02 if pll else 0.022  # 16 MHz by 17
    assert usart / divisor == pytest.approx(chip.build.board.serial.baud, rel=off)


@pytest.mark.parametrize("name", STM32)
def test_flash_is_erased_and_programmed_by_the_manual(name: str, made: dict[str, Build]) -> None:
    chip = Chip(made[name], USART[name])
    board = chip.build.board
    words = struct.pack("<40I", *range(0x1000, 0x1028))
    source = 0x20006000  # in the stack's upper part, which is not in use
    size = board.flash_memory.size
    for address in (board.app_origin, FLASH + size // 2, FLASH + size - 512):
        page = chip.call("port_flash_page", address)
        start = address & ~(page - 1)
        chip.core.mem_write(address, b"\x00" * 64)
        assert chip.call("port_flash_erase", address) & 1
        assert bytes(chip.core.mem_read(start, page)) == b"\xff" * page
        assert chip.erased.pop() == start
        chip.core.mem_write(source, words)
        assert chip.call("port_flash_program", address, source, 40) & 1
        assert bytes(chip.core.mem_read(address, len(words))) == words
        assert chip.call("port_flash_erase", address) & 1
        assert chip.erased.pop() == start
        assert chip.call("port_flash_erase", address) & 1
        assert not chip.erased  # blank already: nothing is worn
    assert not chip.wrong


@pytest.mark.parametrize("name", STM32)
def test_bytes_that_come_while_flash_is_busy_are_kept(name: str, made: dict[str, Build]) -> None:
    chip = Chip(made[name], USART[name])
    source = 0x20006000
    chip.core.mem_write(source, bytes(range(64)))
    chip.incoming += b"while"
    assert chip.call("port_flash_program", chip.build.board.app_origin, source, 16) & 1
    heard = [chip.call("port_uart_read") for _ in range(6)]
    count = 5 - len(chip.incoming)
    assert count > 0
    assert bytes(heard[:count]) == b"while"[:count]
    assert heard[count] == 0xFFFFFFFF
    assert not chip.wrong


def test_the_stand_in_notices_what_is_wrong(made: dict[str, Build]) -> None:
    chip = Chip(made["nucleo-f446re"], USART["nucleo-f446re"])
    chip._write(None, 0x23C10, 4, 1, None)
    chip._write(None, 0x23C04, 4, 7, None)
    chip._programmed(chip.core, 0, FLASH, 4, 0xFFFFFFFF, None)
    assert len(chip.wrong) == 4
