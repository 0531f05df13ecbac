"""Sources of sound for the board: a file or the microphone, as int16 mono blocks, at real time or faster.

A source yields blocks of 1/BLOCKS_A_SECOND s at the model's rate. Where sound was lost (the microphone or
the board did not keep up), it yields an int: so many samples are missing here.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from boards.errors import UserError

Samples = npt.NDArray[np.int16]
Source = Iterator[Samples | int]
Block = TypeVar("Block", Samples, Samples | int)

MICROPHONE = "mic"
BLOCKS_A_SECOND = 20
LONG = 10.0  # seconds of a block where nobody waits for it
BEHIND = 2.0  # seconds that the board may lag; sound beyond that is lost, as it would be with a microphone
FILE_INSTEAD = "use --source clip.wav"


def open_source(name: str, rate: int, *, fast: bool = False, stop: threading.Event | None = None) -> Source:
    """Return the blocks of `name` at `rate` Hz; whatever is wrong with its beginning is raised now.

    Args:
        name: "mic", or a wav, flac or ogg file of any rate, depth and channel count.
        rate: of the blocks, Hz.
        fast: a file as fast as it is taken, instead of at real time.
        stop: when set, the source ends behind its current block.

    Raises:
        UserError: the file is missing, empty or corrupt; there is no microphone, or no PortAudio.
    """
    stop = stop or threading.Event()
    if name == MICROPHONE:
        return until(stop, microphone(rate, stop))
    blocks = file_blocks(Path(name), rate)
    return until(stop, blocks if fast else paced(blocks, rate))


def file_blocks(path: Path, rate: int, seconds: float = 1 / BLOCKS_A_SECOND) -> Iterator[Samples]:
    """Return a file as blocks of `seconds` at `rate` Hz; little of it is in memory, however long it is."""
    from models.data import audio

    pieces = audio.blocks(path, rate)
    first = next(pieces)  # opened and read now, so that a bad file is refused before the board is asked
    return _cut(_chain(first, pieces), max(1, int(rate * seconds)))


def _chain(first: Samples, rest: Iterator[Samples]) -> Iterator[Samples]:
    yield first
    yield from rest


def _cut(pieces: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Yield `pieces` as blocks of `size` samples; the last one may be shorter."""
    left = np.zeros(0, np.int16)
    for piece in pieces:
        whole = np.concatenate([left, piece])
        end = whole.size - whole.size % size
        yield from whole[:end].reshape(-1, size)
        left = whole[end:]
    if left.size:
        yield left


def paced(
    blocks: Iterable[Samples],
    rate: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Source:
    """Yield each block when a microphone would have; a taker that is BEHIND seconds late misses some."""
    start, done = clock(), 0
    for block in blocks:
        done += block.size
        early = start + done / rate - clock()
        if early < -BEHIND:
            yield int(block.size)
            continue
        if early > 0:
            sleep(early)
        yield block


def until(stop: threading.Event, blocks: Iterator[Block]) -> Iterator[Block]:
    """Yield `blocks` until `stop` is set."""
    for block in blocks:
        if stop.is_set():
            return
        yield block


def microphone(rate: int, stop: threading.Event) -> Source:
    """Return what the default microphone hears, resampled when it does not offer `rate` Hz.

    Raises:
        UserError: PortAudio is missing, or there is no microphone that can be opened.
    """
    sounddevice = _portaudio()
    heard: queue.Queue[Samples | int] = queue.Queue(maxsize=int(BEHIND * BLOCKS_A_SECOND))
    source_rate, stream = _opened(sounddevice, rate, heard)
    return _heard(_running(stream, sounddevice), heard, source_rate, rate, stop)


def _portaudio() -> Any:
    try:
        import sounddevice
    except OSError:
        raise UserError(
            f"the microphone needs the PortAudio library: sudo apt install libportaudio2, or {FILE_INSTEAD}"
        ) from None
    return sounddevice


def _opened(sounddevice: Any, rate: int, heard: queue.Queue[Samples | int]) -> tuple[int, Any]:
    """Return the rate and the stream of the default input, at `rate` Hz or else at its own rate."""
    try:
        own = round(sounddevice.query_devices(kind="input")["default_samplerate"])
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(f"no microphone ({_line(error)}): plug one in, or {FILE_INSTEAD}") from None
    for source_rate in (rate, own):
        try:
            return source_rate, sounddevice.InputStream(
                samplerate=source_rate,
                blocksize=max(1, source_rate // BLOCKS_A_SECOND),
                channels=1,
                dtype="int16",
                callback=_collector(heard),
            )
        except sounddevice.PortAudioError as error:
            why = error
    raise UserError(
        f"the microphone cannot be opened ({_line(why)}): close other programs, or {FILE_INSTEAD}"
    )


def _collector(heard: queue.Queue[Samples | int]) -> Callable[..., None]:
    """Return PortAudio's callback: it puts blocks into `heard`, and says how much got lost."""
    lost = 0

    def collect(block: Samples, frames: int, _time: object, status: Any) -> None:
        nonlocal lost
        lost += frames if status.input_overflow else 0  # at least about a block, PortAudio does not say
        try:
            if lost:
                heard.put_nowait(lost)
                lost = 0
            heard.put_nowait(block[:, 0].copy())
        except queue.Full:
            lost += frames

    return collect


def _heard(
    running: AbstractContextManager[Any],
    heard: queue.Queue[Samples | int],
    source_rate: int,
    rate: int,
    stop: threading.Event,
) -> Source:
    """Yield what the microphone collects until `stop`."""
    import soxr

    resample = soxr.ResampleStream(source_rate, rate, 1, dtype="int16", quality="HQ")
    with running as stream:
        while not stop.is_set():
            try:
                block = heard.get(timeout=0.1)
            except queue.Empty:
                if not stream.active:
                    raise UserError(
                        f"the microphone went away: plug it in again, or {FILE_INSTEAD}"
                    ) from None
                continue
            if source_rate == rate:
                yield block
            elif isinstance(block, int):
                yield round(block * rate / source_rate)
            elif (out := resample.resample_chunk(block)).size:
                yield out


@contextmanager
def _running(stream: Any, sounddevice: Any) -> Iterator[Any]:
    """Start the stream; close it at the end."""
    try:
        stream.start()
        yield stream
    except sounddevice.PortAudioError as error:
        raise UserError(
            f"the microphone does not start ({_line(error)}): try again, or {FILE_INSTEAD}"
        ) from None
    finally:
        stream.close()


def _line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
