"""Read-only access to a bundle's files in a folder or a zip, with guards against hostile ones."""

from __future__ import annotations

import errno
import hashlib
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, ClassVar

from boards.errors import UserError

CHUNK = 1 << 20


class Store(ABC):
    """Named files under `path`."""

    MAX_BYTES: ClassVar[int] = 2 << 30  # of one file, unpacked
    MAX_FILES: ClassVar[int] = 64

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def names(self) -> set[str]:
        """Return the names of the files."""

    @abstractmethod
    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Give a file for reading, never more than its checked size."""

    def read(self, name: str, limit: int | None = None) -> bytes:
        """Return a file's bytes; UserError if there are more than `limit`."""
        most = self.MAX_BYTES if limit is None else limit
        with self.open(name) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise UserError(f"{self.path}: {name} is larger than {most} B")
        return data

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of a file in hexadecimal digits."""
        digest, total = hashlib.sha256(), 0
        with self.open(name) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                total += len(chunk)
                if total > self.MAX_BYTES:
                    raise UserError(f"{self.path}: {name} is larger than {self.MAX_BYTES} B")
        return digest.hexdigest()


class Folder(Store):
    """A bundle that lies in a folder. Links are refused: they could name any file of the machine."""

    def names(self) -> set[str]:
        """Return the names of the files."""
        return {entry.name for entry in self.path.iterdir()}

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Give a file for reading."""
        file = self.path / name
        if not stat.S_ISREG(file.lstat().st_mode):
            raise UserError(f"{self.path}: {name} is not a plain file (links are refused)")
        with file.open("rb") as stream:
            yield stream


class Zip(Store):
    """A bundle that is a zip. It is never unpacked on disk."""

    def __init__(self, path: Path) -> None:
        """Check the table of contents.

        Raises:
            UserError: not a zip, or a path, a link, a bomb or an encrypted file in it.
        """
        super().__init__(path)
        with self._archive() as archive:
            items = archive.infolist()
        if len(items) > self.MAX_FILES or len({item.filename for item in items}) != len(items):
            raise UserError(
                f"{path}: {len(items)} entries, at most {self.MAX_FILES} of different names: not a bundle"
            )
        for item in items:
            self._check(item)
        self._names = {item.filename for item in items}

    def _check(self, item: zipfile.ZipInfo) -> None:
        name = item.filename
        if "/" in name or "\\" in name or name in ("", ".", ".."):
            raise UserError(f"{self.path}: entry {name!r} has a path; a bundle's files lie side by side")
        if stat.S_ISLNK(item.external_attr >> 16):
            raise UserError(f"{self.path}: entry {name!r} is a link; links are refused")
        if item.file_size > self.MAX_BYTES:
            raise UserError(f"{self.path}: {name} unpacks to {item.file_size} B, at most {self.MAX_BYTES}")
        if item.flag_bits & 1:
            raise UserError(f"{self.path}: {name} is encrypted")
        if item.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(f"{self.path}: {name} is packed in way {item.compress_type}, a bundle deflates")

    def names(self) -> set[str]:
        """Return the names of the files."""
        return self._names

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                yield archive
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, ValueError) as error:
            raise UserError(
                f"{self.path}: neither a bundle's folder nor a whole zip of one: {error}"
            ) from None
        except zlib.error as error:
            raise UserError(f"{self.path}: damaged zip: {error}") from None
        except OSError as error:
            if error.errno == errno.EINVAL:  # a damaged directory sent the reader before the file's start
                raise UserError(f"{self.path}: damaged zip: an offset outside of it") from None
            raise

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Give a file for reading."""
        with self._archive() as archive, archive.open(name) as stream:
            yield stream
