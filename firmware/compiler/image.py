"""Application images: a 512-byte header with the SHA-256 of the body, then the body itself."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

from boards.errors import UserError

MAGIC = 0x4B524145  # "EARK"
VERSION = 1
HEADER_BYTES = 512
BUILD_ID_BYTES = 16
FIELDS = struct.Struct("<III32s16s")  # magic, version, body length, SHA-256 of the body, build id
USED_BYTES = FIELDS.size + 4  # the fields and their CRC-32; the rest of the header stays erased


@dataclass(frozen=True)
class Header:
    """What an image says about itself; `length` counts the bytes of the body."""

    length: int
    sha256: bytes
    build_id: str


def pack(body: bytes, build_id: str) -> bytes:
    """Return the image of `body` (vector table first): header + body, padded to 8 bytes with 0xFF.

    Raises:
        ValueError: the build id is not 1 to 16 ASCII characters.
    """
    name = build_id.encode("ascii")
    if not 0 < len(name) <= BUILD_ID_BYTES:
        raise ValueError(f"build id {build_id!r} must have 1 to {BUILD_ID_BYTES} characters")
    body += b"\xff" * (-len(body) % 8)
    fields = FIELDS.pack(MAGIC, VERSION, len(body), hashlib.sha256(body).digest(), name)
    return (fields + struct.pack("<I", zlib.crc32(fields))).ljust(HEADER_BYTES, b"\xff") + body


def unpack(image: bytes) -> Header:
    """Return the header of `image` after checking it against the body.

    Raises:
        UserError: it is no image, it was cut, or header or body was altered.
    """
    if len(image) < HEADER_BYTES or image[:4] != struct.pack("<I", MAGIC):
        raise UserError(f"not a firmware image ({len(image)} bytes): build it with `earkit compile`")
    fields = image[: FIELDS.size]
    _, version, length, digest, name = FIELDS.unpack(fields)
    if struct.pack("<I", zlib.crc32(fields)) != image[FIELDS.size : USED_BYTES]:
        raise UserError("firmware image: the header is damaged: build it again with `earkit compile`")
    if version != VERSION:
        raise UserError(f"firmware image of version {version}, this earkit knows {VERSION}: build it again")
    body = image[HEADER_BYTES : HEADER_BYTES + length]
    if len(body) != length or hashlib.sha256(body).digest() != digest:
        raise UserError(
            f"firmware image: {len(body)} of {length} body bytes do not match the SHA-256: build it again"
        )
    return Header(length, digest, name.rstrip(b"\0").decode("ascii", "replace"))
