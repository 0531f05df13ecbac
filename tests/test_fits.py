"""The smallest device that a size fits, from its card alone; weights not for products are flagged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import earkit

import boards
from kit import fits
from models import registry
from models.registry import Size

MICRO = Size(100_000, 10, "", ram_bytes=20_000)
KB, MB = 1 << 10, 1 << 20


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (MICRO, "virtual-m3"),  # 128 KB of RAM, the least
        (replace(MICRO, ram_bytes=120 * KB), "virtual-m4"),  # stack and firmware need theirs too
        (replace(MICRO, ram_bytes=300 * KB), "virtual-m55"),  # as much RAM as virtual-m33, less flash
        (replace(MICRO, ram_bytes=600 * KB), "virtual-m7"),
        (replace(MICRO, ram_bytes=700 * KB), "pi, phone"),
        (replace(MICRO, parameters=MB), "virtual-m0plus"),  # 1 MB of flash is not enough with code
        (replace(MICRO, parameters=2 * MB), "pi, phone"),
        (replace(MICRO, ram_bytes=None), "pi, phone"),
        (Size(80_000_000, 527, ""), "jetson"),
        (Size(300_000, 50, "", frozen=86_000_000), "jetson"),
        (Size(2_000_000_000, 527, ""), "host"),
    ],
)
def test_smallest(size: Size, wanted: str) -> None:
    virtual = [board for board in fits.all_boards() if board.kind == "virtual"]
    assert fits.smallest(size, virtual) == wanted


def test_every_micro_fits_a_board_and_what_is_not_for_products_is_flagged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, table, _ = earkit(capsys, "models")
    assert code == 0
    for name in registry.names():
        card = registry.card(name)
        assert fits.smallest(card.sizes["micro"], fits.all_boards()) in boards.names()
        assert card.weights is None or card.weights.commercial or card.weights.terms in table
    assert "CC BY-NC 4.0: not for products" in table
