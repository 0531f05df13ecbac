"""The left half of the road on few clips: stages, resuming, teachers, errors, cross-validation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import small_nets
from small_nets import tflm

from boards.errors import UserError
from models import checkpoint
from quantize import bundle, compress, cross_validate, export, int8, prepare, teachers
from quantize.bundle import Bundle
from quantize.cache import Cache
from quantize.evaluate import Evaluation, Windows
from quantize.stages import Work

FEW: dict[str, Any] = {"clips_per_class": 8, "epochs": 1, "seed": 5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compress")


@pytest.fixture(scope="module")
def made(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """Give a bundle that was interrupted twice on its way, with a teacher, pruned and quantised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EARKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield from interrupted(place)


def interrupted(place: Path) -> Iterator[Bundle]:
    stages: list[str] = []

    def interrupt(at: str) -> Any:
        def progress(stage: str, done: int, _total: int) -> None:
            stages.append(stage)
            if stage == at and done:
                raise KeyboardInterrupt

        return progress

    out = place / "made"
    for stage in ("train the teacher (panns lite)", "prune"):
        with pytest.raises(KeyboardInterrupt):
            compress.compress(
                "panns", "micro", "synthetic", out=out, teacher="lite", progress=interrupt(stage), **FEW
            )
        assert not out.exists()
    stages.clear()
    yield compress.compress(
        "panns", "micro", "synthetic", out=out, teacher="lite", progress=interrupt("never"), **FEW
    )
    assert not {"features for training", "train the teacher (panns lite)", "distil"} & set(stages)


def test_bundle_holds_the_whole_road(made: Bundle, place: Path) -> None:
    assert [path.name for path in place.iterdir()] == ["made"]  # the work folder is gone
    assert set(made.files) == bundle.KNOWN
    evaluation = Evaluation.model_validate_json(made.read(bundle.EVALUATION))
    assert [stage.name for stage in evaluation.stages] == ["full", "distilled", "pruned", "int8"]
    sizes = [stage.parameters or 0 for stage in evaluation.stages]
    assert sizes[0] > sizes[1] > sizes[2] == sizes[3] > 0
    assert np.sum(evaluation.confusion) == evaluation.stages[-1].samples == evaluation.data.test
    assert evaluation.data.clips_per_class == 8
    assert made.provenance.teacher == "panns/lite"
    assert made.provenance.data_sha256 == evaluation.data.sha256


def test_expected_outputs_are_tflms_own(made: Bundle) -> None:
    expected = made.arrays(bundle.EXPECTED)
    assert len(expected["inputs"]) >= 4
    answers = tflm(made.model(), expected["inputs"])
    np.testing.assert_array_equal(answers.reshape(len(answers), -1), expected["outputs"])


def test_test_clips_can_be_found_again_and_give_the_same_confusion(made: Bundle, tmp_path: Path) -> None:
    record = Evaluation.model_validate_json(made.read(bundle.EVALUATION))
    splits = prepare.load(
        record.data.source,
        held_out=record.data.held_out,
        seed=record.data.split_seed,
        clips_per_class=record.data.clips_per_class,
    )
    assert splits.record == record.data
    test = prepare.test_windows(splits, made.frontend, Cache(tmp_path), lambda *_: None)
    from models import frontend

    scaling = made.inputs[0]
    x = frontend.quantise(test.values, scaling.scale, scaling.zero_point)
    outputs = tflm(made.model(), x).reshape(len(x), -1)
    right = int((test.choices(outputs) == test.truth).sum())
    assert right == np.trace(record.confusion)


def test_float_model_and_config_are_of_the_same_net(made: Bundle) -> None:
    from models import registry
    from models.blocks import cost

    family = registry.load(made.family)
    net = family.net(family.from_dict(made.config), len(made.labels))
    evaluation = made.evaluation()
    assert cost.parameters(net) == evaluation["stages"][-1]["parameters"]
    features = made.arrays(bundle.CALIBRATION)["features"]
    assert int8.sqnr_db(int8.run(made.read(bundle.FLOAT), features), int8.run(made.model(), features)) > 15


def test_teachers_logits_can_come_from_a_file(tmp_path: Path) -> None:
    splits = prepare.load("synthetic", held_out=None, seed=5, clips_per_class=8)
    names = np.array([clip.name for clip in splits.train.clips])
    logits = np.random.default_rng(0).normal(size=(len(names), 13)).astype(np.float32)
    test = Windows(np.zeros((1, 2, 3), np.int32), np.zeros(1, np.int64), np.zeros(1, np.int64))
    mixed = np.random.default_rng(1).permutation(len(names))
    checkpoint.write(tmp_path / "t.npz", {"names": names[mixed], "logits": logits[mixed]})
    x = np.zeros((2 * len(names), 2, 3), np.float32)
    teacher = teachers.from_file(tmp_path / "t.npz", splits, x, test)
    np.testing.assert_array_equal(teacher.logits, np.tile(logits, (2, 1)))  # in the order of the clips
    assert teacher.test_outputs is None
    checkpoint.write(tmp_path / "less.npz", {"names": names[1:], "logits": logits[1:]})
    with pytest.raises(UserError, match="says nothing of 1 of"):
        teachers.from_file(tmp_path / "less.npz", splits, x, test)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx", ".keras"])
