"""Boards: every TOML loads, its layout is sound, and a wrong key is named with its cure."""

from __future__ import annotations

import pytest

import boards
from boards.errors import UserError

VIRTUAL = {"virtual-m0plus", "virtual-m3", "virtual-m4", "virtual-m7", "virtual-m33", "virtual-m55"}


@pytest.mark.parametrize("name", boards.names())
def test_board_is_sound(name: str) -> None:
    board = boards.load(name)
    flash, ram = board.flash_memory, board.ram_memory
    assert board.app_origin % 512 == 0, "vector tables want an aligned origin"
    assert flash.origin + flash.size <= ram.origin or ram.origin + ram.size <= flash.origin
    assert board.app_origin + board.app_size == flash.origin + flash.size
    assert (board.kind == "virtual") == (board.emulator != "none")
    assert (board.core in ("cortex-m0plus", "cortex-m3")) == (board.fpu == "none")


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
