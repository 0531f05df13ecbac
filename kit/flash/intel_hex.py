"""Intel HEX files: data with addresses, for probes that would put a plain file elsewhere."""

from __future__ import annotations

ROW = 16  # bytes of data in a record
DATA, END, UPPER = 0x00, 0x01, 0x04


def pack(data: bytes, address: int) -> bytes:
    """Return the file that puts `data` at `address`; the upper half of an address has its own record."""
    rows, upper, at = [], -1, 0
    while at < len(data):
        here = address + at
        if here >> 16 != upper:
            upper = here >> 16
            rows.append(_record(0, UPPER, upper.to_bytes(2, "big")))
        piece = data[at : at + min(ROW, 0x10000 - (here & 0xFFFF))]
        rows.append(_record(here & 0xFFFF, DATA, piece))
        at += len(piece)
    return "".join([*rows, _record(0, END, b"")]).encode("ascii")


def _record(offset: int, kind: int, data: bytes) -> str:
    plain = bytes((len(data),)) + offset.to_bytes(2, "big") + bytes((kind,)) + data
    return f":{plain.hex().upper()}{-sum(plain) & 0xFF:02X}\r\n"
