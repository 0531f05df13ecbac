"""`earkit record`: clips through the board's microphone become a data set; what cannot be is one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, earkit
from hypothesis import example, given
from hypothesis import strategies as st

from firmware.compiler.build import Build
from kit import pipeline
from kit.link import LinkError
from kit.record import decode

RATE = TINY.sample_rate


@pytest.fixture(scope="module")
def build(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    out = tmp_path_factory.mktemp("record") / "tiny"
    return pipeline.compile(tiny_bundle, "virtual-m4", out, dialect="edge-impulse")


def test_record_writes_a_folder_per_class(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import soundfile

    samples = np.random.default_rng(3).normal(0, 4000, RATE).astype(np.int16)
    soundfile.write(tmp_path / "s.wav", samples, RATE)
    command = (
        "record",
        build.path,
        "--label",
        "yes",
        "--seconds",
        "0.5",
        "--clips",
        "2",
        "-o",
        tmp_path / "data",
    )
    code, out, _ = earkit(capsys, *command, "--source", tmp_path / "s.wav")
    assert (code, "2 clips" in out) == (0, True)
    files = sorted((tmp_path / "data" / "yes").iterdir())
    heard = [soundfile.read(file, dtype="int16") for file in files]
    assert np.array_equal(np.concatenate([clip for clip, _ in heard]), samples)
    assert {rate for _, rate in heard} == {RATE}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--label", "yes"), "--source mic or a sound file"),
        (("--label", "../x"), "letters, digits"),
        (("--label", "yes", "--seconds", "3000"), "record shorter clips"),
        (("--label", "yes", "--source", "no.wav"), "no.wav"),
    ],
)
def test_what_cannot_be_recorded_is_one_line(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], says: str
) -> None:
    code, out, errors = earkit(capsys, "record", build.path, "-o", tmp_path / "data", *more)
    assert (code, out) == (1, "")
    assert says in errors[-1]
    assert not (tmp_path / "data").exists()


def test_a_build_without_the_dialect_cannot_record(
    tiny_build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = earkit(capsys, "record", tiny_build, "--label", "x", "-o", tmp_path / "d")
    assert code == 1
    assert "compile it with --dialect edge-impulse" in errors[-1]


@given(data=st.binary(max_size=300))
@example(data=b"\x9f" * 5000)
@example(data=b"\xa1\x9f\xff\x60")
def test_what_is_no_recording_is_told_so(data: bytes) -> None:
    with pytest.raises(LinkError, match="damaged"):
        decode(data, "k")
