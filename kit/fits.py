"""The table of families: the smallest device each size fits, from what its card says; nothing is built."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import boards
from boards import Board
from firmware.compiler.link_script import HANDOVER_BYTES, STATIC_BYTES
from kit import terminal
from models.registry import Card, Size

CODE_BYTES = 64 << 10  # of flash: kernels, front end, link
FLOAT_BYTES = 4
HOSTS = (  # where no microcontroller will do: bytes of float weights, half of the memory there
    ("pi, phone", 256 << 20),  # a Pi Zero 2 W has 512 MB
    ("jetson", 4 << 30),  # an Orin Nano has 8 GB
)
BEYOND = "host"
OURS = ("lite", "micro")  # sizes that nobody published weights of
COLUMNS = (
    "family",
    "task",
    "size",
    "parameters",
    "int8 size",
    "fits",
    "streaming",
    "official weights",
    "note",
)


def int8_bytes(size: Size) -> int:
    """Return the bytes of its weights in int8."""
    return size.parameters + size.frozen


def smallest(size: Size, known: Iterable[Board]) -> str:
    """Return the name of the board with the least memory that `size` fits, else a kind of host."""
    for board in sorted(known, key=_memory):
        if size.ram_bytes is not None and _holds(board, int8_bytes(size), size.ram_bytes):
            return board.name
    needed = FLOAT_BYTES * int8_bytes(size)
    return next((host for host, room in HOSTS if needed <= room), BEYOND)


def all_boards() -> list[Board]:
    """Return every board."""
    return [boards.load(name) for name in boards.names()]


def record(card: Card, known: Iterable[Board]) -> dict[str, Any]:
    """Return what a card says, and for each size what follows from it, as json types."""
    said = asdict(card)
    for size, facts in card.sizes.items():
        said["sizes"][size] |= {"int8_bytes": int8_bytes(facts), "fits": smallest(facts, known)}
    return said


def row(card: Card, size: str, known: Iterable[Board]) -> tuple[object, ...]:
    """Return a line of the table under COLUMNS."""
    facts = card.sizes[size]
    return (
        card.name,
        card.task,
        size,
        facts.parameters,
        terminal.kilobytes(int8_bytes(facts)),
        smallest(facts, known),
        card.streaming if size == "micro" else None,
        card.weights.terms if card.weights and size not in OURS else None,
        facts.note,
    )


def _memory(board: Board) -> tuple[int, int]:
    return _ram(board), board.flash_memory.size


def _ram(board: Board) -> int:
    return board.ram_memory.size + sum(memory.size for memory in board.more_ram.values())


def _holds(board: Board, weights: int, ram: int) -> bool:
    whole = ram + board.stack + HANDOVER_BYTES + STATIC_BYTES
    return whole <= _ram(board) and weights + CODE_BYTES <= board.app_size
