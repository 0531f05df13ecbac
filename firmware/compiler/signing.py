"""The key that signs firmware images: made on first use, kept in the user's configuration folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from boards.errors import UserError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURE_BYTES = 64
PRIME = 2**255 - 19
D = -121665 * pow(121666, -1, PRIME) % PRIME  # of the curve -x² + y² = 1 + d x² y²


def place() -> Path:
    """Return the file of the key, PKCS #8 in PEM."""
    return Path(platformdirs.user_config_dir("earkit")) / "signing.pem"


def key() -> Ed25519PrivateKey:
    """Return the key of this user, made when there is none, readable by the user alone.

    Raises:
        UserError: the file cannot be written, or holds something else.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = place()
    try:
        if not path.exists():
            _write(path, Ed25519PrivateKey.generate())
        found = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise UserError(f"cannot keep the key {path}: {error.strerror}: set XDG_CONFIG_HOME") from None
    except (ValueError, TypeError):
        found = None
    if not isinstance(found, Ed25519PrivateKey):
        raise UserError(f"{path} is no Ed25519 key in PEM: put your copy back, or move it away for a new one")
    return found


def _write(path: Path, made: Ed25519PrivateKey) -> None:
    """Write the key unless another process was faster; nobody else may read it at any time."""
    from cryptography.hazmat.primitives import serialization

    text = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
    try:
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink()


def public() -> bytes:
    """Return the public key, 32 bytes as RFC 8032 writes them."""
    return key().public_key().public_bytes_raw()


def sign(message: bytes) -> bytes:
    """Return the signature of `message`."""
    return key().sign(message)


def defines(public_key: bytes) -> dict[str, str]:
    """Return the macros that put a public key into the bootloader: see firmware/ed25519.h."""
    return {"EAR_KEY": f"{{{_words(public_key)}}}", "EAR_KEY_MINUS_X": f"{{{_words(minus_x(public_key))}}}"}


def minus_x(public_key: bytes) -> bytes:
    """Return the x coordinate of the negated point (RFC 8032, 5.1.3), so that the board takes no root.

    Raises:
        ValueError: no point of the curve is written like that.
    """
    number = int.from_bytes(public_key, "little")
    sign, y = number >> 255, number % 2**255
    u, v = (y * y - 1) % PRIME, (D * y * y + 1) % PRIME
    x = u * pow(v, 3, PRIME) * pow(u * pow(v, 7, PRIME), (PRIME - 5) // 8, PRIME) % PRIME
    if (v * x * x - u) % PRIME:
        x = x * pow(2, (PRIME - 1) // 4, PRIME) % PRIME
    if y >= PRIME or (v * x * x - u) % PRIME:
        raise ValueError("no point of the curve")
    return (x if x % 2 != sign else -x % PRIME).to_bytes(32, "little")


def _words(data: bytes) -> str:
    return ",".join(f"0x{int.from_bytes(data[at : at + 4], 'little'):08x}u" for at in range(0, 32, 4))
