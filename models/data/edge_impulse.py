"""An exported Edge Impulse data set: info.labels or file names, and acquisition files in JSON or CBOR.

Signatures (HMAC-SHA256) are checked when the environment has the project's key in EI_HMAC_KEY.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from boards.errors import UserError
from models.data import audio, cbor
from models.data.clips import Samples, Subset, check_label

INFO = "info.labels"
SIDES: dict[str, Subset] = {"training": "train", "testing": "test", "split": ""}
SUFFIXES = (".json", ".cbor")
KEY = "EI_HMAC_KEY"
MOST_BYTES = 64 << 20  # of one acquisition file
SEGMENT = re.compile(r"\.s\d+$")  # ends the name of a piece that was cut from a longer recording
STORED = re.compile(r"Ref-BINARY-i16 \((\d+) bytes\)")  # the samples stand behind the header


class _Label(BaseModel):
    type: str
    label: str | None = None


class _File(BaseModel):
    path: str = Field(min_length=1)
    category: str
    label: _Label


class _Info(BaseModel):
    version: int = Field(ge=1, le=1)
    files: list[_File]


@dataclass(frozen=True)
class Sample:
    """One sample of an export."""

    path: Path
    label: str
    group: str  # the recording that it was cut from, on its side of the split
    subset: Subset


def samples(root: Path) -> tuple[list[Sample], list[str]] | None:
    """Return the samples of an export and warnings; None where `root` is none.

    Raises:
        UserError: info.labels is damaged, or a label cannot be used.
    """
    if (root / INFO).is_file():
        listed, warnings = _listed(root)
    elif all((root / side).is_dir() for side in ("training", "testing")):
        listed, warnings = _named(root)
    else:
        return None
    sides: dict[str, set[Subset]] = {}
    for one in listed:
        sides.setdefault(one.group, set()).add(one.subset)
    if both := sorted(group for group, found in sides.items() if len(found) > 1):
        warnings.append(
            f"{root}: {len(both)} recordings have pieces in training and in testing, as exported: "
            f"the test is easier than it looks: {', '.join(both[:5])}"
        )
    return [Sample(s.path, s.label, f"{s.subset}/{s.group}", s.subset) for s in listed], warnings


def _listed(root: Path) -> tuple[list[Sample], list[str]]:
    table = root / INFO
    if table.stat().st_size > MOST_BYTES:
        raise UserError(f"{table}: {table.stat().st_size >> 20} MB, at most {MOST_BYTES >> 20}")
    try:
        info = _Info.model_validate(json.loads(table.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{table}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{table}: not JSON ({' '.join(str(error).split())[:80]}): export again") from None
    found, left = [], Counter[str]()
    for number, file in enumerate(info.files):
        where = f"{table}: files.{number}"
        if file.category not in SIDES:
            raise UserError(f"{where}.category: {file.category!r}; known: {', '.join(SIDES)}")
        path = Path(os.path.normpath(root / file.path))
        if not path.is_relative_to(os.path.normpath(root)):
            raise UserError(f"{where}.path: {file.path!r} leads out of the export")
        if file.label.type != "label" or file.label.label is None:
            left[file.label.type] += 1
            continue
        label = check_label(file.label.label, where)
        found.append(Sample(path, label, _recording(path), SIDES[file.category]))
    return found, [f"{table}: {count} files are {kind} and were left out" for kind, count in left.items()]


def _named(root: Path) -> tuple[list[Sample], list[str]]:
    found = []
    for side in ("training", "testing"):
        for path in sorted((root / side).iterdir()):
            if path.name.startswith(".") or path.suffix.lower() not in (*audio.SUFFIXES, *SUFFIXES):
                continue
            label, dot, _ = path.stem.partition(".")
            if not dot:
                raise UserError(f"{path}: no label before a dot in its name, and no {INFO} in {root}")
            found.append(Sample(path, check_label(label, str(path)), _recording(path), SIDES[side]))
    return found, []


def _recording(path: Path) -> str:
    return SEGMENT.sub("", path.stem)


def check(path: Path) -> float:
    """Return the length in seconds of an acquisition file that is whole, else raise UserError."""
    samples, rate = _acquired(path)
    return len(samples) / rate


def read_audio(path: Path, rate: int, seconds: float | None = None) -> Samples:
    """Return the samples of an acquisition file as mono int16 at `rate` Hz, the first `seconds` of them.

    Raises:
        UserError: it is damaged, not sound, or its signature is wrong.
    """
    samples, own = _acquired(path)
    most = len(samples) if seconds is None else round(seconds * own)
    return audio.resampled(samples[:most], own, rate)


def _acquired(path: Path) -> tuple[Samples, int]:
    """Return int16 samples and their rate in Hz."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise UserError(f"{path}: {size >> 20} MB, at most {MOST_BYTES >> 20}: cut it")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        if path.suffix.lower() == ".cbor":
            value, end = cbor.decode(data)
        else:
            value, end = json.loads(data), len(data)
    except (ValueError, RecursionError) as error:
        kind = path.suffix[1:].upper()
        raise UserError(
            f"{path}: not {kind} ({' '.join(str(error).split())[:80]}): export it again"
        ) from None
    payload = _part(path, value, "payload", dict)
    _check_signature(path, value, data)
    sensors = _part(path, payload, "sensors", list)
    if len(sensors) != 1:
        names = [str(one.get("name")) if isinstance(one, dict) else "?" for one in sensors]
        raise UserError(f"{path}: {len(sensors)} sensors ({', '.join(names[:6])}), sound has one")
    return _values(path, _part(path, payload, "values", list), data[end:]), _rate(path, payload)


