"""Bounds-checked flatbuffer access: every offset is checked, the total of what is read is limited."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from firmware.compiler.graph import Array

MAX_VECTOR = 1 << 20  # elements of a vector that is not a buffer
WORK_PER_BYTE = 16  # elements that may be read in total, per byte of the file
SCALARS = {
    "u8": "<B",
    "i8": "<b",
    "bool": "<?",
    "u16": "<H",
    "i32": "<i",
    "u32": "<I",
    "u64": "<Q",
    "f32": "<f",
}


class BrokenError(Exception):
    """The bytes are not a flatbuffer; the text says where."""


@dataclass
class Reader:
    """The file and what is left of the reading budget: overlapping vectors cannot make the work explode."""

    data: bytes
    budget: int = field(init=False)

    def __post_init__(self) -> None:
        self.budget = WORK_PER_BYTE * len(self.data) + 4096

    def scalar(self, kind: str, position: int) -> Any:
        """Return the scalar of a kind of SCALARS at a byte position."""
        layout = SCALARS[kind]
        if position < 0 or position + struct.calcsize(layout) > len(self.data):
            raise BrokenError(f"offset {position} is outside its {len(self.data)} bytes")
        return struct.unpack_from(layout, self.data, position)[0]

    def spend(self, elements: int) -> None:
        """Take elements off the budget; BrokenError when it is used up."""
        self.budget -= elements
        if self.budget < 0:
            raise BrokenError("its vectors overlap")

    def root(self) -> Table:
        """Return the root table."""
        return self.table(self.follow(0))

    def follow(self, position: int) -> int:
        """Return the position that the offset at `position` points to."""
        offset: int = self.scalar("u32", position)
        if offset == 0:
            raise BrokenError(f"the offset at {position} is null")
        return position + offset

    def table(self, position: int) -> Table:
        """Return the table at a position, its vtable checked."""
        vtable = position - self.scalar("i32", position)
        size: int = self.scalar("u16", vtable)
        if size < 4 or size % 2 or vtable + size > len(self.data):
            raise BrokenError(f"the table at {position} has a vtable of {size} bytes")
        self.spend(1)
        return Table(self, position, vtable, size)


@dataclass(frozen=True)
class Table:
    """A table of the file; slots count from 0 in schema order."""

    reader: Reader
    position: int
    vtable: int
    vtable_size: int

    def at(self, slot: int) -> int | None:
        """Return the position of a field, None when it is absent."""
        entry = 4 + 2 * slot
        if entry + 2 > self.vtable_size:
            return None
        offset: int = self.reader.scalar("u16", self.vtable + entry)
        return self.position + offset if offset else None

    def scalar(self, slot: int, kind: str, default: Any) -> Any:
        """Return a scalar field or its default."""
        position = self.at(slot)
        return default if position is None else self.reader.scalar(kind, position)

    def child(self, slot: int) -> Table | None:
        """Return a table field, None when it is absent."""
        position = self.at(slot)
        return None if position is None else self.reader.table(self.reader.follow(position))

    def children(self, slot: int) -> list[Table]:
        """Return a vector of tables; empty when absent."""
        start, count = self._vector(slot, 4)
        return [self.reader.table(self.reader.follow(start + 4 * i)) for i in range(count)]

    def numbers(self, slot: int, dtype: str) -> Array:
        """Return a vector of numbers (a copy, little-endian dtype); empty when absent."""
        kind = np.dtype(dtype).newbyteorder("<")
        start, count = self._vector(slot, kind.itemsize)
        return (
            np.frombuffer(self.reader.data, kind, count, start).astype(dtype) if count else np.zeros(0, dtype)
        )

    def text(self, slot: int, longest: int = 200) -> str:
        """Return a string of printable characters, cut at `longest` bytes; empty when absent."""
        start, count = self._vector(slot, 1)
        raw = self.reader.data[start : start + min(count, longest)].decode("utf-8", "replace")
        return "".join(c if c.isprintable() else "?" for c in raw)

    def bytes(self, slot: int) -> memoryview:
        """Return a vector of bytes without copying; empty when absent."""
        start, count = self._vector(slot, 1, limit=len(self.reader.data))
        return memoryview(self.reader.data)[start : start + count]

    def _vector(self, slot: int, itemsize: int, limit: int = MAX_VECTOR) -> tuple[int, int]:
        position = self.at(slot)
        if position is None:
            return 0, 0
        start = self.reader.follow(position)
        count: int = self.reader.scalar("u32", start)
        if count > limit or start + 4 + count * itemsize > len(self.reader.data):
            raise BrokenError(f"a vector of {count} elements at {start} is longer than the file")
        if limit == MAX_VECTOR:
            self.reader.spend(count)
        return start + 4, count
