"""The STM32's ROM bootloader: our client and stm32flash write a stand-in, whose memory then boots."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_QEMU, earkit
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stm32_rom_stand_in import StandIn, Stopped

from boards import Board
from boards.errors import UserError
from boards.flashing import DfuUtil, Esptool, Stm32Rom
from firmware.compiler import build as builds
from firmware.compiler.build import Build, load
from kit import flash, pipeline
from kit.flash import an3155, stm32_rom, whole
from kit.link import Link

PAGES = [(512, 2048)]  # of an STM32L476
SECTORS = [(4, 0x4000), (1, 0x10000), (7, 0x20000)]  # of an STM32F405
TABLE = Stm32Rom(chip_id=0x415, pages=tuple(PAGES), baud=1_000_000)


def on_desk(board: Board, table: Stm32Rom = TABLE) -> Board:
    """Return the emulated board as one with a real port."""
    return board.model_copy(update={"kind": "mcu", "flash": ("stm32_rom",), "stm32_rom": table})


@pytest.fixture(scope="module")
def build(tiny_build: Path) -> Build:
    made = load(tiny_build)
    return dataclasses.replace(made, board=on_desk(made.board))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(an3155, "ANSWER", 0.4)
    monkeypatch.setattr(an3155, "ERASING", 1.0)
    monkeypatch.setattr(an3155, "QUIET", 0.02)


def with_table(build: Build, **changes: Any) -> Build:
    return dataclasses.replace(build, board=on_desk(build.board, TABLE.model_copy(update=changes)))


def test_our_client_flashes_it_and_the_board_boots_and_answers(build: Build) -> None:
    seen: list[tuple[str, int, int]] = []
    with StandIn(build.board, PAGES) as chip:
        done = flash.flash(build, chip.port, lambda *step: seen.append(step))
        assert done == flash.Flashed("stm32_rom", chip.port)
        assert chip.running
    data = whole.contents(build)
    assert chip.memory[: len(data)] == data
    assert set(chip.memory[len(data) :]) == {0xFF}
    assert chip.refused == ["command ff 00"]  # our way to see that it waits for a command
    assert list(dict.fromkeys(stage for stage, _, _ in seen)) == ["erase", "write", "verify"]
    assert seen[-1] == ("verify", len(data), len(data))


def test_the_verb_shows_the_methods_and_the_board_that_answers(
    build: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = build.board.model_copy(update={"flash": ("serial", "stm32_rom")})
    monkeypatch.setattr(builds, "load_board", lambda _: board)
    monkeypatch.setattr(Link.connect, "__defaults__", (0.5,))
    with StandIn(build.board, PAGES) as chip:
        code, out, err = earkit(capsys, "flash", build.path, "--port", chip.port, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["method"], found["build_id"], found["port"]) == ("stm32_rom", build.build_id, chip.port)
    assert err[0] == "trying serial (1 of 2)"
    assert err[1].startswith("serial failed: ")
    assert err[2] == "trying stm32_rom (2 of 2)"


def test_the_verb_takes_one_method(
    build: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = build.board.model_copy(update={"flash": ("serial", "stm32_rom")})
    monkeypatch.setattr(builds, "load_board", lambda _: board)
    with StandIn(build.board, PAGES) as chip:
        argv = ("flash", build.path, "--port", chip.port, "--method", "stm32_rom")
        assert earkit(capsys, *argv)[0] == 0
    code, _, err = earkit(capsys, "flash", build.path, "--method", "floppy")
    assert code == 1
    assert err == ["earkit: virtual-m4 is not flashed by 'floppy'; it knows: serial, stm32_rom"]


@pytest.mark.parametrize(
    ("pages", "chip", "table"),
    [
        (PAGES, {"mass_erase": False}, {}),  # refused: the pages are erased instead
        (PAGES, {}, {"mass_erase": False}),
        (SECTORS, {"extended": False, "chip_id": 0x413}, {"mass_erase": False, "chip_id": 0x413}),
        (SECTORS, {"extended": False}, {}),
        ([(8192, 128)], {"block": 128, "mass_erase": False}, {"block": 128, "mass_erase": False}),
    ],
)
def test_every_way_to_erase(
    build: Build, pages: list[tuple[int, int]], chip: dict[str, Any], table: dict[str, Any]
) -> None:
    made = with_table(build, pages=tuple(pages), **table)
    with StandIn(build.board, pages, **chip) as found:
        assert flash.flash(made, found.port).port == found.port
    if not table.get("mass_erase", chip.get("mass_erase", True)):
        assert found.erased == list(range(sum(count for count, _ in pages)))


def test_flash_before_our_own_is_left_alone(build: Build) -> None:
    """A factory bootloader in the first 16 KB: no mass erase, and only pages behind it."""
    moved = build.board.flash_memory.model_copy(update={"origin": 0x08004000, "size": 0x40000})
    table = Stm32Rom(chip_id=0x415, pages=tuple(PAGES))
    pages = list(stm32_rom._pages(table, moved.origin, moved.origin + moved.size))
    assert [number for number, _ in pages] == list(range(8, 8 + 128))
    assert pages[-1][1] == moved.origin + moved.size


@pytest.mark.parametrize(
    ("chip", "table", "message"),
    [
        ({"chip_id": 0x431}, {}, r"says that it is 0x431, virtual-m4 has 0x415: build for the board"),
        ({"protected": True}, {}, r"refuses the command: its flash is read-protected: `stm32flash -k"),
        ({"write_protected": True}, {}, r"refuses the data: its flash is write-protected: `stm32flash -u"),
    ],
)
def test_what_the_chip_refuses_is_one_line_with_the_cure(
    build: Build, chip: dict[str, Any], table: dict[str, Any], message: str
) -> None:
    with StandIn(build.board, PAGES, **chip) as found, pytest.raises(UserError, match=message) as caught:
        flash.flash(with_table(build, **table), found.port)
    assert "\n" not in str(caught.value)
    assert not found.running


def test_no_bootloader_there(build: Build) -> None:
    with StandIn(build.board, PAGES) as chip:
        chip.to_chip.fault = lambda *_: b""
        with pytest.raises(UserError, match=r"no STM32 bootloader answers.*hold BOOT0 high, press reset"):
            flash.flash(build, chip.port)
    with pytest.raises(UserError, match="no such port"):
        flash.flash(build, "/dev/no-such-port")
    with pytest.raises(UserError, match="port of its own: name that adapter with --port"):
        flash.flash(with_table(build, same_port=False), None)


def test_something_else_that_talks_all_the_time(build: Build) -> None:
    chip = StandIn(build.board, PAGES)
    os.set_blocking(chip._master, False)

    def babble() -> None:
        while not chip._stop.wait(0.001):
            with suppress(BlockingIOError):
                chip._say(b"y\x79\x1f")

    chip._rom = babble  # type: ignore[method-assign]
    with chip, pytest.raises(UserError, match="no STM32 bootloader answers"):
        flash.flash(build, chip.port)


@pytest.mark.parametrize("place", [3, 40, 400, 20_000])
def test_a_cable_that_is_pulled_out(build: Build, place: int) -> None:
    with StandIn(build.board, PAGES) as chip:

        def pull(index: int, byte: int) -> bytes:
            if index == place:
                os.close(chip._master)
                chip._master = os.open(os.devnull, os.O_RDWR)
                raise Stopped
            return bytes((byte,))

        chip.to_chip.fault = pull
        with pytest.raises(UserError, match=r"went away .*check the cable, plug it in again") as caught:
            flash.flash(build, chip.port)
    assert "\n" not in str(caught.value)


def test_every_failure_is_listed_with_its_cure(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    tables = {"esptool": Esptool(chip="esp32s3", offset=0), "dfu_util": DfuUtil(vid_pid="0483:df11")}
    board = build.board.model_copy(update={"flash": tuple(tables), **tables})
    told: list[str] = []
    with pytest.raises(UserError) as caught:
        flash.flash(dataclasses.replace(build, board=board), None, tell=told.append)
    esptool, dfu = "esptool is not installed: pip install esptool", "sudo apt install dfu-util"
    assert str(caught.value) == f"esptool: {esptool}; dfu_util: dfu-util is not installed: {dfu}"
    assert told == ["trying esptool (1 of 2)", f"esptool failed: {esptool}", "trying dfu_util (2 of 2)"]


def test_firmware_on_another_port_is_said_to_be_written(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole, "APPEARS", 0.1)
    with StandIn(build.board, PAGES) as chip:
        with pytest.raises(
            UserError, match=r"is written and reads back, but its firmware talks elsewhere: no "
        ):
            flash.flash(with_table(build, same_port=False), chip.port)
        assert chip.running
    data = whole.contents(build)
    assert chip.memory[: len(data)] == data


@NO_QEMU
def test_a_real_ports_firmware_boots_in_qemu(tiny_bundle: Path, tmp_path: Path) -> None:
    """The image for an STM32F405, through its ROM's protocol and sectors, runs on QEMU's."""
    pipeline.compile(tiny_bundle, "netduinoplus2", tmp_path / "build")
    made = load(tmp_path / "build")
    rom = made.board.stm32_rom
    assert rom is not None
    made = dataclasses.replace(made, board=on_desk(made.board, rom))
    with StandIn(made.board, list(rom.pages), chip_id=rom.chip_id, extended=False) as chip:
        assert flash.flash(made, chip.port).port == chip.port


def test_worn_flash_is_not_called_flashed(build: Build) -> None:
    with StandIn(build.board, PAGES) as chip:
        erase = chip._erase

        def sticking() -> None:
            erase()
            chip.memory[0x1234] = 0

        chip._erase = sticking  # type: ignore[method-assign]
        with pytest.raises(UserError, match=r"does not hold what was written at 0x08001[0-9a-f]{3}, 3 times"):
            flash.flash(build, chip.port)
        assert not chip.running


KINDS: dict[str, Callable[[int], bytes | None]] = {
    "dropped": lambda _: b"",
    "flipped": lambda byte: bytes((byte ^ 0x10,)),
    "doubled": lambda byte: bytes((byte, byte)),
    "late": lambda _: None,
}
SMALL = 1024  # bytes of the image in the fault tests; about as many go each way


@settings(max_examples=24, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    faults=st.dictionaries(st.integers(0, 1200), st.sampled_from(sorted(KINDS)), min_size=1, max_size=4),
    to_chip=st.booleans(),
)
@example(faults={21: "doubled"}, to_chip=True)  # an erase that waits for 48,000 pages
def test_a_bad_line_is_survived_or_told(
    build: Build, monkeypatch: pytest.MonkeyPatch, faults: dict[int, str], to_chip: bool
) -> None:
    """One bad byte anywhere is mended; of several, success means the right memory, all else is one line."""
    data = whole.contents(build)[:SMALL]
    with monkeypatch.context() as patch, StandIn(build.board, PAGES) as chip:
        patch.setattr(whole, "contents", lambda _: data)
        patch.setattr(whole, "see", lambda _, port: port)
        chip._run = lambda: None  # type: ignore[method-assign]
        line = chip.to_chip if to_chip else chip.to_host
        line.fault = lambda index, byte: KINDS[faults[index]](byte) if index in faults else bytes((byte,))
        said = ""
        try:
            flash.flash(build, chip.port)
        except UserError as error:
            said = str(error)
        assert "\n" not in said
        assert said or chip.memory[:SMALL] == data
        assert not said or len(faults) > 1, said


def test_stm32flash_flashes_the_same_stand_in(build: Build, tmp_path: Path) -> None:
    if shutil.which("stm32flash") is None:
        assert not os.environ.get("CI"), "stm32flash is missing: .ci/run installs it"
        pytest.skip("stm32flash is missing: apt install stm32flash")
    (tmp_path / "fw.bin").write_bytes(whole.contents(build))
    with StandIn(build.board, PAGES) as chip:
        done = subprocess.run(
            ["stm32flash", "-m", "8n1", "-w", "fw.bin", "-v", "-g", "0x08000000", chip.port],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0x0415 (STM32L4" in done.stdout
        assert whole.see(build, chip.port) == chip.port
    assert chip.refused == []
