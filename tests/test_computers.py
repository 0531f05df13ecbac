"""Computers: every TOML loads and agrees with itself, and a wrong key is named."""

from __future__ import annotations

import pytest

import boards
from boards import computers
from boards.errors import UserError

GOOD = (computers.HERE / "pi4.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", computers.names())
def test_computer_is_sound(name: str) -> None:
    one = computers.load(name)
    assert (one.proof == "emulated") == (one.emulator != "none")
    assert (one.gpu != "") == (one.kind == "jetson")
    assert (one.machine == "wasm32") == (one.kind == "browser")
    assert (one.cores is None) == (one.clock_hz is None) == (one.ram_bytes is None), (
        "a device, or a kind of them"
    )
    assert name not in boards.names()


def test_unknown_computer_gets_a_hint() -> None:
    with pytest.raises(UserError, match="did you mean 'pi4'"):
        computers.load("pi44")


def test_a_computer_is_no_board() -> None:
    with pytest.raises(UserError, match="pi4 is a computer"):
        boards.load("pi4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("cores = 4", "cores = 0"), "cores: "),
        (GOOD.replace('kind = "linux"', 'kind = "toaster"'), "kind: "),
        (GOOD.replace("cores = 4", "corse = 4"), "corse: Extra inputs"),
        (GOOD.replace("cores = 4", "cores = "), "not TOML"),
        (GOOD + 'gpu = "cuda"\n', "gpu: "),
    ],
)
def test_wrong_key_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"boards/computers/pi4.toml: .*{message}"):
        computers.parse("pi4", text)
