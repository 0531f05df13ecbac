"""Drives that boards show: where they are mounted, under which name, and copying a file to one."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

from boards.errors import UserError
from kit.progress import Progress

MOUNTS = Path("/proc/mounts")
BY_LABEL = Path("/dev/disk/by-label")
PIECE = 4096  # bytes
LOOKS = 0.25  # seconds between two looks
MOST = 1 << 16  # bytes of a text on a drive


@dataclass(frozen=True)
class Drive:
    """A mounted drive; `device` is what is mounted there, None where the system does not tell."""

    path: Path
    device: Path | None = None

    @property
    def label(self) -> str:
        """The name of its volume."""
        if self.device is not None:
            for link in _listed(BY_LABEL):
                if link.resolve() == self.device.resolve():
                    return _unescaped(link.name, r"\\x([0-9a-f]{2})", 16)
        return self.path.name

    def text(self, name: str) -> str | None:
        """Return what the file `name` on it says, None if there is none."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(MOST).decode("utf-8", "replace")
        except OSError:
            return None

    def there(self) -> bool:
        """Tell whether it is still plugged in and mounted."""
        return self in mounted() and (self.device is None or self.device.exists())


def mounted() -> list[Drive]:
    """Return the drives that are mounted now, any system's own among them."""
    return list(_mounted())


def _mounted() -> Iterator[Drive]:
    if sys.platform == "win32":
        yield from (Drive(root) for letter in ascii_uppercase if (root := Path(f"{letter}:\\")).exists())
    elif sys.platform == "darwin":
        yield from map(Drive, _listed(Path("/Volumes")))
    else:
        with suppress(OSError):
            for line in MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
                device, path, *_ = (_unescaped(part, r"\\([0-7]{3})", 8) for part in line.split(" "))
                if device.startswith("/dev/"):
                    yield Drive(Path(path), Path(device))


def unmounted(label: str) -> Path | None:
    """Return the drive of that name if it is plugged in (as far as Linux tells)."""
    return next((link for link in _listed(BY_LABEL) if link.name == label), None)


def copy(drive: Drive, name: str, data: bytes, progress: Progress) -> None:
    """Write `data` to the file `name` of a drive and onto the device; the board may vanish at the end.

    Raises:
        UserError: the drive does not take all of it.
    """
    sent = 0
    try:
        with (drive.path / name).open("wb", buffering=0) as file:
            for at in range(0, len(data), PIECE):
                _all(file.fileno(), data[at : at + PIECE])
                sent = min(at + PIECE, len(data))
                progress("write", sent, len(data))
            os.fsync(file.fileno())
    except OSError as error:
        if sent == len(data):
            return  # it restarts with the last block, before the system is done with it; what runs then tells
        raise UserError(
            f"{drive.path}: {error.strerror} after {sent} of {len(data)} bytes: unplug the board, plug it in "
            "again (with its boot button held, if that is how its drive appears), and repeat the command"
        ) from None


def wait_until_gone(drive: Drive, seconds: float) -> bool:
    """Tell whether the drive goes away within that time: its board has restarted."""
    deadline = time.monotonic() + seconds
    while drive.there():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOKS)
    return True


def _all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _listed(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _unescaped(text: str, pattern: str, base: int) -> str:
    return re.sub(pattern, lambda found: chr(int(found[1], base)), text)
