"""The analogue microphone of RP2040 and RP2350 against a stand-in of their ADC, from the data sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import unicorn
from core_runner import CORES
from unicorn import arm_const as arm

import boards
from firmware.compiler.build import Build
from firmware.compiler.elf import Elf
from kit import pipeline

XOSC_HZ, KEPT = 12_000_000, 4096
RETURN, BUFFER = 0x20030000, 0x20030100  # RAM that the application does not use
PLACES = {  # ADC, CLK_ADC_CTRL, PADS_BANK0, IO_BANK0, the ADC's interrupt
    "rpi-pico": (0x4004C000, 0x40008060, 0x4001C000, 0x40014000, 22),
    "rpi-pico2": (0x400A0000, 0x4001006C, 0x40038000, 0x40028000, 35),
}
Samples = npt.NDArray[np.int16]


class Chip:
    """The application of a build, of which single functions are called, and an ADC."""

    def __init__(self, build: Build) -> None:
        self.adc, self.clock, self.pads, self.pins, self.interrupt = PLACES[build.board.name]
        self.symbols = Elf((build.path / "firmware.elf").read_bytes()).symbols()
        self.values: dict[int, int] = {}
        self.waiting: list[int] = []
        self.spilt = 0
        board = build.board
        self.core = core = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        core.ctl_set_cpu_model(CORES[board.core])
        core.mem_map(board.flash_memory.origin, board.flash_memory.size)
        core.mem_write(board.app_origin, build.image)
        core.mem_map(0x20000000, 0x100000)
        core.mem_map(0xE0000000, 0x100000)
        core.mmio_map(0x40000000, 0x10000000, self._read, None, self._write, None)
        core.reg_write(arm.UC_ARM_REG_SP, self.symbols["ear_stack_top"][0])

    def call(self, name: str, *arguments: int) -> int:
        for number, value in enumerate(arguments):
            self.core.reg_write(arm.UC_ARM_REG_R0 + number, value)
        self.core.reg_write(arm.UC_ARM_REG_LR, RETURN | 1)
        self.core.emu_start(self.symbols[name][0] | 1, RETURN, count=10_000_000)
        return int(self.core.reg_read(arm.UC_ARM_REG_R0))

    def hear(self, conversions: npt.NDArray[np.int64]) -> None:
        """Let the ADC convert; it asks for the handler when two values wait."""
        for start in range(0, len(conversions), 2):
            self.waiting += conversions[start : start + 2].tolist()
            self.call("adc_handler")

    def read(self, most: int) -> Samples:
        count = self.call("port_microphone_read", BUFFER, most)
        return np.frombuffer(bytes(self.core.mem_read(BUFFER, 2 * count)), np.int16)

    def _read(self, _core: Any, offset: int, _size: int, _user: Any) -> int:
        address = 0x40000000 + offset
        value = self.values.get(address, 0)
        if address == self.adc:
            return value | (value & 1) << 8
        if address == self.adc + 8:
            return value & ~(1 << 11) | (not self.waiting) << 8 | self.spilt << 11
        if address == self.adc + 0xC:
            return self.waiting.pop(0)
        return 0xFFFFFFFF if address & 0xFFF == 8 else value  # what was in reset is out of it

    def _write(self, _core: Any, offset: int, _size: int, value: int, _user: Any) -> None:
        address = 0x40000000 + offset
        self.values[address] = value
        if address == self.adc + 8 and value & 1 << 11:
            self.spilt = 0


@pytest.fixture(scope="module", params=PLACES)
def build(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Build:
    return pipeline.compile(tiny_bundle, request.param, tmp_path_factory.mktemp("adc") / "made")


def test_every_board_with_this_adc_is_here() -> None:
    assert {name for name in boards.names() if "adc" in boards.load(name).wiring} == set(PLACES)


def test_it_converts_four_times_a_sample(build: Build) -> None:
    chip = Chip(build)
    assert chip.call("port_microphone_start", 16_000) & 1
    assert chip.values[chip.clock] == 1 << 11 | 3 << 5  # on, from the crystal
    cycles = 1 + chip.values[chip.adc + 0x10] / 256
    assert cycles >= 96
    assert XOSC_HZ / cycles / 4 == 16_000
    assert chip.values[chip.pads + 4 + 4 * 26] & 0x40 == 0  # the digital input is off
    assert chip.values[chip.pins + 4 + 8 * 26] == 31  # and no function has the pin
    assert chip.values[chip.adc] >> 12 & 7 == 0
    assert chip.values[chip.adc] & 9 == 9
    enabled = int.from_bytes(chip.core.mem_read(0xE000E100 + chip.interrupt // 32 * 4, 4), "little")
    assert enabled >> chip.interrupt % 32 & 1
    chip.call("port_microphone_stop")
    assert chip.values[chip.adc] == 0


@pytest.mark.parametrize("rate", [0, 999, 31_251, 48_000])
def test_a_rate_that_it_has_not_is_refused(build: Build, rate: int) -> None:
    assert Chip(build).call("port_microphone_start", rate) & 1 == 0


def test_a_tone_comes_out_without_its_offset(build: Build) -> None:
    chip = Chip(build)
    chip.call("port_microphone_start", 16_000)
    tone = 2100 + 1500 * np.sin(2 * np.pi * 1000 * np.arange(4 * 2048) / 64_000)
    conversions = tone.round().astype(np.int64)
    chip.hear(conversions)
    level, wanted = 0, []
    for total in conversions.reshape(-1, 4).sum(axis=1):
        value = 4 * int(total) - 32_768 - (level >> 12)
        level += value
        wanted.append(min(max(value, -32_768), 32_767))
    heard = chip.read(4096)
    assert heard.tolist() == wanted
    assert chip.read(16).size == 0
    assert chip.call("port_microphone_lost") == 0
    spectrum = np.abs(np.fft.rfft(heard[-1600:] * np.blackman(1600)))
    assert spectrum[3:].argmax() + 3 == 100
    assert abs(heard[-160:].mean()) < abs(heard[:160].mean())


def test_the_oldest_go_and_are_counted(build: Build) -> None:
    chip = Chip(build)
    chip.call("port_microphone_start", 16_000)
    chip.hear(np.repeat(np.arange(KEPT + 100) % 4096, 4))
    kept = chip.read(KEPT + 200)
    assert len(kept) == KEPT
    assert chip.call("port_microphone_lost") == 100
    chip.waiting, chip.spilt = [1, 2], 1
    chip.call("adc_handler")
    assert chip.call("port_microphone_lost") == 101
    assert chip.spilt == 0
