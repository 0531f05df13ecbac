"""Values instead of classes: manifests, the kit's own set, training, distilling, int8, board, report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from boards.errors import UserError
from kit import listen, pipeline, report, runs
from models import data, tasks
from models.blocks import ccc
from models.data import affect
from quantize import bundle, compress, cross_validate
from quantize.bundle import Bundle
from quantize.evaluate import ValueEvaluation, Windows

FEW: dict[str, Any] = {"clips_per_class": 4, "epochs": 1, "seed": 5}
TARGETS = ("arousal", "dominance", "valence")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """Give a regression bundle, distilled and pruned."""
    place = tmp_path_factory.mktemp("regression")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARKIT_CACHE", str(place / "cache"))
        yield compress.compress(
            "tiny_transformer", "micro", "synthetic-affect", out=place / "b", teacher="lite", **FEW
        )


@pytest.fixture(scope="module")
def build(made: Bundle) -> Path:
    """Give its firmware."""
    out = made.path.parent / "build"
    pipeline.compile(made.path, "virtual-m7", out)
    return out


def test_the_kits_own_set_is_what_its_formula_says() -> None:
    whole = data.load("synthetic-affect", seed=2, clips_per_class=3)
    assert whole.labels == TARGETS
    assert whole.regression
    assert len(whole) == 3 * affect.SPEAKERS
    how = affect.manner(2, 5, 1)
    clip = next(clip for clip in whole.clips if clip.name == "speaker-05/00001")
    arousal = 0.5 * how.effort + 0.3 * how.pace + 0.2 * how.pitch
    wanted = (arousal, 0.6 * how.effort - 0.4 * how.pitch, 0.7 * how.melody + 0.3 * how.smile)
    assert clip.values == pytest.approx(wanted)
    again = data.load("synthetic-affect", seed=2, clips_per_class=3)
    assert whole.sha256() == again.sha256() != data.load("synthetic-affect", clips_per_class=3).sha256()
    sounds = [next(c for c in s.clips if c.name == clip.name).samples(16_000) for s in (whole, again)]
    np.testing.assert_array_equal(*sounds)
    assert sounds[0].dtype == np.int16
    assert sounds[0].size == 32_000
    assert clip.samples(8_000).size == 16_000


def test_speakers_are_split() -> None:
    parts = data.load("synthetic-affect", clips_per_class=4).split("2")
    groups = [{clip.group for clip in part.clips} for part in parts]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert all(groups)
    assert not parts[0].warnings


def test_effort_can_be_heard() -> None:
    rng, who = np.random.default_rng(0), affect.Speaker(140.0, 1.0, 0.0, 1.0)
    tilts = []
    for effort in (-1.0, 1.0):
        how = affect.Manner(effort, 0.0, 0.0, 0.0, 0.0)
        power = np.abs(np.fft.rfft(affect.voice(how, who, 32_000, 16_000, rng))) ** 2
        tilts.append(power[4_000:10_000].sum() / power[200:2_000].sum())  # 2…5 kHz against 0.1…1 kHz
    assert tilts[1] > 2 * tilts[0]


def manifest(place: Path, head: str, rows: list[str]) -> Path:
    for number in range(6):
        sound = np.random.default_rng(number).normal(0, 0.1, 8_000)
        soundfile.write(place / f"{number}.wav", sound, 16_000, subtype="PCM_16")
    table = place / "manifest.csv"
    table.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return place


def test_columns_of_numbers_are_targets(tmp_path: Path) -> None:
    rows = [f"{n}.wav,{n / 10},speaker{n // 2},{-n}" for n in range(6)]
    whole = data.load(manifest(tmp_path, "path,target:calm,group,target:joy", rows))
    assert whole.labels == ("calm", "joy")
    np.testing.assert_allclose(whole.truth[3], [0.3, -3.0], rtol=1e-6)
    assert whole.folds == ("speaker0", "speaker1", "speaker2")
    assert whole.truth.dtype == np.float32


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("loud", "line 3: target:calm 'loud' is not a number"),
        ("nan", "line 3: target:calm 'nan' is not finite"),
        ("", "line 3: target:calm '' is not a number"),
        ("0.5", "target:calm is the same in every clip"),
    ],
)
def test_targets_that_are_none(cell: str, message: str, tmp_path: Path) -> None:
    rows = [f"{n}.wav,{cell if n == 1 else 0.5}" for n in range(6)]
    with pytest.raises(UserError, match=message) as caught:
        data.load(manifest(tmp_path, "path,target:calm", rows))
    assert "\n" not in str(caught.value)


def test_one_clip_with_two_values_is_refused(tmp_path: Path) -> None:
    rows = ["0.wav,0.1", "1.wav,0.2", "0.wav,0.3"]
    with pytest.raises(UserError, match=r"line 4: 0.wav is .*0.3.* here and .*0.1.* before"):
        data.load(manifest(tmp_path, "path,target:calm", rows))


def test_a_clips_values_are_the_mean_over_its_windows() -> None:
    truth = np.array([[0.0], [1.0], [2.0]], np.float32)
    clips = Windows(np.zeros((4, 1, 1), np.int32), np.array([0, 0, 1, 2]), truth)
    outputs = np.array([[-1.0], [1.0], [1.0], [2.0]])
    assert clips.score(outputs) == pytest.approx(1.0)
    assert tasks.of(truth) is tasks.VALUES
    assert tasks.of(np.array([0, 1])) is tasks.CLASSES


def test_bundle_says_what_it_is(made: Bundle) -> None:
    record = ValueEvaluation.model_validate_json(made.read(bundle.EVALUATION))
    assert (record.metric, record.labels, made.task, made.labels) == ("ccc", TARGETS, "regression", TARGETS)
    assert [stage.name for stage in record.stages[:3]] == ["full", "distilled", "pruned"]
    for stage in record.stages:
        assert stage.ccc == pytest.approx(np.mean(list(stage.per_target.values())))
        assert tuple(stage.per_target) == TARGETS
    assert "accuracy" not in json.loads(made.read(bundle.EVALUATION))["stages"][0]
    assert record.data.clips_per_class == 4


def test_board_equals_host_and_says_concordance(made: Bundle, build: Path) -> None:
    run = pipeline.profile(build)
    profile: dict[str, Any] = dict(run.profile or {})
    assert profile["mismatches"] == 0
    assert "accuracy" not in profile
    assert profile["ccc"]["device"] == profile["ccc"]["host_int8"]
    int8 = made.evaluation()["stages"][-1]["ccc"]  # of the graph before fusion, which may differ by a step
    assert profile["ccc"]["device"] == pytest.approx(int8, abs=0.02)
    assert profile["origins"]["ccc.device"] == "emulated"
    assert profile["ccc"]["full"] == made.evaluation()["stages"][0]["ccc"]
    out = build.parent / "run"
    runs.save(run, out)
    page = out / "r.html"
    report.write([runs.load(out)], page)
    text = page.read_text(encoding="utf-8")
    assert "Concordance" in text
    assert "Confusion" not in text


def test_listening_gives_values_without_events(build: Path) -> None:
    from firmware.compiler import build as compiler

    meant = listen.meaning(compiler.load(build))
    assert meant.values
    assert meant.labels == TARGETS
    said = np.array([-128, 0, 127], np.int8)
    wanted = (said.astype(np.float32) - meant.zero_point) * np.float32(meant.scale)
    np.testing.assert_allclose(meant.probabilities(said), wanted)
    detector = listen.Detector(meant, listen.Rules(threshold=0.0))
    detector.step(meant.fe.samples, np.ones(3, np.float32))
    assert not detector.events


def test_summary_of_folds_names_the_metric() -> None:
    stage = {"name": "int8", "what": "w", "ccc": 0.5, "samples": 2, "parameters": 10}
    record = {"metric": "ccc", "stages": [stage], "labels": list(TARGETS)}
    summary = cross_validate.summarise({"1": record, "2": record})
    assert (summary["metric"], summary["stages"]["int8"]["mean"]) == ("ccc", 0.5)
    assert "confusion" not in summary


def test_profile_refuses_data_with_other_targets(build: Path, tmp_path: Path) -> None:
    rows = [f"{n}.wav,{n},speaker{n}" for n in range(6)]
    place = manifest(tmp_path, "path,target:calm,group", rows)
    with pytest.raises(UserError, match="target 'calm' is unknown to the model"):
        pipeline.profile(build, data=str(place))


def test_concordance_is_learnt() -> None:
    import keras

    from models import train
    from quantize.distil import distil

    def net() -> Any:
        inputs = keras.Input((4, 6))
        flat = keras.layers.Flatten()(inputs)
        return keras.Model(inputs, keras.layers.Dense(2, name="logits")(flat))

    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4, 6)).astype(np.float32)
    y = (x.reshape(300, 24) @ rng.normal(size=(24, 2)) / 5).astype(np.float32)
    recipe = train.Recipe(epochs=20, batch=32, learning_rate=2e-2)
    alone, taught = train.seeded(net, 0), train.seeded(net, 1)
    history = train.fit_on_arrays(alone, x, y, (x, y), recipe=recipe, seed=0)
    assert history.validation_score[-1] > 0.9
    distil(taught, alone, x, y, (x, y), recipe=recipe, seed=0)
    assert ccc.concordance(y, train.predict(taught, x)).mean() > 0.9
    slopes = train.gradients(alone, [(x[:64], y[:64])])
    assert np.isfinite(slopes[0]["logits/kernel"]).all()
