"""Sources of sound: any file, an hour of it, real time; microphones that are missing, slow or gone."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from boards.errors import UserError
from kit import audio
from models.data.audio import read_audio

FILES = [
    ("a.wav", 16_000, 1, "PCM_16"),
    ("a.wav", 8_000, 1, "PCM_U8"),
    ("a.wav", 44_100, 2, "PCM_24"),
    ("a.wav", 96_000, 8, "PCM_32"),
    ("a.wav", 48_000, 1, "FLOAT"),
    ("a.flac", 22_050, 2, "PCM_16"),
    ("a.ogg", 44_100, 1, "VORBIS"),
]


def tone(path: Path, rate: int, channels: int, subtype: str, seconds: float = 1.3) -> Path:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate, subtype)
    return path


@pytest.mark.parametrize(("name", "rate", "channels", "subtype"), FILES, ids=str)
def test_blocks_are_the_file(name: str, rate: int, channels: int, subtype: str, tmp_path: Path) -> None:
    path = tone(tmp_path / name, rate, channels, subtype)
    blocks = list(audio.file_blocks(path, 16_000))
    assert {block.size for block in blocks[:-1]} == {800}
    assert all(block.dtype == np.int16 for block in blocks)
    heard = np.concatenate(blocks)
    assert np.array_equal(heard, read_audio(path, 16_000))
    assert abs(heard.size - 1.3 * 16_000) <= 2
    assert 0.3 < np.sqrt(np.mean((heard / 32768.0) ** 2)) < 0.4  # of a sine of 0.5: 0.354


def test_an_hour_needs_little_memory(tmp_path: Path) -> None:
    path, rate = tmp_path / "hour.wav", 8_000
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_U8") as file:
        for _ in range(60):
            file.write(np.zeros(60 * rate, np.int16))
    tracemalloc.start()
    total = sum(
        block.size for block in audio.open_source(str(path), rate, fast=True) if not isinstance(block, int)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 3_600 * rate
    assert peak < 16 << 20


def test_bad_files_are_refused_before_the_board_is_asked(tmp_path: Path) -> None:
    whole = tone(tmp_path / "whole.wav", 16_000, 1, "PCM_16").read_bytes()
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16_000)
    bad = {
        "empty.wav": b"",
        "corrupt.wav": b"RIFF????WAVEnonsense" * 9,
        "short.wav": whole[:999],
        "text.txt": b"hello",
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    for name in (*bad, "none.wav", "missing.wav", "."):
        with pytest.raises(UserError, match=r"^\S*") as caught:
            audio.open_source(str(tmp_path / name), 16_000)  # not iterated
        assert "\n" not in str(caught.value)


def test_real_time_takes_real_time_and_loses_what_comes_too_late() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    blocks = (np.full(800, i, np.int16) for i in range(100))  # 5 s
    got: list[Any] = []
    for block in audio.paced(blocks, 16_000, clock=lambda: now[0], sleep=sleep):
        got.append(block)
        if len(got) == 20:
            assert now[0] == pytest.approx(1.0)
            now[0] += 2.5  # the board is busy for 2.5 s, the buffer holds 2
    assert len(got) == 100
    lost = [i for i, block in enumerate(got) if isinstance(block, int)]
    assert lost == list(range(20, 29))  # those due more than 2 s ago
    assert sum(block if isinstance(block, int) else block.size for block in got) == 80_000
    assert now[0] == pytest.approx(5.0)


def test_stop_ends_a_source() -> None:
    stop = threading.Event()
    source = audio.until(stop, iter([np.zeros(1, np.int16)] * 3))
    next(source)
    stop.set()
    assert list(source) == []


class PortAudioError(Exception):
    pass


class FakeStream:
    """sounddevice.InputStream: `start` lets the test's script call the callback."""

    script: Callable[[Callable[..., None], int], None]
    refuses: frozenset[int] = frozenset()
    closed = 0

    def __init__(
        self, samplerate: int, blocksize: int, channels: int, dtype: str, callback: Callable[..., None]
    ):
        if samplerate in self.refuses:
            raise PortAudioError("Invalid sample rate [PaErrorCode -9997]")
        assert (channels, dtype) == (1, "int16")
        self.callback, self.blocksize, self.active = callback, blocksize, True

    def start(self) -> None:
        type(self).script(self.callback, self.blocksize)
        self.active = False  # the script is over: as if unplugged

    def close(self) -> None:
        type(self).closed += 1