def _part(path: Path, value: Any, key: str, kind: type) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        raise UserError(f"{path}: {key} is missing or no {kind.__name__}: not an acquisition file")
    return found


def _rate(path: Path, payload: dict[str, Any]) -> int:
    interval = payload.get("interval_ms")
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 < interval < 1e9:
        raise UserError(f"{path}: interval_ms is {interval!r}, not milliseconds between samples")
    rate = round(1000 / interval)
    if rate not in audio.RATES:
        raise UserError(f"{path}: interval_ms of {interval:g} gives {rate} Hz, not a rate of sound")
    return rate


def _values(path: Path, values: list[Any], rest: bytes) -> Samples:
    if len(values) == 1 and isinstance(values[0], str) and (stored := STORED.match(values[0])):
        size = int(stored[1])
        if size % 2 or not 0 < size <= len(rest):
            raise UserError(f"{path}: cut short: {len(rest)} of {size} bytes of samples: export it again")
        return np.frombuffer(rest[-size:], "<i2").astype(np.int16)
    try:
        found = np.array(values, np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise UserError(f"{path}: values are not one finite number a sample: export it again")
    if np.abs(found).max() <= 1 and (found != np.rint(found)).any():
        found = found * 32_768
    if np.abs(found).max() > 32_768:
        raise UserError(f"{path}: values reach {np.abs(found).max():g}, sound stays within ±32768")
    return np.clip(np.rint(found), -32_768, 32_767).astype(np.int16)


def _check_signature(path: Path, value: dict[str, Any], data: bytes) -> None:
    """Compare with the HMAC of the file whose signature is zeros, if there is a key."""
    key = os.environ.get(KEY)
    if not key:
        return
    signature = value.get("signature")
    algorithm = _part(path, value, "protected", dict).get("alg")
    if algorithm != "HS256" or not isinstance(signature, str) or not re.fullmatch("[0-9a-f]{64}", signature):
        raise UserError(f"{path}: not signed with HS256 ({algorithm}): unset {KEY} to take it as it is")
    unsigned = data.replace(signature.encode(), b"0" * 64, 1)
    if not hmac.compare_digest(hmac.new(key.encode(), unsigned, hashlib.sha256).hexdigest(), signature):
        raise UserError(f"{path}: its signature is not that of {KEY}: another key, or changed since")