def test_teachers_of_every_format_say_the_same(suffix: str, tmp_path: Path) -> None:
    net = small_nets.model("attentive")
    path = tmp_path / f"t{suffix}"
    if suffix == ".keras":
        net.save(path)
    else:
        write = export.float_tflite if suffix == ".tflite" else export.float_onnx
        write(net, path, worker=small_nets.worker())
    x = small_nets.samples(3)
    splits = SimpleNamespace(labels=tuple("abcde"))
    test = Windows((x * 65536).astype(np.int32), np.arange(3), np.zeros(3, np.int64))
    teacher = teachers.from_file(path, splits, x, test)  # type: ignore[arg-type]
    np.testing.assert_allclose(teacher.logits, net.predict_on_batch(x), atol=1e-4)
    assert teacher.test_outputs is not None
    np.testing.assert_allclose(teacher.test_outputs, teacher.logits, atol=1e-2)
    with pytest.raises(UserError, match="takes no features of shape"):
        teachers.from_file(path, splits, x[:, :, :4], test)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="the data has 2 classes"):
        teachers.from_file(path, SimpleNamespace(labels=("a", "b")), x, test)  # type: ignore[arg-type]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "family": ({"family": "pans"}, "did you mean 'panns'"),
    "size": ({"size": "micra"}, "did you mean 'micro'"),
    "keep": ({"keep": 0.0}, "keep 0"),
    "epochs": ({"epochs": 0}, "epochs 0"),
    "seconds": ({"seconds": 1000.0}, "seconds 1000"),
    "teacher": ({"teacher": "large"}, "teacher large: give full, .*, none, FAMILY/SIZE, or a file"),
    "teacher file": ({"teacher": "missing.onnx"}, "missing.onnx"),
    "data": ({"data": "/no/such/place"}, "no data at"),
    "held out": ({"held_out": "kitchen"}, "nothing to hold out is called 'kitchen'"),
    "clips": ({"data": ".", "clips_per_class": 3}, "synthetic set only"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused_before_anything_is_written(case: str, tmp_path: Path) -> None:
    changes, message = BAD[case]
    values: dict[str, Any] = {"family": "panns", "size": "micro", "data": "synthetic", **FEW, **changes}
    if "data" in changes and "clips_per_class" not in changes:
        values["clips_per_class"] = None
    family, size, data = (values.pop(name) for name in ("family", "size", "data"))
    with pytest.raises(UserError, match=message) as caught:
        compress.compress(family, size, data, out=tmp_path / "b", **values)
    assert "\n" not in str(caught.value)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["t.keras", "t.onnx", "t.tflite", "t.npz"])
def test_a_damaged_teacher_is_refused_before_the_work(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"not a model at all")
    with pytest.raises(UserError, match=name.replace(".", r"\.")) as caught:
        compress.compress("panns", "micro", "synthetic", out=tmp_path / "b", teacher=tmp_path / name, **FEW)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_something_else_at_the_output_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not a bundle"):
        compress.compress("panns", "micro", "synthetic", out=tmp_path, **FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damaged_stage_files_are_made_again(tmp_path: Path) -> None:
    work = Work(tmp_path / "out", "a" * 64)
    work.arrays("stage", lambda: {"x": np.arange(3)})
    (work.folder / "stage.npz").write_bytes(b"PK half a file")
    np.testing.assert_array_equal(work.arrays("stage", lambda: {"x": np.arange(4)})["x"], np.arange(4))
    np.testing.assert_array_equal(work.arrays("stage", lambda: {"x": np.arange(5)})["x"], np.arange(4))
    work.done()
    assert not any(tmp_path.iterdir())


def test_a_clips_answer_is_the_mean_over_its_windows() -> None:
    clips = Windows(np.zeros((3, 1, 1), np.int32), np.array([0, 0, 1]), np.array([1, 0]))
    outputs = np.array([[3, 0], [0, 4], [1, 0]], np.int8)
    np.testing.assert_array_equal(clips.choices(outputs), [1, 0])
    np.testing.assert_array_equal(clips.means(outputs), [[1.5, 2.0], [1.0, 0.0]])
    assert clips.score(outputs) == 1.0


def test_cross_validation_counts_folds_and_clips() -> None:
    def record(accuracy: float, samples: int, confusion: list[list[int]]) -> dict[str, Any]:
        stage = {"name": "int8", "what": "w", "accuracy": accuracy, "samples": samples, "parameters": 10}
        return {"stages": [stage], "labels": ["a", "b"], "confusion": confusion}

    summary = cross_validate.summarise(
        {"1": record(1.0, 1, [[1, 0], [0, 0]]), "2": record(0.5, 4, [[1, 1], [1, 1]])}
    )
    row = summary["stages"]["int8"]
    assert (row["mean"], row["pooled"], row["samples"]) == (0.75, 0.6, 5)
    assert row["deviation"] == pytest.approx(np.std([1.0, 0.5], ddof=1))
    assert summary["confusion"] == [[2, 1], [1, 1]]
    assert json.loads(json.dumps(summary)) == summary
