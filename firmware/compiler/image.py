"""Application images: a signed 512-byte header with the SHA-256 of the body, then the body itself."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

from boards.errors import UserError
from firmware.compiler import signing

MAGIC = 0x4B524145  # "EARK"
VERSION = 2
HEADER_BYTES = 512
BUILD_ID_BYTES = 16
FIELDS = struct.Struct("<IIII32s16s")  # magic, version, body length, address, SHA-256 of the body, build id
SIGNED_BYTES = FIELDS.size
CHECKED_BYTES = SIGNED_BYTES + signing.SIGNATURE_BYTES
USED_BYTES = 160  # with the CRC-32 of those; the rest of the header stays erased, for the board's marks


@dataclass(frozen=True)
class Header:
    """What an image says about itself; `length` counts the bytes of the body, `address` is the header's."""

    length: int
    address: int
    sha256: bytes
    build_id: str


def pack(body: bytes, build_id: str, address: int) -> bytes:
    """Return the image of `body` (vector table first): header + body, padded to 8 bytes with 0xFF.

    It is signed with this user's key, for the place `address` that the body was linked for.

    Raises:
        ValueError: the build id is not 1 to 16 ASCII characters.
        UserError: there is no key and none can be made.
    """
    name = build_id.encode("ascii")
    if not 0 < len(name) <= BUILD_ID_BYTES:
        raise ValueError(f"build id {build_id!r} must have 1 to {BUILD_ID_BYTES} characters")
    body += b"\xff" * (-len(body) % 8)
    fields = FIELDS.pack(MAGIC, VERSION, len(body), address, hashlib.sha256(body).digest(), name)
    checked = fields + signing.sign(fields)
    return (checked + struct.pack("<I", zlib.crc32(checked))).ljust(HEADER_BYTES, b"\xff") + body


def unpack(image: bytes) -> Header:
    """Return the header of `image` after checking it against the body.

    Raises:
        UserError: it is no image, it was cut, or header or body was altered.
    """
    if len(image) < HEADER_BYTES or image[:4] != struct.pack("<I", MAGIC):
        raise UserError(f"not a firmware image ({len(image)} bytes): build it with `earkit compile`")
    _, version, length, address, digest, name = FIELDS.unpack(image[:SIGNED_BYTES])
    if version != VERSION:
        raise UserError(f"firmware image of version {version}, this earkit knows {VERSION}: build it again")
    if struct.pack("<I", zlib.crc32(image[:CHECKED_BYTES])) != image[CHECKED_BYTES:][:4]:
        raise UserError("firmware image: the header is damaged: build it again with `earkit compile`")
    body = image[HEADER_BYTES : HEADER_BYTES + length]
    if len(body) != length or hashlib.sha256(body).digest() != digest:
        raise UserError(
            f"firmware image: {len(body)} of {length} body bytes do not match the SHA-256: build it again"
        )
    return Header(length, address, digest, name.rstrip(b"\0").decode("ascii", "replace"))
