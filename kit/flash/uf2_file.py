"""UF2 files: blocks of 512 bytes, each complete in itself (github.com/microsoft/uf2)."""

from __future__ import annotations

import struct

from boards.errors import UserError

BLOCK, PAYLOAD = 512, 256
FIRST, SECOND, LAST = 0x0A324655, 0x9E5D5157, 0x0AB16F30
FAMILY, NOT_MAIN_FLASH = 0x2000, 0x0001  # flags
MOST = 476  # bytes of data that a block can hold
HEAD = struct.Struct("<8I")  # FIRST, SECOND, flags, address, bytes, number, of how many, family
TAIL = struct.Struct("<I")


def pack(data: bytes, address: int, family: int) -> bytes:
    """Return the UF2 file that puts `data` at `address`, which is a multiple of 256, in whole pages."""
    if address % PAYLOAD:
        raise ValueError(f"address {address:#x} is no multiple of {PAYLOAD}")
    pages = [data[at : at + PAYLOAD].ljust(PAYLOAD, b"\xff") for at in range(0, len(data), PAYLOAD)]
    blocks = (
        HEAD.pack(FIRST, SECOND, FAMILY, address + n * PAYLOAD, PAYLOAD, n, len(pages), family)
        + page.ljust(MOST, b"\0")
        + TAIL.pack(LAST)
        for n, page in enumerate(pages)
    )
    return b"".join(blocks)


def unpack(file: bytes, family: int) -> dict[int, bytes]:
    """Return the data of each block for `family`, by address; blocks for others are left out.

    Raises:
        UserError: a block is damaged, missing, or lies over another.
    """
    if not file or len(file) % BLOCK:
        raise UserError(f"UF2: {len(file)} bytes are no whole number of {BLOCK}-byte blocks: make it again")
    found: dict[int, bytes] = {}
    numbers, totals = set(), set()
    for place in range(0, len(file), BLOCK):
        block = file[place : place + BLOCK]
        first, second, flags, address, count, number, total, kind = HEAD.unpack_from(block)
        (last,) = TAIL.unpack_from(block, BLOCK - TAIL.size)
        if (first, second, last) != (FIRST, SECOND, LAST) or count > MOST or number >= total:
            raise UserError(f"UF2: block {place // BLOCK} is damaged: make it again")
        if flags & NOT_MAIN_FLASH or not flags & FAMILY or kind != family:
            continue
        if address in found:
            raise UserError(
                f"UF2: block {place // BLOCK} lies over another at {address:#010x}: make it again"
            )
        found[address] = block[HEAD.size : HEAD.size + count]
        numbers.add(number)
        totals.add(total)
    if len(totals) != 1 or numbers != set(range(*totals)):
        raise UserError(
            f"UF2: {len(numbers)} blocks for family {family:#010x}, not all of one file: make it again"
        )
    return found
