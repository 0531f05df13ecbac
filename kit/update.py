"""Images into a board's flash: beside the one that runs, page by page, and only what is not there yet."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from boards.errors import UserError
from firmware.compiler import image as images
from kit.device import Device, Progress
from kit.link import BODY, LinkError

ERASE, WRITE, PAGES, COMMIT, IMAGES = 16, 17, 18, 19, 20
PIECE = (BODY - 8) // 32 * 32  # bytes of flash in one message; the coarsest flash programs 32 at once
COMMIT_PATIENCE = 60.0  # seconds that a slow board may take to hash and to verify
_PLACES = struct.Struct("<4I32s")  # ear_images_t and the key


@dataclass(frozen=True)
class Places:
    """Where images lie in a board's flash: offsets in bytes from the start of the application area."""

    free: int
    running: int | None
    running_bytes: int
    second: int  # 0 when there is room for one only
    key: bytes  # that the bootloader verifies with

    def keeps(self, offset: int, size: int) -> bool:
        """Tell whether the image that runs outlives one of `size` bytes at `offset`."""
        if self.running is None or offset == self.running:
            return False
        first_bytes = size if offset == 0 else self.running_bytes
        return first_bytes <= self.second


def places(device: Device) -> Places:
    """Ask a board in its bootloader where its images lie."""
    free, running, running_bytes, second, key = _PLACES.unpack(device.call(IMAGES))
    return Places(free, None if running == 2**32 - 1 else running, running_bytes, second, key)


def write_image(
    device: Device, image: bytes, progress: Progress = lambda *_: None, *, second: bytes = b""
) -> bool:
    """Write an application image; the board must be in its bootloader. Return whether an old one is kept.

    `second` is the same application linked for the second place, which is taken when the first one runs.
    `progress` gets "write" with bytes. Interrupted at any point, the next try goes on with the pages that are
    missing: the header that makes an image valid is erased first and written last.

    Raises:
        UserError: the image is damaged, too large or foreign, or the flash does not take it.
    """
    name = device.wire.name
    info = device.info()
    if info.mode != "boot":
        raise UserError(f"{name} runs its application: reset it to the bootloader first")
    found = places(device)
    offset = found.second if second and found.free else 0
    image = second if offset else image
    images.unpack(image)
    if len(image) > info.app_bytes - offset:
        raise UserError(f"image of {len(image)} bytes, {name} holds {info.app_bytes}: shrink the model")
    _check_signature(image, found.key, name)
    _write_body(device, image, offset, progress)
    device.call(COMMIT, struct.pack("<I", offset) + image[: images.USED_BYTES], COMMIT_PATIENCE)
    return found.keeps(offset, len(image))


def _write_body(device: Device, image: bytes, offset: int, progress: Progress) -> None:
    """Make the flash at `offset` hold the body behind an erased header, changing only pages that differ."""
    wanted = b"\xff" * images.HEADER_BYTES + image[images.HEADER_BYTES :]
    missing = _missing(device, wanted, offset)
    done = len(wanted) - sum(end - start for start, end in missing)
    for start, end in missing:
        device.post(ERASE, struct.pack("<I", offset + start))
        for at in range(max(start, images.HEADER_BYTES), end, PIECE):
            piece = wanted[at : min(at + PIECE, end)]
            device.post(WRITE, struct.pack("<I", offset + at) + piece)
            progress("write", done + at + len(piece) - start, len(wanted))
        erased, size = struct.unpack("<II", device.answer(ERASE))
        if erased != offset + start or size < end - start:
            raise LinkError(f"{device.wire.name} erased {size} bytes at {erased}, not at {offset + start}")
        done += end - start
    progress("write", len(wanted), len(wanted))


def _missing(device: Device, wanted: bytes, offset: int) -> list[tuple[int, int]]:
    """Return the pages, as stretches of `wanted`, that the flash at `offset` does not hold yet."""
    missing, at = [], 0
    while at < len(wanted):
        answer = device.call(PAGES, struct.pack("<II", offset + at, len(wanted) - at), COMMIT_PATIENCE)
        pages = [
            (size, crc) for size, crc in struct.iter_unpack("<II", answer[: len(answer) // 8 * 8]) if size
        ]
        if not pages:
            raise LinkError(f"{device.wire.name} has no flash page at {offset + at}: its port is wrong there")
        for size, crc in pages:
            if zlib.crc32(wanted[at : at + size]) != crc:
                missing.append((at, min(at + size, len(wanted))))
            at += size
    return missing


def _check_signature(image: bytes, key: bytes, name: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from firmware.compiler import signing

    signed, signature = image[: images.SIGNED_BYTES], image[images.SIGNED_BYTES :][: signing.SIGNATURE_BYTES]
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        raise UserError(
            f"{name} takes images of another key only ({key.hex()[:16]}…): copy that key to "
            f"{signing.place()} and compile again, or give it this build's boot.bin with a programmer"
        ) from None
