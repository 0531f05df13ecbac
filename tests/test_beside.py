"""The device beside the reference: ratios by hand, what was heard elsewhere, and what is not known."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import earkit

from boards.errors import UserError
from kit import beside, measure, report
from models import checkpoint
from quantize import bundle as bundles
from quantize import record as records
from quantize import speed, stored_teacher, teachers
from quantize.bundle import Bundle
from quantize.speed import Facts

Capture = pytest.CaptureFixture[str]
PROFILE = {
    "origin": "measured",
    "board": "pi4",
    "milliseconds": 2.0,
    "ram_bytes": {"total": 1000},
    "flash_bytes": {"weights": 500, "code": 9, "total": 509},
    "accuracy": {"device": 0.75, "full": 0.875},
    "energy": {"joules_per_inference": 0.25},
    "origins": {"milliseconds": "measured"},
    "reference": {
        "name": "cnn14",
        "device": "a GPU",
        "parameters": 1000,
        "model_bytes": 4000,
        "milliseconds": 0.5,
        "windows_per_second": 8000.0,
        "batch": 32,
        "memory": {"host_bytes": 7, "gpu_bytes": 9000},
    },
}


def test_ratios_are_those_by_hand() -> None:
    rows = {row.figure: row for row in beside.rows(PROFILE)}
    assert {name: row.ratio for name, row in rows.items()} == {
        "bytes of the model": 8.0,
        "accuracy": 0.125,
        "milliseconds of an inference": 0.25,
        "inferences a second": 16.0,
        "bytes of memory at most": 9.0,
        "joules of an inference": None,
    }
    assert rows["accuracy"].words == "+0.125"
    assert rows["bytes of the model"].words == "× 8"
    assert {row.device_origin for row in rows.values()} == {"measured"}


def test_what_is_not_known_is_a_dash_and_never_a_number() -> None:
    full = {"name": "a teacher", "device": "keras", "parameters": 1000, "milliseconds": None}
    emulated = {"milliseconds": None, "origin": "emulated", "energy": None, "origins": {}}
    rows = {row.figure: row for row in beside.rows({**PROFILE, **emulated, "reference": full})}
    assert set(rows) == {"bytes of the model", "accuracy", "bytes of memory at most"}
    assert rows["bytes of the model"].reference == 4000
    assert rows["bytes of the model"].reference_origin == "estimated"
    assert rows["accuracy"].device_origin == "emulated"
    assert rows["bytes of memory at most"].words == "–"
    assert beside.rows({**PROFILE, "reference": None}) == []


def test_the_report_draws_it() -> None:
    page = report.page([report.Run("r", profile={**PROFILE, "per_op": [], "mismatches": 0, "samples": 4})])
    assert "Beside the reference" in page
    for text in ("cnn14, a GPU", "× 8", "4,000", "0.25 <span", "throughput is with 32 at once"):
        assert text in page, text
    assert "Beside the reference" not in report.page(
        [report.Run("r", profile={**PROFILE, "reference": None})]
    )


def test_percentiles_and_throughput_are_numpys() -> None:
    one, many = list(range(1, 101)), [40.0, 50.0, 60.0]
    said = speed.record(Facts("here", "numpy", "float32"), one, many, batch=10)
    assert said["latency"]["count"] == 100
    assert said["milliseconds"] == said["latency"]["median"] == 50.5
    assert said["latency"]["p90"] == pytest.approx(90.1)
    assert (said["batch_milliseconds"], said["windows_per_second"]) == (50.0, 200.0)
    assert speed.record(Facts("here", "numpy", "float32"), one)["windows_per_second"] == pytest.approx(
        1000 / 50.5
    )


def test_the_clock_is_right_and_the_first_calls_do_not_count() -> None:
    waits = iter([0.2] * speed.WARM_UP)
    found = speed.timed(lambda: time.sleep(next(waits, 0.002)))
    assert len(found) == speed.MOST
    assert 2 <= min(found) <= float(np.median(found)) < 100
    assert max(found) < 200  # of the slow ones none


@pytest.mark.parametrize("there", [True, False])
def test_the_device_of_each_backend_is_told(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(speed, "gpu", lambda: "a GPU")
    monkeypatch.setattr(speed, "cpu", lambda: "a CPU")
    monkeypatch.setattr(keras.distribution, "list_devices", lambda _: ["gpu:0"] * there)
    assert speed.keras_device() == ("a GPU" if there else "a CPU")
    memory = SimpleNamespace(is_available=lambda: there, max_memory_allocated=lambda: 5 << 20)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=memory))
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.setattr(keras.distribution, "list_devices", None)
    assert speed.keras_device() == ("a GPU" if there else "a CPU")
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert speed.memory()["gpu_bytes"] == (5 << 20 if there else None)


def heard(bundle: Path, path: Path, wrong: int, record: Any) -> Path:
    """Write what a perfect reference with `wrong` mistakes among the test clips said of all clips."""
    made = bundles.load(bundle)
    splits = measure.clips(made, None, None, None, lambda *_: None).splits
    names, rows = [], []
    for side in (splits.train, splits.validation, splits.test):
        names += [clip.name for clip in side.clips]
        rows += list(np.eye(len(splits.labels))[side.truth])
    for row in range(1, wrong + 1):
        rows[-row] = np.roll(rows[-row], 1)
    turned = np.roll(np.array(rows, np.float32), 1, axis=1)  # its labels stand in another order
    labels = np.roll(np.array(splits.labels), 1)
    arrays = {"names": np.array(names), "logits": turned, "labels": labels}
    checkpoint.write(path, arrays | ({} if record is None else {"record": np.array(record)}))
    return path


def test_a_reference_that_ran_elsewhere_is_set_beside(
    build: Path, tiny_bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    spoken = speed.record(Facts("a far GPU", "keras 3", "float32", 1000, 4000), [0.5, 0.5], [4.0], 32)
    said = json.dumps({"teacher": "cnn14 full", **spoken, "memory": {"host_bytes": 1, "gpu_bytes": 2}})
    path = heard(tiny_bundle, tmp_path / "far.npz", 2, said)
    code, text, errors = earkit(capsys, "profile", build, "--against", path, "--json")
    assert (code, errors) == (0, [])
    record = json.loads(text)
    count = record["samples"]
    assert record["accuracy"]["full"] == pytest.approx((count - 2) / count)
    assert record["reference"]["name"] == "cnn14 full, logits"
    assert (record["reference"]["device"], record["reference"]["milliseconds"]) == ("a far GPU", 0.5)
    rows = {row["figure"]: row for row in record["beside"]}
    assert rows["milliseconds of an inference"] == {
        "figure": "milliseconds of an inference",
        "device": None,  # an emulated board has none
        "reference": 0.5,
        "ratio": None,
        "device_origin": None,
        "reference_origin": "measured",
    }
    assert rows["inferences a second"]["reference"] == 8000
    code, text, _ = earkit(capsys, "profile", build, "--against", path)
    assert code == 0
    assert "reference: cnn14 full, logits on a far GPU" in text


def test_the_speed_of_a_stored_teacher_stays_with_the_bundle(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = measure.clips(bundles.load(tiny_bundle), None, None, None, lambda *_: None)
    spoken = json.dumps({"teacher": "big", "device": "a far GPU", "milliseconds": 1, "parameters": 7})
    arrays = stored_teacher.read(heard(tiny_bundle, tmp_path / "far.npz", 0, spoken))
    told = stored_teacher.hear(tmp_path / "far.npz", arrays, test.splits)
    assert told.what == "big, logits"
    assert told.speed is not None
    assert (told.speed["device"], told.speed["milliseconds"]) == ("a far GPU", 1.0)
    x = np.zeros((len(test.splits.train), 1, 1), np.float32)
    taught = teachers.from_file(tmp_path / "far.npz", test.splits, x, told.test)
    (stage,) = records._teacher_stage(taught, test.splits.labels)
    kept = stage.model_dump(mode="json")
    assert (kept["runtime"], kept["parameters"], kept["speed"]["milliseconds"]) == ("a far GPU", 7, 1.0)
    monkeypatch.setattr(Bundle, "evaluation", lambda _: {"metric": "accuracy", "stages": [kept]})
    full = measure.full_size(bundles.load(tiny_bundle), replace(test, same=True), "full", lambda *_: None)
    assert full.score == kept["accuracy"] == 1.0
    assert full.where is not None
    assert (full.where["device"], full.where["milliseconds"]) == ("a far GPU", 1.0)


SPEED = '{"device": "x", "milliseconds": 1, '


@pytest.mark.parametrize(
    "record",
    [
        *("no JSON", "[]", '{"device": 1}', '{"device": "x", "milliseconds": "y"}', "[" * 100_000),
        *('{"device": "x", "milliseconds": NaN}', f'{{"device": "x", "milliseconds": {"9" * 400}}}'),
        *(
            f'{SPEED}"model_bytes": "x"}}',
            f'{SPEED}"parameters": [1]}}',
            f'{SPEED}"windows_per_second": {{}}}}',
        ),
        *(f'{SPEED}"memory": 7}}', f'{SPEED}"memory": {{"gpu_bytes": "x"}}}}', f'{SPEED}"batch": "x"}}'),
    ],
)
def test_a_damaged_record_is_named(record: str, tiny_bundle: Path, tmp_path: Path) -> None:
    test = measure.clips(bundles.load(tiny_bundle), None, None, None, lambda *_: None)
    path = heard(tiny_bundle, tmp_path / "far.npz", 0, record)
    with pytest.raises(UserError, match="its `record` is damaged: run `earkit reference` again"):
        measure.full_size(bundles.load(tiny_bundle), test, str(path), lambda *_: None)


def test_without_a_record_the_score_is_there_and_the_speed_is_not(tiny_bundle: Path, tmp_path: Path) -> None:
    made = bundles.load(tiny_bundle)
    test = measure.clips(made, None, None, None, lambda *_: None)
    path = heard(tiny_bundle, tmp_path / "far.npz", 0, None)
    full = measure.full_size(made, test, str(path), lambda *_: None)
    assert full.score == 1.0
    assert full.where is not None
    assert full.where["milliseconds"] is None
    assert "run `earkit reference` again" in full.notes[0]
    some = replace(test.splits, train=replace(test.splits.train, clips=test.splits.train.clips[:1]))
    assert measure.full_size(made, replace(test, splits=some), str(path), lambda *_: None).score == 1.0
