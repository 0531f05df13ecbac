"""Archives of named arrays (.npz): read whole, or refused in a line; Python objects in them never load."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from boards.errors import UserError

ZIP = (b"PK\x03\x04", b"PK\x05\x06")
OTHERS = {b"\x93NUM": "it is one .npy array without a name", b"\x80": "it is a pickle, which may run code"}


def read(path: Path, cure: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of `path` by their names; what else is in the archive is left out.

    Raises:
        UserError: it cannot be opened, is no such archive, damaged, or holds objects; the message ends in
            `cure`.
    """
    try:
        whole = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with whole:
        try:
            return _arrays(whole)
        except MemoryError:
            reason = "it says it holds more than this machine's memory"
        except Exception as error:  # zipfile, its decoders, numpy and its parser of headers have their own
            reason = _reason(error)
    raise UserError(f"{path}: not an .npz file of arrays, or damaged: {reason}: {cure}")


def _arrays(whole: BinaryIO) -> dict[str, NDArray[Any]]:
    head = whole.read(4)
    if head not in ZIP:
        known = next((what for start, what in OTHERS.items() if head.startswith(start)), None)
        raise ValueError(known or "it does not begin as a zip archive")
    whole.seek(0)
    with zipfile.ZipFile(whole) as archive:
        names, size = archive.namelist(), sum(info.file_size for info in archive.infolist())
    if any(name.endswith("data.pkl") for name in names):
        raise ValueError("it is a file of PyTorch, whose ending is .pt")
    if size > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
        raise MemoryError
    whole.seek(0)
    with np.load(whole, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    return {name: value for name, value in found.items() if isinstance(value, np.ndarray)}


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "allow_pickle" in text and "Object arrays" in text:
        return "it holds Python objects, a pickle that may run code, and not only arrays of numbers"
    return text[:160].rstrip(".") or type(error).__name__
