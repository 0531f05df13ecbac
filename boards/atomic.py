"""Files and folders that are whole or absent: written under a temporary name beside them, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Write `data` to `path`; an interruption leaves what was there before."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name for the block to write; it becomes `path` when the block ends well."""
    temporary = beside(path, "part")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # a power cut after the rename must not find an empty file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder for the block to fill; it becomes `path` when the block ends well.

    A folder that was at `path` steps aside for two renames, and comes back if the second one fails. Should
    the machine stop between the two, `recover` brings it back.
    """
    temporary, old = beside(path, "part"), _aside(path)
    recover(path)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.rename(path, old)
        try:
            os.rename(temporary, path)
        except BaseException:
            recover(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def recover(path: Path) -> None:
    """Bring back the folder that an interrupted `replacing_folder` had moved aside."""
    old = _aside(path)
    if not old.exists():
        return
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.rename(old, path)


def beside(path: Path, kind: str) -> Path:
    """Return an unused hidden name in the folder of `path`."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{kind}")


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")