def hear(callback: Callable[..., None], block: npt.NDArray[np.int16], overflow: bool = False) -> None:
    callback(block[:, None], len(block), None, SimpleNamespace(input_overflow=overflow))


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> type[FakeStream]:
    class Stream(FakeStream):
        pass

    module = SimpleNamespace(
        InputStream=Stream,
        PortAudioError=PortAudioError,
        query_devices=lambda kind: {"default_samplerate": 48_000.0},
    )
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return Stream


def take(source: Iterator[Any]) -> list[Any]:
    """Read a microphone until it is unplugged."""
    got: list[Any] = []
    try:
        got.extend(source)
    except UserError as error:
        assert str(error) == "the microphone went away: plug it in again, or use --source clip.wav"  # noqa: PT017
        return got
    raise AssertionError("a microphone that is gone went on")


def test_microphone_is_heard(stream: type[FakeStream]) -> None:
    def script(callback: Callable[..., None], size: int) -> None:
        assert size == 800
        for i in range(5):
            hear(callback, np.full(size, i, np.int16))

    stream.script = staticmethod(script)
    got = take(audio.open_source("mic", 16_000))
    assert [int(block[0]) for block in got] == [0, 1, 2, 3, 4]
    assert stream.closed == 1


def test_microphone_of_another_rate_is_resampled(stream: type[FakeStream]) -> None:
    def script(callback: Callable[..., None], size: int) -> None:
        assert size == 2_400
        time = np.arange(20 * size) / 48_000
        for block in np.split((16_000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16), 20):
            hear(callback, block)

    stream.refuses, stream.script = frozenset({16_000}), staticmethod(script)
    heard = np.concatenate(take(audio.open_source("mic", 16_000)))
    assert 15_000 < heard.size <= 16_000  # less what the filter holds back
    spectrum = np.abs(np.fft.rfft(heard[:8_000] * np.hanning(8_000)))
    assert spectrum.argmax() == 220


def test_what_the_microphone_loses_is_counted(stream: type[FakeStream]) -> None:
    held = int(audio.BEHIND * audio.BLOCKS_A_SECOND)

    def script(callback: Callable[..., None], size: int) -> None:
        hear(callback, np.zeros(size, np.int16), overflow=True)
        for _ in range(held + 10):  # nobody takes them: start() has not come back yet
            hear(callback, np.zeros(size, np.int16))

    stream.script = staticmethod(script)
    got = take(audio.open_source("mic", 16_000))
    assert got[0] == 800  # the overflow
    assert len(got) == held


def test_stop_closes_the_microphone(stream: type[FakeStream]) -> None:
    stop = threading.Event()
    stream.script = staticmethod(lambda callback, size: stop.set())
    assert list(audio.open_source("mic", 16_000, stop=stop)) == []
    assert stream.closed == 1


def test_no_microphone_names_the_cure(stream: type[FakeStream], monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(kind: str) -> None:
        raise ValueError("No input device matching None")

    stream.refuses = frozenset({16_000, 48_000})
    with pytest.raises(
        UserError, match=r"cannot be opened \(Invalid sample rate.*: close other programs, or use --source"
    ):
        audio.open_source("mic", 16_000)
    monkeypatch.setattr(sys.modules["sounddevice"], "query_devices", nothing)
    with pytest.raises(
        UserError, match=r"no microphone \(No input device.*: plug one in, or use --source clip.wav"
    ):
        audio.open_source("mic", 16_000)


def test_a_microphone_that_does_not_start(stream: type[FakeStream]) -> None:
    def script(callback: Callable[..., None], size: int) -> None:
        raise PortAudioError("Device unavailable [PaErrorCode -9985]")

    stream.script = staticmethod(script)
    with pytest.raises(UserError, match=r"does not start \(Device unavailable"):
        next(audio.open_source("mic", 16_000))
    assert stream.closed == 1


def test_missing_portaudio_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sounddevice.py").write_text('raise OSError("PortAudio library not found")\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(
        UserError, match=r"PortAudio library: sudo apt install libportaudio2, or use --source clip.wav"
    ):
        audio.open_source("mic", 16_000)
