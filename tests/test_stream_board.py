"""Streaming models on a board: real sound in hops, equal to the window model; hops that are refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tflite_writer as tfl
from conftest import earkit, shared_folder
from test_stream import Net, Q
from test_stream_recurrent import lstm_node

import boards
from boards.errors import UserError
from firmware.compiler import build as compiler
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import device, first_op, hops, listen, per_second, profile
from models import frontend
from models.data import audio
from models.frontend import FrontEnd

FRONT = FrontEnd(bands=16, window=512, hop=160, frames=36)
HOP = 4


def filters(net: Net, causal: bool) -> Net:
    """Return filters over frames and a mean over all that they say."""
    return net.conv(3, causal=causal).relu().conv(4, stride=2, causal=causal).dense().mean()


def upsampling(net: Net) -> Net:
    """Return frames laid out again after a filter, the last ones left out, and filtered once more."""
    net.conv(3, stride=2, causal=True)
    rows, columns = net.last.shape[1:3]
    weights = tfl.constant("up", np.random.default_rng(2).integers(-127, 128, (4, 4, 1, 5)), "int8", 0.004)
    shape, cut = (1, 2 * rows + 2, columns, 4), (1, 2 * rows - 3, columns, 4)
    laid = tfl.Value("laid", shape, "int8", *Q)
    slide = {"padding": "VALID", "stride_h": 2, "stride_w": 1}
    inputs = [tfl.constant("target", list(shape)), weights, net.last]
    net.nodes.append(tfl.Op("TRANSPOSE_CONV", inputs, [laid], slide, 3))
    net.last = laid
    net.add("SLICE", [tfl.constant("first", [0, 1, 0, 0]), tfl.constant("sizes", list(cut))], cut)
    return net.conv(2).mean()


def recurrent(net: Net) -> Net:
    """Return a filter, an LSTM over its means across bands, and what that says at the end."""
    net.conv(3, causal=True)
    rows = net.last.shape[1]
    net.add("MEAN", [tfl.constant("bands", [2])], (1, rows, 5), keep_dims=False)
    y = tfl.Value("lstm", (1, rows, 8), "int8", 1 / 128, 0)
    net.nodes.append(lstm_node(net.last, y, time_major=False))
    last = tfl.Value("end", (1, 8), "int8", 1 / 128, 0)
    ranges = [
        tfl.constant(n, v) for n, v in (("first", [0, rows - 1, 0]), ("past", [1, rows, 8]), ("by", [1] * 3))
    ]
    net.nodes.append(tfl.Op("STRIDED_SLICE", [y, *ranges], [last], {"shrink_axis_mask": 2}))
    net.last = last
    return net.dense()


NETS = {
    "causal": lambda net: filters(net, causal=True),
    "valid": lambda net: filters(net, causal=False),
    "upsampling": upsampling,
    "recurrent": recurrent,
    "chunks": lambda net: net.conv(2, stride=2).attention(2).mean(),
}


@pytest.fixture(scope="module", params=NETS)
def streaming(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Give a small net over frames, compiled to take four at a time."""
    net = NETS[request.param](Net.of(FRONT.frames, FRONT.bands, 1))
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


def test_each_op_of_each_hop_is_the_hosts(streaming: Build, running: device.Device) -> None:
    shape = streaming.window.tensors[streaming.window.inputs[0]].shape
    window = np.random.default_rng(8).integers(-128, 128, shape, np.int8)
    assert first_op.find(streaming, running, profile.hops(streaming, window)) is None


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


def test_a_second_of_sound_is_counted_both_ways(streaming: Build, running: device.Device) -> None:
    hop = HOP * FRONT.hop
    heard = per_second.enough(sound()[None], FRONT.samples, hop)
    inputs = profile.trial_inputs(streaming.window, 2, 0)
    cost = profile.count(running, profile.feed(streaming, running, inputs), None)
    told = per_second.compare(streaming, running, cost, heard)
    assert told is not None
    assert (told["of"], told["hops"], told["unit"]) == ("second", 25.0, "instructions")
    assert told["origins"] == {"stream": "emulated", "window": "emulated"}
    *_, last = running.stream([heard], HOP)
    assert told["stream"] == pytest.approx(25 * last.instructions, rel=0.02)
    assert cost.total * 25 < told["stream"] < 0.7 * told["window"]
    rows = {name: value for name, value, _ in per_second.figures({"per_second": told})}
    assert rows["instructions for a second of sound, hop by hop"] == told["stream"]
    assert rows["instructions for a second of sound, a window each hop"] == told["window"]


def test_windows_that_do_not_stream_overlap_by_half(tiny_build: Path) -> None:
    made = compiler.load(tiny_build)
    assert made.frontend is not None
    front = FrontEnd(**made.frontend)
    cost = profile.Cost(
        total=1000, per_node=(1000,), frontend=300, unit="instructions", origin="emulated", runs=(1000,)
    )
    with device.open(made, None) as board:
        told = per_second.compare(made, board, cost)
    assert told is not None
    seconds = front.samples / front.sample_rate
    assert (told["stream"], told["window"]) == (None, round(2300 / seconds))
    (row,) = per_second.figures({"per_second": told})
    words = "instructions for a second of sound, windows that overlap by half"
    assert row == (words, told["window"], "emulated")


def test_a_profile_of_a_bare_stream_counts_a_row_of_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    net = Net.of(16, 4, 3).conv(3, causal=True).relu().conv(3, causal=True)
    (tmp_path / "net.tflite").write_bytes(tfl.model([net.input], net.nodes, [], [net.last]))
    counts = {}
    for hop in (["--hop", "2"], []):
        command = ["compile", "net.tflite", "--board", "virtual-m4", *hop, "-o", "built"]
        assert earkit(capsys, *command)[0] == 0
        code, text, _ = earkit(capsys, "profile", "built", "--samples", "3", "--json")
        assert code == 0
        counts[len(hop)] = json.loads(text)
    told = counts[2]["per_second"]
    assert counts[0]["per_second"] is None
    assert (told["of"], told["stream"]) == ("row", round(counts[2]["instructions"] / 2))
    assert told["window"] == pytest.approx(counts[0]["instructions"] / 2, rel=0.05)


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
