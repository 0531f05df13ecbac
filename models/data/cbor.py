"""CBOR (RFC 8949) as far as acquisition files need it: numbers, text, bytes, arrays, maps, tags left off."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

MOST_DEPTH = 32
UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
BREAK = 0xFF
FLOATS = {25: ">e", 26: ">f", 27: ">d"}
SIMPLES = {20: False, 21: True, 22: None, 23: None}


def decode(data: bytes) -> tuple[Any, int]:
    """Return the first item of `data` and where it ends; ValueError where it is damaged or cut short."""
    reader = _Reader(data)
    return reader.item(0), reader.at


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise ValueError(f"cut short at byte {len(self.data)}")
        self.at += count
        return self.data[self.at - count : self.at]

    def item(self, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise ValueError(f"nested deeper than {MOST_DEPTH}")
        head = self.take(1)[0]
        kind, short = head >> 5, head & 31
        if kind == SIMPLE:
            return self.simple(short)
        count = self.count(short)
        if kind == UNSIGNED and count is not None:
            return count
        if kind == NEGATIVE and count is not None:
            return -1 - count
        if kind in (BYTES, TEXT):
            return self.string(kind, count)
        if kind == ARRAY:
            return [self.item(depth + 1) for _ in self.members(count)]
        if kind == MAP:
            return self.map(count, depth)
        if kind == TAG and count is not None:
            return self.item(depth + 1)
        raise ValueError(f"byte {head:#04x} begins no item")

    def count(self, short: int) -> int | None:
        """Return a length or number; None for an item without a stated end."""
        if short < 24:
            return short
        if short < 28:
            return int.from_bytes(self.take(1 << (short - 24)), "big")
        if short == 31:
            return None
        raise ValueError(f"a length of kind {short}")

    def members(self, count: int | None) -> Iterator[None]:
        """Yield once for each member that is still to come."""
        if count is not None and count > len(self.data) - self.at:
            raise ValueError(f"{count} members in {len(self.data) - self.at} bytes")
        while count is None or count > 0:
            if count is None:
                if self.data[self.at : self.at + 1] == bytes([BREAK]):
                    self.at += 1
                    return
            else:
                count -= 1
            yield

    def map(self, count: int | None, depth: int) -> dict[Any, Any]:
        made = {}
        for _ in self.members(count):
            key = self.item(depth + 1)
            if not isinstance(key, str | int):
                raise ValueError("a key that is neither text nor a number")
            made[key] = self.item(depth + 1)
        return made

    def string(self, kind: int, count: int | None) -> str | bytes:
        if count is not None:
            whole = self.take(count)
        else:
            pieces = []
            for _ in self.members(None):
                head = self.take(1)[0]
                size = self.count(head & 31)
                if head >> 5 != kind or size is None:
                    raise ValueError("a piece of another kind in a string")
                pieces.append(self.take(size))
            whole = b"".join(pieces)
        return whole.decode() if kind == TEXT else whole

    def simple(self, short: int) -> Any:
        if short in FLOATS:
            return struct.unpack(FLOATS[short], self.take(1 << (short - 24)))[0]
        if short in SIMPLES:
            return SIMPLES[short]
        raise ValueError(f"simple value {short}")
