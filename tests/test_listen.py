"""Listening with a board that knows three sounds: events, probabilities, losses, Ctrl-C, the three views."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from rich.console import Console

from boards.errors import UserError
from kit import listen_view
from kit.detect import Detector, Meaning, Rules
from kit.device import Result
from kit.listen import Heard, interruptible, listen, meaning, stream
from models.frontend import FrontEnd

Samples = npt.NDArray[np.int16]
FE = FrontEnd()  # 49 frames: 15,872 samples, just below a second
LABELS = ("silence", "hum, [red]", "bang")
MEANT = Meaning(FE, LABELS, hop_frames=12, scale=0.125, zero_point=3, logits=True)
LEVELS = (0, 1_000, 20_000)  # a sound is its class's loudness


class LoudnessBoard:
    """A board whose model believes in the class whose level is that of the input's middle."""

    origin: Literal["emulated", "measured"] = "emulated"
    packed = False

    def __init__(self) -> None:
        self.chunks: list[Samples | int] = []
        self.stopped = False

    def info(self) -> Any:
        class Info:
            unit = "instructions"

        return Info()

    def stream(self, chunks: Iterable[Samples | int], hop_frames: int) -> Iterator[Result]:
        heard, lost, due = np.zeros(0, np.int16), 0, FE.samples
        try:
            for chunk in chunks:
                self.chunks.append(chunk)
                lost += chunk if isinstance(chunk, int) else 0
                heard = np.concatenate(
                    [heard, np.zeros(chunk, np.int16) if isinstance(chunk, int) else chunk]
                )
                while heard.size >= due:
                    yield self.result(heard, due, lost)
                    due += hop_frames * FE.hop
        finally:
            self.stopped = True

    def result(self, heard: Samples, due: int, lost: int) -> Result:
        level = int(heard[due - FE.samples // 2])
        output = np.where(np.array(LEVELS) == level, 43, 3).astype(np.int8)  # logits 5 and 0
        return Result(due, output, 50_000, lost)


def recording(*parts: tuple[int, float]) -> list[Samples | int]:
    """Blocks of (class, seconds) in turn."""
    sound = np.concatenate(
        [np.full(round(seconds * 16_000), LEVELS[kind], np.int16) for kind, seconds in parts]
    )
    return [np.asarray(block) for block in np.array_split(sound, range(800, sound.size, 800))]


def hear(blocks: Iterable[Samples | int], **options: Any) -> Heard:
    quick = Rules(smoothing=0.2)
    return stream(LoudnessBoard(), MEANT, iter(blocks), source="clip.wav", rules=quick, **options)


SCENE = ((0, 2.0), (2, 1.0), (0, 2.0), (1, 2.0), (0, 1.0))


def test_events_are_where_the_sounds_are() -> None:
    heard = hear(recording(*SCENE))
    hop = MEANT.hop / 16_000
    found = [event for event in heard.listening.events if event.label != "silence"]
    assert [event.label for event in found] == ["bang", "hum, [red]"]
    for event, (start, end) in zip(found, ((2.0, 3.0), (5.0, 7.0)), strict=True):
        assert abs(event.start - start) <= hop
        assert abs(event.end - end) <= hop
        assert event.probability == pytest.approx(np.exp(5) / (np.exp(5) + 2), rel=1e-5)
    assert heard.events == len(heard.listening.events)
    assert heard.seconds == pytest.approx(8.0)
    assert not heard.interrupted


def test_probabilities_lie_evenly_over_the_recording() -> None:
    heard = hear(recording(*SCENE)).listening
    assert heard.samples.size == 8 * 16_000
    assert heard.probabilities.shape == (round(8 * 16_000 / MEANT.hop), 3)
    np.testing.assert_allclose(heard.probabilities.sum(axis=1), 1, rtol=1e-5)
    for seconds, kind in ((0.1, 0), (1.0, 0), (2.5, 2), (4.0, 0), (6.0, 1), (7.9, 0)):
        row = int(seconds * 16_000 / MEANT.hop)
        assert heard.probabilities[row].argmax() == kind, seconds


def test_work_is_counted_for_a_second_of_sound() -> None:
    heard = hear(recording((0, 4.0)))
    last = FE.samples + (heard.results - 1) * MEANT.hop
    assert heard.work == pytest.approx(heard.results * 50_000 * 16_000 / last)
    record = heard.record()
    assert record["instructions_per_second"] == round(heard.work or 0)
    assert record["origin"] == "emulated"
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("seconds", [0.001, 0.3, 0.99])
def test_a_short_clip_is_padded_to_one_input(seconds: float) -> None:
    heard = hear(recording((2, seconds)))
    assert heard.results == 1
    assert heard.listening.samples.size == FE.samples
    assert heard.listening.probabilities.shape[1] == 3


def test_nothing_heard_is_a_record_too() -> None:
    heard = hear([])
    assert (heard.results, heard.work, heard.seconds, heard.listening.events) == (0, None, 0.0, ())
    assert heard.listening.probabilities.shape == (0, 3)
    assert "0 events, 0 results" in listen_view.summary(heard)


def test_lost_sound_keeps_its_time_and_is_counted() -> None:
    blocks = recording(*SCENE)
    blocks[10:30] = [800] * 20  # one of the two silent seconds
    heard = hear(blocks)
    assert heard.lost_samples == 16_000
    assert heard.listening.dropped == 50
    assert heard.seconds == pytest.approx(8.0)
    assert [e.label for e in heard.listening.events if e.label != "silence"] == ["bang", "hum, [red]"]
    assert "1.0 s were lost, the board did not keep up: use --fast" in listen_view.summary(heard)


def test_only_the_last_minutes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kit.listen.KEPT_SECONDS", 4)
    heard = hear(recording(*SCENE))
    kept = heard.listening
    assert heard.seconds == pytest.approx(8.0)
    assert 4.0 <= kept.samples.size / 16_000 < 4.1
    assert kept.source == "clip.wav (the last 4 s)"
    hum = next(event for event in kept.events if event.label == LABELS[1])
    assert abs(hum.start - 1.0) <= 0.25  # 5 s into the recording
    assert kept.probabilities[int(2.0 * 16_000 / MEANT.hop)].argmax() == 1
    assert all(event.end > 0 for event in kept.events)


def detections(beliefs: list[tuple[int, float]], rules: Rules) -> list[tuple[str, float, float]]:
    """Feed a class and its probability a hop; return label and hops of each event."""
    detector = Detector(MEANT, rules)
    for number, (kind, probability) in enumerate(beliefs):
        row = np.full(3, (1 - probability) / 2, np.float32)
        row[kind] = probability
        detector.step(FE.samples + number * MEANT.hop, row)
    detector.finish(FE.samples + len(beliefs) * MEANT.hop)
    return [(e.label, e.start * 16_000 / MEANT.hop, e.end * 16_000 / MEANT.hop) for e in detector.events]


def test_threshold_is_reached_or_not() -> None:
    rules = Rules(threshold=0.6, smoothing=0, refractory=0)
    assert len(detections([(0, 0.4), (2, 0.61), (0, 0.4)], rules)) == 1
    assert not detections([(0, 0.4), (2, 0.59), (0, 0.4)], rules)


def test_smoothing_ignores_a_single_result() -> None:
    once = [(0, 0.5), (0, 0.5), (2, 0.9), (0, 0.5), (0, 0.5)]
    assert len(detections(once, Rules(0.6, smoothing=0, refractory=0))) == 1
    assert not detections(once, Rules(0.6, smoothing=3 * MEANT.hop / 16_000, refractory=0))


def test_refractory_time_joins_nothing_but_silences_the_same_class() -> None:
    flicker = [(2, 0.9), (2, 0.4), (2, 0.9), (1, 0.9), (0, 0.4), (0, 0.4), (0, 0.4), (0, 0.4), (2, 0.9)]
    rules = Rules(0.6, smoothing=0, refractory=3 * MEANT.hop / 16_000)
    assert [label for label, *_ in detections(flicker, rules)] == ["bang", LABELS[1], "bang"]
    assert len(detections(flicker, Rules(0.6, smoothing=0, refractory=0))) == 4


def test_ctrl_c_ends_the_stream_cleanly() -> None:
    board, before = LoudnessBoard(), signal.getsignal(signal.SIGINT)

    def blocks(stop: threading.Event) -> Iterator[Samples | int]:
        for number, block in enumerate(recording(*SCENE)):
            if number == 60:
                os.kill(os.getpid(), signal.SIGINT)
            if stop.is_set():
                return
            yield block

    stop = threading.Event()
    with interruptible(stop):
        heard = stream(board, MEANT, blocks(stop), source="mic", stop=stop)
    assert heard.interrupted
    assert board.stopped
    assert heard.seconds == pytest.approx(3.0)
    assert "interrupted after 3.0 s of mic" in listen_view.summary(heard)
    assert signal.getsignal(signal.SIGINT) is before


def test_second_ctrl_c_interrupts() -> None:
    stop = threading.Event()
    with interruptible(stop):
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def build_of(**change: Any) -> Any:
    """What listening reads of a build."""
    output = SimpleNamespace(
        quantisation=SimpleNamespace(scale=np.array([0.125]), zero_point=np.array([3])), elements=3
    )
    graph = SimpleNamespace(tensors=[output], outputs=[0], nodes=[SimpleNamespace(op="FULLY_CONNECTED")])
    return SimpleNamespace(
        **{
            "frontend": asdict(FE),
            "labels": LABELS,
            "graph": graph,
            "path": "build/x",
            "stream": None,
            "task": None,
        }
        | change
    )


def test_listen_walks_from_file_to_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = LoudnessBoard()
    monkeypatch.setattr("kit.device.open", lambda build, port, progress: nullcontext(board))
    sound = np.concatenate([np.asarray(block) for block in recording(*SCENE)])
    soundfile.write(tmp_path / "scene.flac", sound, 16_000)
    heard = listen(build_of(), str(tmp_path / "scene.flac"), fast=True, rules=Rules(smoothing=0.2))
    assert meaning(build_of()) == MEANT
    assert np.array_equal(heard.listening.samples, sound)
    assert "bang" in [event.label for event in heard.listening.events]


def test_a_bad_source_is_refused_before_the_board_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: object) -> None:
        raise AssertionError("the board was opened")

    monkeypatch.setattr("kit.device.open", opened)
    with pytest.raises(UserError, match=r"missing\.wav: no such file"):
        listen(build_of(), "missing.wav")
    with pytest.raises(UserError, match=r"without a front end: compile a bundle to listen"):
        listen(build_of(frontend=None), "missing.wav")


def test_classes_without_labels_are_numbered() -> None:
    assert meaning(build_of(labels=())).labels == ("class 0", "class 1", "class 2")


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    heard = hear(recording(*SCENE), view=listen_view.Plain())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == heard.events + 1
    assert any(line.startswith("  0:0") and "bang  99%" in line for line in lines)
    assert lines[-1].startswith("heard 8.0 s of clip.wav: ")
    assert "million instructions a second of sound (emulated)" in lines[-1]
    assert ": 1 event, 2 results," in listen_view.summary(replace(heard, events=1, results=2))
    assert ", 0.37 ms a second of sound" in listen_view.summary(
        replace(heard, work=369_900, unit="nanoseconds")
    )


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("colours", ["truecolor", None])
def test_live_picture_fits_any_terminal(width: int, colours: Any) -> None:
    out = io.StringIO()
    terminal = Console(
        file=out, force_terminal=True, width=width, height=30, color_system=colours, highlight=False
    )
    live = listen_view.Live(FE, LABELS, terminal)
    heard = hear(recording(*SCENE), view=live)
    picture = Console(file=io.StringIO(), width=width, record=True)
    picture.print(live.picture())
    lines = picture.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert sum(any(shade in line for shade in "░▒▓█") for line in lines) >= listen_view.STRIP_ROWS // 2
    shown = out.getvalue()
    assert "hum,[red]" in "".join(shown.split())  # a label is no markup
    assert "".join(listen_view.summary(heard).split()) in "".join(shown.split())


def test_view_suits_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert type(listen_view.view(FE, LABELS)) is listen_view.Plain


def test_probabilities_of_a_net_with_softmax_are_its_output() -> None:
    meant = Meaning(FE, LABELS, 12, scale=1 / 256, zero_point=-128, logits=False)
    np.testing.assert_allclose(meant.probabilities(np.array([-128, 0, 127], np.int8)), [0, 0.5, 255 / 256])
