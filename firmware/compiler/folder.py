"""The folder of a build: written whole or not at all, read back only if nothing in it has changed."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boards import atomic
from boards.errors import UserError

RECORD = "build.json"
SCHEMA = 3
FIELDS: Mapping[str, Any] = {  # of build.json, that are read again, with their types
    "name": str,
    "board": str,
    "build_id": str,
    "toolchain": str,
    "flags": list,
    "frontend": dict | None,
    "stream": dict | None,
    "labels": list,
    "sizes": dict,
}


@contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `out` that replaces it at the end; after an error nothing stays.

    Raises:
        UserError: `out` holds something else than a build, or cannot be written.
    """
    if out.exists() and not (out / RECORD).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not a build: choose another -o")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing_folder(out) as made:
            yield made
    except OSError as error:
        room = "free some space or " if error.errno == errno.ENOSPC else ""
        raise UserError(f"cannot write {out}: {error.strerror}: {room}choose another -o") from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write an object as JSON."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def hashes(folder: Path, files: Collection[str]) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {file: _sha256(folder / file) for file in files}


def board(path: Path) -> str:
    """Return the name of what a build is for; UserError when there is none."""
    return str(_json(path).get("board", ""))


def read(path: Path, files: Collection[str]) -> dict[str, Any]:
    """Return build.json of a build that has exactly these `files`, each as it was written.

    Raises:
        UserError: there is no build, it is damaged, or another release made it; the cure is to compile again.
    """
    record = _json(path)
    try:
        schema = record["schema"]
        for file, digest in record["sha256"].items():
            if file not in files or _sha256(path / file) != digest:
                raise UserError(f"{path}: {file} is not what was compiled: compile again")
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path}/{RECORD} is damaged: compile again") from None
    if schema != SCHEMA or set(record["sha256"]) != set(files):
        raise UserError(f"{path} was made by another release of earkit: compile again")
    wrong = [key for key, kind in FIELDS.items() if not isinstance(record.get(key, ...), kind)]
    if wrong:
        raise UserError(f"{path}/{RECORD} is damaged ({wrong[0]}): compile again")
    return record


def _json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}/{RECORD} is damaged: compile again") from None
    if not isinstance(record, dict):
        raise UserError(f"{path}/{RECORD} is damaged: compile again")
    return record


def _unreadable(path: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        missing = Path(error.filename).name if error.filename else RECORD
        return UserError(f"{path} is not a build ({missing} is missing): earkit compile … -o {path}")
    if isinstance(error, NotADirectoryError):
        return UserError(f"{path} is a file, not a build: earkit compile {path} --board … makes one")
    return UserError(f"{path}: {error.strerror}")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
