"""Boards: every TOML loads, its layout is sound, and a wrong key is named with its cure."""

from __future__ import annotations

from typing import get_args

import pytest

import boards
from boards import flashing
from boards.errors import UserError

VIRTUAL = {"virtual-m0plus", "virtual-m3", "virtual-m4", "virtual-m7", "virtual-m33", "virtual-m55"}


@pytest.mark.parametrize("name", boards.names())
def test_board_is_sound(name: str) -> None:
    board = boards.load(name)
    flash, ram = board.flash_memory, board.ram_memory
    assert board.app_origin % 512 == 0, "vector tables want an aligned origin"
    assert flash.origin + flash.size <= ram.origin or ram.origin + ram.size <= flash.origin
    assert board.app_origin + board.app_size == flash.origin + flash.size
    assert board.emulator != "none" or board.kind == "mcu"
    assert (board.proof == "emulated") == (board.emulator != "none")
    assert (board.core in ("cortex-m0", "cortex-m0plus", "cortex-m3")) == (board.fpu == "none")


@pytest.mark.parametrize("name", boards.names())
def test_the_second_image_has_as_much_room_as_the_first(name: str) -> None:
    board = boards.load(name)
    assert 0 < board.second_image <= board.app_size - board.second_image
    start = board.app_origin + board.second_image - board.flash_memory.origin
    pages = board.stm32_rom.pages if board.stm32_rom else ()
    edges = {0}
    for count, size in pages:
        edges |= {max(edges) + size * n for n in range(1, count + 1)}
    assert start in edges if pages else start % 4096 == 0, "a page belongs to one image"


def test_virtual_boards_are_there() -> None:
    assert set(boards.names()) >= VIRTUAL


def test_unknown_board_gets_a_hint() -> None:
    with pytest.raises(UserError, match="did you mean 'virtual-m4'"):
        boards.load("virtual-m4f")


GOOD = (boards.HERE / "virtual-m4.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("flash = [", "flsh = ["), "unknown key 'flsh'; did you mean 'flash'"),
        (GOOD.replace('core = "cortex-m4"', 'core = "z80"'), "core: "),
        (GOOD.replace("[memory.ram]", "[memory.sram]"), "memory.ram"),
        (
            GOOD.replace("size = 0x100000", "size = 0x8000"),
            "bootloader alone takes 32768 B",
        ),
        (GOOD.replace("size = 0x100000", "size = -4"), "memory.flash.size"),
        ("title = ", "not TOML"),
    ],
)
def test_wrong_toml_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^boards/x\.toml: ") as caught:
        boards.parse("x", text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


ROM = "[stm32_rom]\nchip_id = 0x431\npages = [[4, 0x4000], [1, 0x10000], [7, 0x20000]]\n"
METHODS = {
    "stm32_rom": ROM,
    "uf2": '[uf2]\nfamily = "rp2040"\nboard_id = "RPI-RP2"\n',
    "mass_storage": '[mass_storage]\nlabels = ["NODE_L4R5ZI"]\n',
    "swd": '[swd]\ntarget = "stm32l4r5zitx"\n',
    "dfu_util": '[dfu_util]\nvid_pid = "0483:df11"\n',
    "esptool": '[esptool]\nchip = "esp32s3"\noffset = 0x10000\n',
    "bossac": "[bossac]\noffset = 0x4000\n",
}


def with_methods(methods: list[str], tables: str) -> str:
    return GOOD.replace('flash = ["serial"]', f"flash = {methods}") + "\n" + tables


def test_every_flash_method_has_its_table() -> None:
    board = boards.parse("x", with_methods(["serial", *METHODS], "".join(METHODS.values())))
    assert set(METHODS) == set(get_args(flashing.Method)) - {"serial"}
    for method in METHODS:
        assert getattr(board, method) is not None
        with pytest.raises(UserError, match=rf"flash lists '{method}': its table \[{method}\] is missing"):
            boards.parse("x", with_methods(["serial", method], ""))


@pytest.mark.parametrize(
    ("methods", "tables", "message"),
    [
        ([], "", "flash: "),
        (["serial", "serial"], "", "twice"),
        (["serial", "floppy"], "", "flash.1: "),
        (["serial"], METHODS["swd"], "[swd] is given: list 'swd' in flash"),
        (["stm32_rom"], ROM + "lines = 3", "unknown key 'stm32_rom.lines'"),
        (["stm32_rom"], ROM.replace("0x431", "0x1431"), "stm32_rom.chip_id: "),
        (["stm32_rom"], ROM.replace("7, ", "1, "), "pages: 262144 B of pages for 1048576 B of memory.flash"),
        (
            ["stm32_rom"],
            "[stm32_rom]\nchip_id = 0x447\nmass_erase = false",
            "needed where mass_erase = false",
        ),
        (["uf2"], '[uf2]\nfamily = "rp2041"\nboard_id = "R"', "uf2.family: "),
        (["mass_storage"], "[mass_storage]\nlabels = []", "mass_storage.labels: "),
        (["dfu_util"], '[dfu_util]\nvid_pid = "483:DF11"', "dfu_util.vid_pid: "),
    ],
)
def test_wrong_flash_methods_are_named(methods: list[str], tables: str, message: str) -> None:
    with pytest.raises(UserError, match=r"^boards/x\.toml: ") as caught:
        boards.parse("x", with_methods(methods, tables))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
