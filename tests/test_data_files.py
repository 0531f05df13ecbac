"""Audio files and windows: what is read exactly, what is refused with one line, what is cut or filled."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from sound_files import RNG, line, noise, quick, write

from boards.errors import UserError
from models import data

# Audio files


def test_16_bit_mono_is_read_bit_for_bit(tmp_path: Path) -> None:
    samples = RNG.integers(-32_768, 32_768, 5_000).astype(np.int16)
    for suffix in (".wav", ".flac"):
        assert np.array_equal(data.read_audio(write(tmp_path / f"a{suffix}", samples), 16_000), samples)


@pytest.mark.parametrize(
    ("how", "tolerance"),
    [
        ("PCM_U8", 256),
        ("PCM_16", 1),
        ("PCM_24", 1),
        ("PCM_32", 1),
        ("FLOAT", 1),
        ("DOUBLE", 1),
        ("ULAW", 1_000),
    ],
)
def test_every_bit_depth(tmp_path: Path, how: str, tolerance: int) -> None:
    x = noise(3_000, 0.9)
    got = data.read_audio(write(tmp_path / "a.wav", x, subtype=how), 16_000)
    assert np.abs(got - x * 32_768).max() <= tolerance


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_rates_agree_with_scipy(tmp_path: Path, rate: int) -> None:
    x = np.sin(2 * np.pi * 1_000 * np.arange(rate) / rate) * signal.windows.tukey(rate, 0.2) * 0.5
    got = data.read_audio(write(tmp_path / "a.wav", x, rate), 16_000)
    want = signal.resample(x, 16_000) * 32_768
    assert got.size == 16_000
    assert np.abs(got - want).max() < 33  # both filters are flat to 0.1 % at 1 kHz; 1e-3 of full scale


def test_eight_channels_are_averaged(tmp_path: Path) -> None:
    x = RNG.integers(-1_000, 1_000, (900, 8)).astype(np.int16)
    got = data.read_audio(write(tmp_path / "a.wav", x), 16_000)
    assert np.abs(got - x.mean(axis=1)).max() <= 0.5


def test_float_beyond_full_scale_saturates(tmp_path: Path) -> None:
    got = data.read_audio(write(tmp_path / "a.wav", np.array([2.0, -2.0, 0.5]), subtype="FLOAT"), 16_000)
    assert got.tolist() == [32_767, -32_768, 16_384]


def test_blocks_join_to_the_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(700_000), 44_100)
    pieces = list(data.blocks(path, 16_000))
    assert len(pieces) > 2
    assert np.array_equal(np.concatenate(pieces), data.read_audio(path, 16_000))
    assert data.read_audio(path, 16_000, seconds=0.5).size == 8_000


def test_an_hour_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for _ in range(60):
            file.write(np.zeros(8_000 * 60, np.int16))
    tracemalloc.start()
    try:
        assert sum(piece.size for piece in data.blocks(path, 16_000)) == 3_600 * 16_000
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def broken_files(folder: Path) -> dict[str, Path]:
    whole = write(folder / "whole.wav").read_bytes()
    flac = write(folder / "whole.flac").read_bytes()
    contents = {
        "empty": (b"", "empty"),
        "nosound": (b"hello, this is not sound" * 9, "not readable"),
        "short": (whole[:-500], "cut short"),
        "header": (whole[:20], "cut short"),
        "flac": (flac[: len(flac) // 2], "flac"),
    }
    files = {}
    for name, (content, expected) in contents.items():
        path = folder / f"{name}.{'flac' if name == 'flac' else 'wav'}"
        path.write_bytes(content)
        files[expected + "|" + name] = path
    nan = noise()
    nan[[100, 200]] = np.nan, np.inf
    return files | {
        "0 s|zero": write(folder / "zero.wav", np.zeros(0)),
        "2 samples are NaN|nan": write(folder / "nan.wav", nan, subtype="FLOAT"),
        "full scale is 1.0|scale": write(folder / "scale.wav", noise(level=20_000), subtype="FLOAT"),
        "Hz|slow": write(folder / "slow.wav", rate=10),
        "no such file|missing": folder / "missing.wav",
        "not a file|dir": folder,
    }


def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.wav")
    odd = whole.rename(tmp_path / os.fsdecode(b"odd\xff.wav"))
    assert data.read_audio(odd, 16_000).size == 1_600


def test_each_broken_file_is_named_in_one_line(tmp_path: Path) -> None:
    for key, path in broken_files(tmp_path).items():
        with pytest.raises(UserError, match=key.split("|")[0]) as error:
            data.read_audio(path, 16_000)
        assert str(path) in line(error)


@quick
@given(content=st.binary(max_size=400), head=st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS"]))
def test_random_bytes_never_crash(tmp_path: Path, content: bytes, head: bytes) -> None:
    (tmp_path / "x.wav").write_bytes(head + content)
    with pytest.raises(UserError):
        data.read_audio(tmp_path / "x.wav", 16_000)


@quick
@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_changed_byte_gives_sound_or_one_line(tmp_path: Path, at: int, byte: int) -> None:
    content = bytearray(write(tmp_path / "y.flac", noise(2_000)).read_bytes())
    content[at] = byte
    (tmp_path / "y.flac").write_bytes(content)
    try:
        got = data.read_audio(tmp_path / "y.flac", 16_000)
    except UserError:
        return
    assert got.dtype == np.int16


# Windows


def test_window_finds_the_sound() -> None:
    x = np.zeros(10_000, np.int16)
    x[7_000:7_400] = 9_000
    got = data.window(x, 1_000)
    assert got.shape == (1_000,)
    assert (got == 9_000).sum() == 400
    for seed in range(20):
        assert (data.window(x, 1_000, np.random.default_rng(seed)) == 9_000).any()


def test_short_countlie_in_their_own_noise() -> None:
    x = np.rint(RNG.normal(0, 50, 2_000)).astype(np.int16)
    x[800:1_200] = 20_000
    got = data.window(x, 16_000)
    assert np.array_equal(got[7_000:9_000], x)
    assert 20 < got[:7_000].std() < 80
    assert np.array_equal(got, data.window(x, 16_000))
    assert not data.window(np.zeros(10, np.int16), 100).any()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5_000), n=st.integers(1, 3_000), most=st.integers(1, 12))
def test_windows_have_the_right_shape(size: int, n: int, most: int) -> None:
    x = np.random.default_rng(size).integers(-99, 99, size).astype(np.int16)
    got = data.windows(x, n, most)
    assert got.shape[1] == n
    assert 1 <= got.shape[0] <= most
    assert data.window(x, n, np.random.default_rng(n)).shape == (n,)


def test_silent_windows_are_left_out() -> None:
    x = np.zeros(50_000, np.int16)
    x[:5_000] = 5_000
    assert data.windows(x, 10_000).shape[0] == 1
    assert data.windows(np.full(50_000, 7, np.int16), 10_000).shape[0] == 9
