"""The demo's road and listening through the command line, with a ready bundle in place of the training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import earkit

from kit import pipeline, runs

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def trained(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the tiny bundle where compress would, and the current folder somewhere empty."""
    monkeypatch.chdir(tmp_path)

    def compress(_family: str, _size: str, _data: str, out: Path, **_: Any) -> None:
        shutil.copytree(tiny_bundle, out)

    monkeypatch.setattr(pipeline, "compress", compress)


@pytest.mark.usefixtures("trained")
def test_demo_walks_the_whole_road(capsys: Capture) -> None:
    code, text, err = earkit(capsys, "demo", "--json")
    assert (code, err) == (0, [])
    record = json.loads(text)
    stages = ["compress", "compile", "flash", "listen", "profile", "report", "total"]
    assert list(record["seconds"]) == stages
    assert record["profile"]["mismatches"] == 0
    assert record["profile"]["samples"] > 20
    assert record["heard"]["lost_samples"] == 0
    assert record["heard"]["seconds"] > 10
    assert Path(record["report"]).stat().st_size > 10_000
    run = runs.load(Path("runs/demo"))
    assert run.listening is not None
    assert len(run.listening.truth) > 3
    sound, rate = soundfile.read("runs/demo/scene.wav", dtype="int16")
    assert rate == 16_000
    np.testing.assert_array_equal(run.listening.samples, sound)


@pytest.mark.usefixtures("trained")
def test_demo_table_ends_with_the_report(capsys: Capture) -> None:
    code, text, _ = earkit(capsys, "demo", "-o", "there")
    assert code == 0
    for figure in (
        "accuracy, device",
        "accuracy, full",
        "mismatches in",
        "RAM bytes, total",
        "flash bytes, total",
    ):
        assert figure in text
    assert text.splitlines()[-1] == "report: there/report.html"


def test_listen_json_is_one_object_and_is_kept_for_the_report(
    tiny_build: Path, tmp_path: Path, capsys: Capture
) -> None:
    clip, run = tmp_path / "clip.wav", tmp_path / "run"
    sound = np.random.default_rng(0).integers(-9_000, 9_000, 40_000).astype(np.int16)
    soundfile.write(clip, sound, 16_000)
    code, text, err = earkit(
        capsys, "listen", tiny_build, "--source", clip, "--fast", "--threshold", "0", "-o", run, "--json"
    )
    assert (code, err) == (0, [])
    record = json.loads(text)
    assert record["seconds"] == 2.5
    assert record["events"]
    assert record["origin"] == "emulated"
    heard = runs.load(run).listening
    assert heard is not None
    np.testing.assert_array_equal(heard.samples, sound)
    assert [event.label for event in heard.events] == [event["label"] for event in record["events"]]
    assert earkit(capsys, "report", run, "-o", tmp_path / "r.html")[0] == 0


BAD_CLIPS = {
    "missing": None,
    "empty": b"",
    "text": b"not a sound",
    "cut header": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
}


@pytest.mark.parametrize("content", BAD_CLIPS.values(), ids=BAD_CLIPS)
def test_bad_clip_is_one_line(
    content: bytes | None, tiny_build: Path, tmp_path: Path, capsys: Capture
) -> None:
    clip = tmp_path / "clip.wav"
    if content is not None:
        clip.write_bytes(content)
    code, out, err = earkit(capsys, "listen", tiny_build, "--source", clip, "--fast", "--json")
    assert (code, out, len(err)) == (1, "", 1), err
    assert "clip.wav" in err[0]


def test_bare_model_cannot_listen(tiny_model: Path, tmp_path: Path, capsys: Capture) -> None:
    assert earkit(capsys, "compile", tiny_model, "--board", "virtual-m4", "-o", tmp_path / "b")[0] == 0
    code, _, err = earkit(capsys, "listen", tmp_path / "b", "--source", "x.wav")
    assert (code, len(err)) == (1, 1)
    assert "compile a bundle" in err[0]
