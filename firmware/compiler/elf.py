"""A small ELF32 reader: the flash image and the size of each section, without objcopy."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from boards.errors import UserError

PT_LOAD, SHT_NOBITS, SHT_SYMTAB, SHF_ALLOC = 1, 8, 2, 2
HEADER = struct.Struct("<16sHHIIIIIHHHHHH")


@dataclass(frozen=True)
class Section:
    """An allocated section: bytes at an address; `stored` when its content comes from flash."""

    name: str
    address: int
    size: int
    stored: bool


@dataclass(frozen=True)
class Elf:
    """An ELF32 little-endian file."""

    data: bytes

    def image(self, origin: int) -> bytes:
        """Return the flash content from address `origin` to the last loaded byte; gaps are 0xFF."""
        parts = [
            (load, self.data[offset : offset + size])
            for kind, offset, _, load, size, *_ in self._segments()
            if kind == PT_LOAD and size
        ]
        if not parts or min(load for load, _ in parts) < origin:
            raise UserError(f"the linked firmware does not start at {origin:#x}: check the linker script")
        image = bytearray(b"\xff" * (max(load + len(part) for load, part in parts) - origin))
        for load, part in parts:
            image[load - origin : load - origin + len(part)] = part
        return bytes(image)

    def sections(self) -> list[Section]:
        """Return the sections that take memory on the device."""
        headers = self._sections()
        strings = headers[HEADER.unpack_from(self.data)[13]]
        return [
            Section(self._text(strings[4] + name), address, size, kind != SHT_NOBITS)
            for name, kind, flags, address, _, size, *_ in headers
            if flags & SHF_ALLOC and size
        ]

    def symbols(self) -> dict[str, tuple[int, int]]:
        """Return name → (value, size) of every symbol."""
        headers = self._sections()
        found: dict[str, tuple[int, int]] = {}
        for _, kind, _, _, offset, size, link, *_ in headers:
            if kind == SHT_SYMTAB:
                for at in range(offset, offset + size, 16):
                    name, symbol, length = struct.unpack_from("<III", self.data, at)
                    found[self._text(headers[link][4] + name)] = (symbol, length)
        return found

    def _segments(self) -> list[tuple[int, ...]]:
        header = HEADER.unpack_from(self.data)
        return [struct.unpack_from("<8I", self.data, header[5] + i * header[9]) for i in range(header[10])]

    def _sections(self) -> list[tuple[int, ...]]:
        header = HEADER.unpack_from(self.data)
        return [struct.unpack_from("<10I", self.data, header[6] + i * header[11]) for i in range(header[12])]

    def _text(self, offset: int) -> str:
        return self.data[offset : self.data.index(b"\0", offset)].decode()
