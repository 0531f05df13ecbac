"""Scores of long recordings: exact counts, tolerances, the host's model beside the board, faults, memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from conftest import earkit
from test_ears import FRONT, HOP, blocks, compiled, meant, noise

from boards.errors import UserError
from kit import audio, det, device, host_board, score
from kit.detect import Meaning, Rules
from kit.device import Result
from kit.score import Tally, Truth
from models.data import synthetic
from models.frontend import FrontEnd

Samples = npt.NDArray[np.int16]
FE = FrontEnd()
LABELS = ("silence", "hum", "bang")
MEANT = Meaning(FE, LABELS, hop_frames=12, scale=1 / 256, zero_point=-128, logits=False)
QUICK = Rules(smoothing=0)
LEVELS = (0, 1_000, 20_000)


class LoudnessBoard:
    """A board that believes in the class whose level its newest samples have."""

    def stream(self, chunks: Iterable[Samples | int], hop_frames: int) -> Iterator[Result]:
        taken, due = 0, FE.samples
        for chunk in chunks:
            assert not isinstance(chunk, int)
            taken += chunk.size
            while taken >= due:
                level = int(chunk[due - taken - 1])
                output = np.where(np.array(LEVELS) == level, 100, -128).astype(np.int8)
                yield Result(due, output, 0, 0)
                due += hop_frames * FE.hop


def recording(path: Path, *parts: tuple[int, float]) -> Path:
    """Write (class, seconds) in turn."""
    sound = [np.full(round(seconds * 16_000), LEVELS[kind], np.int16) for kind, seconds in parts]
    soundfile.write(path, np.concatenate(sound), 16_000)
    return path


def test_a_false_accept_rate_that_is_known(tmp_path: Path) -> None:
    path = recording(
        tmp_path / "long.flac", *[(0, 8.0), (2, 2.0)] * 30
    )  # five minutes, a bang each ten seconds
    truth = [Truth(10.0 * k + 8, 10.0 * k + 10, "bang") for k in range(0, 30, 3)]
    found = score.measured(LoudnessBoard(), MEANT, path, truth, rules=QUICK, on="here")
    assert (found["seconds"], found["events"], found["hits"], found["misses"]) == (300.0, 10, 10, 0)
    assert found["false_accepts"] == 20
    assert found["false_accepts_per_hour"] == pytest.approx(20 * 12)
    assert found["miss_rate"] == 0
    assert found["per_class"] == {
        "hum": {"events": 0, "hits": 0, "false_accepts": 0},
        "bang": {"events": 10, "hits": 10, "false_accepts": 20},
    }
    assert [row["threshold"] for row in found["sweep"]] == sorted({*score.SWEEP, 0.6})
    share = (100 + 128) / 256
    for row in found["sweep"]:
        heard = row["threshold"] <= share
        assert (row["hits"], row["misses"]) == ((10, 0) if heard else (0, 10))
        assert row["false_accepts_per_hour"] == pytest.approx(240 if heard else 0)


def test_nothing_labelled_is_a_rate_and_no_misses(tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", (0, 30.0), (1, 3.0), (0, 27.0))
    found = score.measured(LoudnessBoard(), MEANT, path, [], rules=QUICK, on="here")
    assert (found["events"], found["misses"], found["miss_rate"]) == (0, 0, None)
    assert found["false_accepts_per_hour"] == pytest.approx(60)


def test_hits_count_from_the_start_to_a_second_behind_the_end() -> None:
    for seconds, hits, false in ((4.99, 0, 1), (5.0, 1, 0), (6.0, 1, 0), (7.0, 1, 0), (7.01, 0, 1)):
        tally = Tally({"bang": [Truth(5, 6, "bang")]})
        tally.hear("bang", seconds)
        assert (sum(tally.hits.values()), sum(tally.false.values())) == (hits, false), seconds


def test_an_event_counts_once_and_false_accepts_are_debounced() -> None:
    tally = Tally({"bang": [Truth(5, 6, "bang"), Truth(6.5, 7, "bang")]})
    for seconds in (5.2, 5.8, 6.8, 7.9, 20.0, 20.5, 21.0, 21.1, 30.0):
        tally.hear("bang", seconds)
    tally.hear("hum", 5.5)  # another class is no hit
    assert tally.hits == {"bang": 2}
    assert tally.repeated == 2  # 5.8 and 7.9
    assert tally.false == {"bang": 3, "hum": 1}  # 20.0, 21.1 and 30.0


@pytest.mark.parametrize(
    "text",
    [
        "1.5\t2.5\thum\n\\\t300.0\t4000.0\n4\t5\tbang\n",
        "start,end,label\n4,5,bang\n1.5,2.5,hum\n",
        "label,note,end,start\nbang,x,5,4\nhum,,2.5,1.5\n",
        "# by hand\n1.5, 2.5, hum\n\n4, 5, bang\n",
    ],
)
def test_label_files_of_each_kind(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    assert score.read_events(tmp_path / "x.txt", LABELS) == [Truth(1.5, 2.5, "hum"), Truth(4, 5, "bang")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n", r"x\.csv:1: '1,2' is not start,end,label"),
        ("1,2,hum\nx,3,hum\n", r"x\.csv:2: 'x,3,hum' is not"),
        ("3,2,hum\n", "from 3 s to 2 s is no stretch"),
        ("nan,2,hum\n", "no stretch of time"),
        ("1,inf,hum\n", "no stretch of time"),
        ("1,2,boom\n", "does not know 'boom'; known: silence, hum, bang"),
    ],
)
def test_wrong_labels_are_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        score.read_events(tmp_path / "x.csv", LABELS)


def test_recordings_that_do_not_fit_are_told(tmp_path: Path) -> None:
    short = recording(tmp_path / "short.wav", (0, 0.5))
    with pytest.raises(UserError, match=r"0\.50 s are less than a window of the model \(0\.99 s\)"):
        score.measured(LoudnessBoard(), MEANT, short, [], rules=QUICK, on="here")
    path = recording(tmp_path / "a.wav", (0, 5.0))
    with pytest.raises(UserError, match=r"ends at 50 s, .*a\.wav at 5\.00 s: another recording"):
        score.measured(LoudnessBoard(), MEANT, path, [Truth(49, 50, "hum")], rules=QUICK, on="here")


def test_an_hour_needs_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    block = np.zeros(160_000, np.int16)
    monkeypatch.setattr(audio, "file_blocks", lambda *_, **__: (block for _ in range(360)))
    tracemalloc.start()
    found = score.measured(LoudnessBoard(), MEANT, Path("day.wav"), [], rules=QUICK, on="here")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["seconds"] == 3600
    assert peak < 4 << 20


@pytest.mark.parametrize("streaming", [False, True])
def test_the_model_here_says_what_the_board_says(tmp_path: Path, streaming: bool) -> None:
    made = compiled(tmp_path / "build", "virtual-m4", streaming=streaming, softmax=not streaming)
    given: list[Samples | int] = [*blocks(noise(3)), 1234, *blocks(noise(2, seed=1), 5_000)]
    here = host_board.opened(made.path)
    assert here.meant.hop_frames == meant(made).hop_frames or not streaming
    mine = list(here.stream(given, HOP))
    with device.open(made, None) as board:
        its = list(board.stream(given, HOP))
    assert [(r.sample, r.dropped) for r in mine] == [(r.sample, r.dropped) for r in its]
    assert all(np.array_equal(a.output, b.output) for a, b in zip(mine, its, strict=True))
    assert len(mine) > 5 * FRONT.sample_rate // (HOP * FRONT.hop) - FRONT.frames


def test_the_verb_on_known_pieces(
    tiny_bundle: Path, tiny_build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, events = synthetic.scene(seed=2, events=6)
    soundfile.write(tmp_path / "scene.wav", samples, 16_000)
    lines = [f"{one.start:.3f},{one.end:.3f},{one.label}" for one in events]
    (tmp_path / "scene.csv").write_text("\n".join(["start,end,label", *lines]), encoding="utf-8")
    given = ("--recording", tmp_path / "scene.wav", "--events", tmp_path / "scene.csv", "--threshold", "0.05")
    records: list[Any] = []
    for argv in ((tiny_bundle,), (tiny_build,), (tiny_build, "--on-board")):
        code, out, err = earkit(capsys, "score", *argv, *given, "--json")
        assert code == 0, err
        records.append(json.loads(out))
    first = records[0]
    assert first["hits"] + first["misses"] == first["events"] == len(events)
    assert first["hits"] > 0
    assert [record.pop("on") for record in records] == ["host int8", "host int8", "virtual-m4 (emulated)"]
    assert records[0] == records[1] == records[2]
    code, out, _ = earkit(capsys, "score", tiny_bundle, *given)
    assert code == 0
    assert (
        f"on host int8 at threshold 0.05: {first['false_accepts_per_hour']:.2f} false accepts per hour" in out
    )


def test_a_bare_model_is_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = earkit(capsys, "score", tiny_model, "--recording", "a.wav", "--events", "a.csv")
    assert code == 1
    assert "a bare .tflite has no labels and no front end: give a bundle" in err[-1]


def drawn(*points: tuple[float, float, float]) -> list[tuple[float, float]]:
    """Return where the picture of (threshold, false accepts per hour, miss rate) puts its points."""
    sweep = [
        {"threshold": at, "misses": 0, "false_accepts_per_hour": false, "miss_rate": missed}
        for at, false, missed in points
    ]
    svg = det.picture({"events": 4, "seconds": 60.0, "on": "here", "threshold": points[0][0], "sweep": sweep})
    curve = ElementTree.fromstring(svg).find("{*}polyline")
    assert curve is not None
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in curve.attrib["points"].split())]


def test_the_picture_grows_by_decades_and_holds_no_false_accepts_apart() -> None:
    none, tenth, one, ten = drawn((0.9, 0, 1), (0.7, 0.1, 0.5), (0.5, 1, 0.25), (0.3, 10, 0))
    assert none[0] < det.LEFT + det.NONE == tenth[0]
    assert one[0] - tenth[0] == pytest.approx(ten[0] - one[0], abs=0.2)
    assert ten == (det.RIGHT, det.BOTTOM)
    assert none[1] == det.TOP
    assert one[1] - tenth[1] == pytest.approx((det.BOTTOM - det.TOP) / 4)
    assert drawn((0.5, 0, 0)) == [(det.LEFT + det.NONE / 2, det.BOTTOM)]


def test_a_picture_that_cannot_be_is_told_after_the_figures(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, events = synthetic.scene(seed=2, events=2)
    soundfile.write(tmp_path / "scene.wav", samples, 16_000)
    (tmp_path / "none.csv").write_text("start,end,label\n")
    (tmp_path / "two.csv").write_text("".join(f"{one.start},{one.end},{one.label}\n" for one in events))
    scene, place = ("score", tiny_bundle, "--recording", tmp_path / "scene.wav"), tmp_path / "det.svg"
    for file, picture, why in (
        ("none.csv", place, "without events"),
        ("two.csv", tmp_path / "absent" / "det.svg", "choose another place"),
    ):
        code, out, err = earkit(capsys, *scene, "--events", tmp_path / file, "--plot", picture)
        assert code == 1
        assert "false accepts per hour" in out
        assert why in err[-1]
        assert not picture.exists()
    code, _, _ = earkit(capsys, *scene, "--events", tmp_path / "two.csv", "--plot", place)
    assert code == 0
    assert ElementTree.parse(place).getroot().find("{*}polyline") is not None
