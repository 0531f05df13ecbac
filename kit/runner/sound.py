"""Sound on a Linux machine, block by block at the model's rate: ALSA's microphone, a wav file, or stdin."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from boards.errors import UserError

Samples = npt.NDArray[np.int16]
BLOCKS = 50  # a second
QUIET = 5.0  # seconds in which a microphone must say something
OVERRUN = re.compile(r"overrun!!! \(at least (\d{1,9}(?:\.\d{1,9})?) ms long\)")  # as arecord says it
TOLD_SECONDS = 60.0  # between lines about those
SAID = 2000  # characters of what arecord said last
MICROPHONE, STDIN = "mic", "-"
COMPLAINTS: tuple[tuple[str, str], ...] = (  # what arecord says → what that means here
    ("Device or resource busy", "is busy: another program records from it (`fuser -v /dev/snd/*`)"),
    ("Permission denied", "may not be opened: sudo usermod -aG audio $USER, then log in again"),
    (
        "no soundcards found|Cannot get card|No such (file|device)|cannot find card",
        "is not there: plug it in",
    ),
    ("Sample format non available|Channels count|Invalid argument", "gives no mono int16: use plughw:CARD"),
)


def blocks(source: str, rate: int, fast: bool, stopped: Callable[[], bool]) -> Iterator[Samples | int]:
    """Yield blocks of int16 samples at `rate` Hz, and counts of lost ones, until it ends or `stopped()`.

    Args:
        source: "mic" (ALSA's default), an ALSA name with a colon, "-" (raw int16 on stdin), or a .wav file.
        rate: of the model.
        fast: a file as fast as it can be heard.
        stopped: asked between blocks.

    Raises:
        UserError: there is no such source, it is busy, or it has another rate.
    """
    if source == STDIN:
        return _raw(sys.stdin.buffer, rate, stopped)
    if source == MICROPHONE or (":" in source and not source.endswith(".wav")):
        return _alsa("default" if source == MICROPHONE else source, rate, stopped)
    return _wav(source, rate, fast, stopped)


def _raw(stream: BinaryIO, rate: int, stopped: Callable[[], bool]) -> Iterator[Samples]:
    size = 2 * (rate // BLOCKS)
    while not stopped():
        data = stream.read(size)
        if len(data) >= 2:
            yield np.frombuffer(data[: len(data) // 2 * 2], "<i2")
        if len(data) < size:
            return


def _wav(path: str, rate: int, fast: bool, stopped: Callable[[], bool]) -> Iterator[Samples]:
    try:
        file = wave.open(path, "rb")  # noqa: SIM115  (closed below)
    except (OSError, EOFError, wave.Error) as error:
        raise UserError(f"{path}: not a wav file that can be read here ({error})") from None
    with file:
        if file.getframerate() != rate or file.getsampwidth() != 2:
            raise UserError(
                f"{path}: {file.getframerate()} Hz with {8 * file.getsampwidth()} bits, the model hears "
                f"{rate} Hz with 16: sox {path} -r {rate} -b 16 -c 1 new.wav"
            )
        channels, due = file.getnchannels(), time.monotonic()
        while not stopped():
            data = file.readframes(rate // BLOCKS)
            if not data:
                return
            whole = len(data) // (2 * channels)  # of a file that was cut
            samples = np.frombuffer(data, "<i2", count=whole * channels).reshape(-1, channels)
            yield samples[:, 0] if channels == 1 else np.rint(samples.mean(axis=1)).astype(np.int16)
            due += len(samples) / rate
            if not fast:
                time.sleep(max(0.0, due - time.monotonic()))


def _alsa(device: str, rate: int, stopped: Callable[[], bool]) -> Iterator[Samples | int]:
    program = shutil.which("arecord")
    if program is None:
        raise UserError("arecord is not installed: sudo apt install alsa-utils")
    command = [program, "-q", "-D", device, "-f", "S16_LE", "-c", "1", "-r", str(rate), "-t", "raw"]
    recorder = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}
    )
    assert recorder.stdout is not None
    size, heard, complaints = 2 * (rate // BLOCKS), time.monotonic(), _Complaints(device, rate, recorder)
    held = b""
    try:
        while not stopped():
            if lost := complaints.lost():
                yield lost
            if not select.select([recorder.stdout], [], [], 0.1)[0]:
                if time.monotonic() > heard + QUIET:
                    raise UserError(f"microphone {device} has said nothing for {QUIET:.0f} s: is it muted?")
                continue
            data = os.read(recorder.stdout.fileno(), size - len(held))
            held, heard = held + data, time.monotonic()
            if not data:
                with suppress(subprocess.TimeoutExpired):
                    recorder.wait(QUIET)
                complaints.lost()
                raise UserError(_explain(device, complaints.said))
            if len(held) == size:
                yield np.frombuffer(held, "<i2")
                held = b""
    finally:
        recorder.terminate()
        try:
            recorder.communicate(timeout=QUIET)
        except subprocess.TimeoutExpired:
            recorder.kill()
            recorder.communicate()


class _Complaints:
    """What arecord says on stderr, which would stop when nobody read it; what it lost is told of on ours."""

    def __init__(self, device: str, rate: int, recorder: subprocess.Popen[bytes]) -> None:
        assert recorder.stderr is not None
        self._device, self._rate, self._file = device, rate, recorder.stderr.fileno()
        os.set_blocking(self._file, False)
        self.said = self._line = ""
        self._lost, self._told = 0.0, -TOLD_SECONDS

    def lost(self) -> int:
        """Return the samples that were lost since the last time, as far as arecord knows; never waits."""
        try:
            came = os.read(self._file, 1 << 16).decode("utf-8", "replace")
        except BlockingIOError:
            return 0
        self.said = (self.said + came)[-SAID:]
        whole, _, self._line = (self._line + came).rpartition("\n")
        lost = sum(map(float, OVERRUN.findall(whole))) / 1000
        self._lost += lost
        if lost and time.monotonic() > self._told + TOLD_SECONDS:
            self._told = time.monotonic()
            print(
                f"microphone {self._device} lost {self._lost:.3f} s of sound by now: "
                "other programs keep this machine too busy",
                file=sys.stderr,
                flush=True,
            )
        return round(lost * self._rate)


def _explain(device: str, words: str) -> str:
    said = " ".join(words.split())
    for pattern, words in COMPLAINTS:
        if re.search(pattern, said):
            return f"microphone {device} {words}; `arecord -l` lists those that are there"
    return f"microphone {device} went away ({said[-120:] or 'arecord said nothing'}): is it still plugged in?"
