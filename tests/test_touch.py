"""The 1200-baud touch, through our own bootloader to the chip's: ports go, come and change their names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from serial.tools import list_ports

import boards
from boards import Board
from boards.errors import UserError
from kit.flash import touch

OURS, FACTORY, CHIPS = "2e8a:000a", "2341:805a", "2341:005a"


@pytest.fixture
def board() -> Board:
    serial = boards.Serial(vid_pid=(OURS, FACTORY))
    return boards.load("virtual-m4").model_copy(update={"usb": boards.Usb(id=OURS), "serial": serial})


def port(name: str, usb: str, number: str | None = "A") -> Any:
    vendor, product = (int(part, 16) for part in usb.split(":"))
    return SimpleNamespace(device=name, vid=vendor, pid=product, serial_number=number)


class Desk:
    """Ports, and what each touch makes of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *stages: list[Any]) -> None:
        self.stages, self.touched = list(stages), list[str]()
        monkeypatch.setattr(list_ports, "comports", lambda: [*self.stages[0]])
        monkeypatch.setattr(touch, "touch", self.touch)
        monkeypatch.setattr(touch, "APPEARS", 0.3)
        monkeypatch.setattr(touch, "LOOKS", 0.02)

    def touch(self, name: str) -> None:
        assert name in [one.device for one in self.stages[0]]
        self.touched.append(name)
        if len(self.stages) > 1:
            self.stages.pop(0)


OTHER = port("/dev/other", "0403:6001", "Z")


def test_our_bootloader_is_touched_again(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """The application, then ours under another name, then the chip's under a third."""
    desk = Desk(
        monkeypatch,
        [OTHER, port("/dev/a", OURS)],
        [OTHER, port("/dev/b", OURS)],
        [OTHER, port("/dev/c", CHIPS)],
    )
    assert touch.bootloader_port(board, "/dev/a") == "/dev/c"
    assert desk.touched == ["/dev/a", "/dev/b"]


def test_a_port_that_is_slow_to_go_costs_a_touch(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    app = [port("/dev/a", OURS)]
    desk = Desk(monkeypatch, app, app, [port("/dev/a", OURS)], [port("/dev/a", CHIPS)])
    assert touch.bootloader_port(board, "/dev/a") == "/dev/a"
    assert len(desk.touched) == 3


def test_a_factory_program_goes_to_the_chips_own_at_once(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(monkeypatch, [port("/dev/a", FACTORY)], [port("/dev/b", CHIPS)])
    assert touch.bootloader_port(board, "/dev/a") == "/dev/b"
    assert desk.touched == ["/dev/a"]


def test_a_bootloader_with_a_number_of_its_own_is_the_new_port(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    Desk(monkeypatch, [OTHER, port("/dev/a", FACTORY)], [OTHER, port("/dev/b", CHIPS, "other")])
    assert touch.bootloader_port(board, "/dev/a") == "/dev/b"


def test_a_board_without_a_number_keeps_its_name(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    Desk(monkeypatch, [port("/dev/null", FACTORY, None)], [port("/dev/null", CHIPS, None)])
    assert touch.bootloader_port(board, "/dev/null") == "/dev/null"


def test_a_bootloader_that_never_comes_is_told(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(monkeypatch, [OTHER, port("/dev/a", OURS)], [OTHER])
    with pytest.raises(UserError, match=r"/dev/a did not come back within 0 s of the 1200-baud touch: press"):
        touch.bootloader_port(board, "/dev/a")
    assert desk.touched == ["/dev/a"]
    ever = Desk(monkeypatch, [port("/dev/a", OURS)])
    assert touch.until(board, "/dev/a", lambda: None) is None
    assert len(ever.touched) == touch.TOUCHES
