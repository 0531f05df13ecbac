"""Audio files of any rate, depth and channel count, as mono int16, in bounded memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models.data.clips import Samples

SUFFIXES = (".wav", ".flac", ".ogg", ".opus")
RATES = range(1_000, 768_001)  # Hz, of a file
BLOCK = 1 << 18  # samples of all channels read at once
FLOAT_PEAK = 8.0  # a float file above this is not scaled to ±1
UNKNOWN = 1 << 62  # libsndfile's length of a stream that does not say


def read_audio(path: Path | str, rate: int, seconds: float | None = None) -> Samples:
    """Return a file as mono int16, shape (samples,), at `rate` Hz.

    Channels are averaged, the rate is changed by soxr (HQ), values beyond full scale saturate; a mono
    16-bit file at `rate` comes back bit for bit. At most `seconds` are read when given.

    Raises:
        UserError: the file is missing, empty, corrupt, cut short, or holds values that are not numbers.
    """
    return np.concatenate(list(blocks(path, rate, seconds)))


def resampled(samples: Samples, rate: int, wanted: int) -> Samples:
    """Return int16 samples of `rate` Hz at `wanted` Hz, by soxr (HQ); the same array where they are equal."""
    import soxr

    if rate == wanted:
        return samples
    return _to_int16(
        soxr.resample(samples.astype(np.float32) / np.float32(32_768), rate, wanted, quality="HQ")
    )


def blocks(path: Path | str, rate: int, seconds: float | None = None) -> Iterator[Samples]:
    """Yield a file as `read_audio` does, in pieces of a few seconds, so that an hour needs no more memory."""
    import soxr

    path = Path(path)
    if rate not in RATES:
        raise UserError(_outside(rate))
    with _opened(path) as file:
        stream = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
        left = math.inf if seconds is None else max(1, round(seconds * rate))
        for piece, last in _mono(path, file):
            out = piece if file.samplerate == rate else stream.resample_chunk(piece, last=last)
            out = out[: min(out.size, left)] if left < out.size else out
            left -= out.size
            yield _to_int16(out)
            if left <= 0:
                return


def check(path: Path) -> float:
    """Return a file's length in seconds after making sure that it can be read to its end.

    Integer PCM is checked by its header (every bit pattern is a sound); the rest is decoded.
    """
    with _opened(path) as file:
        if not (file.format in {"WAV", "WAVEX"} and file.subtype.startswith("PCM")):
            total = sum(piece.size for piece, _ in _mono(path, file))
            return total / int(file.samplerate)
        return int(file.frames) / int(file.samplerate)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a sound file; whatever is wrong with it becomes a UserError that names it."""
    import soundfile

    try:
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if not path.is_file():
            raise UserError(f"{path}: not a file")
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty (0 bytes)")
        _whole_riff(path)
        with soundfile.SoundFile(os.fsencode(path)) as file:  # a name need not be UTF-8
            if file.samplerate not in RATES:
                raise UserError(f"{path}: {_outside(file.samplerate)}")
            if file.frames == 0:
                raise UserError(f"{path}: the file holds no samples (0 s)")
            yield file
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{path}: not readable as audio ({error.error_string.strip(' .')}): use wav, flac or ogg"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def _outside(rate: int) -> str:
    return f"a sample rate of {rate} Hz is outside {RATES.start}…{RATES.stop - 1} Hz"


def _whole_riff(path: Path) -> None:
    """Refuse a wav whose header promises more bytes than the file has (0 and 2^32 - 1 mean a stream;
    some programs leave out the last padding byte)."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[:4] != b"RIFF" or len(head) < 8:
        return
    promised, found = int.from_bytes(head[4:], "little") + 8, path.stat().st_size
    if promised > found + 1 and promised - 8 < 0xFFFF_FF00:
        raise UserError(f"{path}: cut short: {found} of {promised} bytes: copy or record it again")


def _mono(path: Path, file: Any) -> Iterator[tuple[npt.NDArray[np.float32], bool]]:
    """Yield float32 mono pieces at the file's own rate, each with whether it is the last."""
    done, size, piece = 0, max(1, BLOCK // file.channels), None
    while True:
        raw = file.read(size, dtype="float32", always_2d=True)
        if raw.shape[0] == 0:
            break
        if piece is not None:
            yield piece, False
        piece = raw[:, 0] if file.channels == 1 else raw.mean(axis=1, dtype=np.float32)
        _sound(path, raw, done, file)
        done += raw.shape[0]
    if piece is None or (done < file.frames < UNKNOWN):
        raise UserError(f"{path}: cut short: {done} of {file.frames} samples: copy or record it again")
    yield piece, True


def _sound(path: Path, raw: npt.NDArray[np.float32], done: int, file: Any) -> None:
    """Refuse what is not sound: NaN, infinity, or floats on the wrong scale."""
    if file.subtype not in {"FLOAT", "DOUBLE"}:
        return
    wrong = ~np.isfinite(raw).all(axis=1)
    if wrong.any():
        first, count = (done + int(wrong.argmax())) / file.samplerate, int(wrong.sum())
        raise UserError(
            f"{path}: {count} samples are NaN or infinite, the first at {first:.3f} s: export it again"
        )
    peak = float(np.abs(raw).max())
    if peak > FLOAT_PEAK:
        raise UserError(
            f"{path}: float samples reach {peak:.6g}, full scale is 1.0: divide them or save as 16-bit"
        )


def _to_int16(x: npt.NDArray[np.float32]) -> Samples:
    return np.clip(np.rint(x * np.float32(32_768)), -32_768, 32_767).astype(np.int16)
