"""Streaming models on a board: real sound in hops, equal to the window model; hops that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tflite_writer as tfl
from conftest import earkit, shared_folder
from test_stream import Net

import boards
from boards.errors import UserError
from firmware.compiler import build as compiler
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import device, hops, listen
from models import frontend
from models.data import audio
from models.frontend import FrontEnd

FRONT = FrontEnd(bands=16, window=512, hop=160, frames=36)
HOP = 4


@pytest.fixture(scope="module", params=["causal", "valid"])
def streaming(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Give a small net of filters over frames, compiled to take four at a time."""
    net = Net.of(FRONT.frames, FRONT.bands, 1)
    causal = request.param == "causal"
    net.conv(3, causal=causal).relu().conv(4, stride=2, causal=causal).dense().mean()
    model = tfl.model([net.input], net.nodes, [], [net.last])
    step = frontend.tables(replace(FRONT, frames=HOP))
    out = tmp_path_factory.mktemp("builds") / request.param
    board = boards.load("virtual-m4")
    return compiler.compile_model(
        model, board, out, name="net", frontend=asdict(FRONT), frontend_tables=step, hop=HOP
    )


@pytest.fixture(scope="module")
def running(streaming: Build) -> Iterator[device.Device]:
    with device.open(streaming, None) as board:
        yield board


def sound() -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Return two seconds of real speech where there is some, else of noise that comes and goes."""
    clips = sorted((shared_folder() / "data" / "fsdd").rglob("*.wav"))[:8]
    if clips:
        return np.concatenate([audio.read_audio(path, FRONT.sample_rate) for path in clips])[
            : 2 * FRONT.sample_rate
        ]
    rng = np.random.default_rng(0)
    loudness = 3000 * np.abs(np.sin(np.arange(2 * FRONT.sample_rate) / 2000))
    return (loudness * rng.standard_normal(loudness.size)).astype(np.int16)


def test_a_stream_of_sound_equals_the_window_model(streaming: Build, running: device.Device) -> None:
    samples = sound()
    into = streaming.window.tensors[streaming.window.inputs[0]]
    assert into.quantisation is not None
    assert streaming.stream is not None
    compared = 0
    for result in running.stream([samples], HOP):
        end = result.sample
        if end < FRONT.samples or (streaming.stream["remembers"] and end > FRONT.samples):
            continue
        features = frontend.features(samples[end - FRONT.samples : end], FRONT)
        scale, zero = float(into.quantisation.scale[0]), int(into.quantisation.zero_point[0])
        x = frontend.quantise(features, scale, zero).astype(np.int8).reshape(into.shape)
        np.testing.assert_array_equal(result.output, interp.run(streaming.window, [x])[0].ravel())
        compared += 1
    assert compared >= (1 if streaming.stream["remembers"] else 30)


def test_each_stream_starts_afresh(streaming: Build, running: device.Device) -> None:
    first, again = ([r.output for r in running.stream([sound()], HOP)] for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_listening_waits_for_a_whole_window(streaming: Build, running: device.Device) -> None:
    meant = listen.meaning(streaming)
    assert meant.hop_frames == HOP
    heard = listen.stream(running, meant, iter([sound()]))
    assert heard.results == (2 * FRONT.sample_rate - FRONT.samples) // (HOP * FRONT.hop) + 1


def test_the_sizes_tell_of_the_stream(streaming: Build) -> None:
    told = streaming.sizes["stream"]
    assert told["macs"] * 4 < told["window_macs"]
    assert (told["rows"], told["window"]) == (HOP, FRONT.frames)
    assert streaming.sizes["ram_bytes"]["state"] > 0


@pytest.mark.parametrize(("text", "rows"), [("10ms", 1), ("40 ms", 4), ("20.0ms", 2), ("3", 3)])
def test_hops_in_time_or_rows(text: str, rows: int) -> None:
    assert hops.rows(text, FRONT) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("15ms", "frames come every 10 ms: use a multiple, such as 20ms"),
        ("1ms", "such as 10ms"),
        ("0", "from 1 on"),
        ("1.5", "1.5ms"),
        ("-3", "give milliseconds"),
        ("soon", "give milliseconds"),
    ],
)
def test_hops_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        hops.rows(text, FRONT)
    with pytest.raises(UserError, match="says nothing of time"):
        hops.rows("20ms")


def test_a_model_that_cannot_stream_is_refused_in_a_line(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "build"
    code, _, lines = earkit(capsys, "compile", tiny_bundle, "--board", "virtual-m4", "--hop", "4", "-o", out)
    assert code == 1
    assert "cannot be streamed: RESHAPE 'flat': it merges the time axis" in lines[-1]
    assert not out.exists()
