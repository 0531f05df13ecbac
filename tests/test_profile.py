"""Profile: every figure against an outside oracle or the file on disk, its origin, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_writer
from conftest import VIRTUAL, earkit

from boards.errors import UserError
from kit import figures, heldout, measure, profile, reference, runs
from kit.device import Device
from quantize import bundle as bundles
from quantize.speed import Facts

Capture = pytest.CaptureFixture[str]
ORIGINS = {"measured", "emulated", "estimated"}


@pytest.fixture(scope="session")
def clips(tiny_bundle: Path) -> heldout.HeldOut:
    return measure.clips(bundles.load(tiny_bundle), None, None, None, lambda *_: None).clips


@pytest.fixture(scope="session")
def profiled(tiny_build: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Give the record of the tiny bundle, and its run on disk."""
    from kit import pipeline

    out = tmp_path_factory.mktemp("runs") / "tiny"
    run = pipeline.profile(tiny_build)
    runs.save(run, out)
    assert run.profile is not None
    return dict(run.profile), out


def test_json_is_the_contract(build: Path, capsys: Capture) -> None:
    code, text, err = earkit(capsys, "profile", build, "--samples", "4", "--json")
    assert (code, err) == (0, [])
    record = json.loads(text)
    assert set(record) >= {
        "origin",
        "instructions",
        "cycles",
        "milliseconds",
        "per_op",
        "ram_bytes",
        "flash_bytes",
    }
    assert set(record["accuracy"]) == {"device", "host_int8", "host_float", "full"}
    assert (record["samples"], record["mismatches"], record["first_mismatch"]) == (4, 0, None)
    assert (record["origin"], record["cycles"], record["milliseconds"]) == ("emulated", None, None)
    for row in record["per_op"]:
        assert set(row) >= {"name", "op", "macs", "instructions"}
    assert json.loads(Path("runs/build/profile.json").read_text()) == record


def test_accuracies_are_those_of_the_oracles(
    profiled: tuple[dict[str, Any], Path], clips: heldout.HeldOut, tiny_build: Path, tiny_bundle: Path
) -> None:
    record, _ = profiled
    from firmware.compiler import build as builds
    from models import frontend

    inputs = profile.as_input(clips.windows.values, builds.load(tiny_build).graph)
    model = (tiny_build / "model.tflite").read_bytes()
    said = np.concatenate([tflite_writer.invoke(model, one)[0] for one in inputs])  # TFLM's word
    right = float((said.argmax(axis=1) == clips.windows.truth).mean())
    assert record["accuracy"]["device"] == record["accuracy"]["host_int8"] == right
    assert right > 2 / len(clips.labels), "at chance level this test would say nothing"
    net = reference.load(tiny_bundle / bundles.FLOAT)
    logits = reference.run(net, frontend.to_float(clips.windows.values))
    assert record["accuracy"]["host_float"] == float((logits.argmax(axis=1) == clips.windows.truth).mean())
    assert record["accuracy"]["full"] == 0.9  # as eval.json of the fixture says
    assert record["samples"] == len(clips.names)
    assert record["mismatches"] == 0


def test_every_figure_has_its_origin(profiled: tuple[dict[str, Any], Path]) -> None:
    rows = figures.single(profiled[0])
    assert len(rows) > 10
    for name, value, origin in rows:
        assert value is not None, name
        assert origin in ORIGINS, name


def test_counts_are_plausible_and_memory_is_proven(
    profiled: tuple[dict[str, Any], Path], tiny_build: Path
) -> None:
    record, _ = profiled
    per_op = sum(row["instructions"] for row in record["per_op"])
    macs = sum(row["macs"] for row in record["per_op"])
    assert macs == record["macs"] == 33 * 16 * 13
    assert macs < per_op <= record["instructions"] < 20 * macs
    assert record["frontend"]["instructions"] > 33 * 512  # each frame looks at each sample
    ram = record["ram_bytes"]
    assert 0 < ram["stack_high_water"] <= ram["stack"]
    assert record["guards_intact"] is True
    assert record["flash_bytes"]["total"] == (tiny_build / "firmware.bin").stat().st_size


def test_counts_are_exact_and_repeat(
    build: Path, profiled: tuple[dict[str, Any], Path], capsys: Capture
) -> None:
    again = json.loads(earkit(capsys, "profile", build, "--json")[1])
    assert again["instructions"] == profiled[0]["instructions"]
    assert again["per_op"] == profiled[0]["per_op"]


@pytest.mark.parametrize("board", VIRTUAL)
def test_bare_model_agrees_with_the_host_on_every_board(
    board: str, tiny_model: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "b"
    assert earkit(capsys, "compile", tiny_model, "--board", board, "-o", out)[0] == 0
    code, text, err = earkit(capsys, "profile", out, "-o", tmp_path / "run", "--json")
    assert (code, err) == (0, [])
    record = json.loads(text)
    assert record["board"] == board
    assert record["mismatches"] == 0
    assert record["samples"] == profile.RANDOM + 4
    assert set(record["accuracy"].values()) == {None}


def test_liar_of_a_board_is_found_and_named(
    build: Path, clips: heldout.HeldOut, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    honest, asked = Device.infer, [0]

    def infer(self: Device, x: Any) -> Any:
        asked[0] += 1
        said = honest(self, x).copy()
        if asked[0] == 3:
            said[5] ^= 1
        return said

    monkeypatch.setattr(Device, "infer", infer)
    record = json.loads(earkit(capsys, "profile", build, "--json")[1])
    assert record["mismatches"] == 1
    first = record["first_mismatch"]
    assert (first["sample"], first["what"], first["index"]) == (clips.names[2], "output", [5])
    assert first["device"] == first["host"] ^ 1


def test_front_end_that_differs_is_found(
    build: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    honest = Device.features

    def features(self: Device, samples: Any) -> Any:
        made = honest(self, samples).copy()
        made[7, 3] ^= 1
        return made

    monkeypatch.setattr(Device, "features", features)
    record = json.loads(earkit(capsys, "profile", build, "--samples", "3", "--json")[1])
    assert record["mismatches"] == 3
    assert (record["first_mismatch"]["what"], record["first_mismatch"]["index"]) == ("feature", [0, 7, 3])


def test_against_a_file_runs_it_on_the_host(build: Path, tiny_bundle: Path, capsys: Capture) -> None:
    model = tiny_bundle / bundles.FLOAT
    record = json.loads(earkit(capsys, "profile", build, "--against", model, "--json")[1])
    assert record["accuracy"]["full"] == record["accuracy"]["host_float"]
    assert record["reference"]["milliseconds"] > 0
    assert "CPU" in record["reference"]["device"]


def test_figure_of_the_teacher_is_not_used_for_other_clips(build: Path, capsys: Capture) -> None:
    record = json.loads(earkit(capsys, "profile", build, "--samples", "3", "--json")[1])
    assert record["accuracy"]["full"] is None
    assert any("--against FILE" in note for note in record["notes"])


def folder_of(labels: dict[str, int]) -> Path:
    import soundfile

    rng = np.random.default_rng(4)
    for label, count in labels.items():
        Path("data", label).mkdir(parents=True)
        for take in range(count):
            sound = rng.integers(-3_000, 3_000, 16_000).astype(np.int16)
            soundfile.write(Path("data", label, f"{take}.wav"), sound, 16_000)
    return Path("data")


def clips_of(bundle: Path, data: str | None, held_out: str | None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the clips of a bundle that held one room out, from a folder that is not here."""
    made = bundles.load(bundle)
    evaluation = made.evaluation()
    evaluation["data"] |= {"held_out": "room-03", "source": "not-here"}
    monkeypatch.setattr(bundles.Bundle, "evaluation", lambda _: evaluation)
    return measure.clips(made, data, held_out, None, lambda *_: None)


@pytest.mark.parametrize(("asked", "room"), [(None, "room-03"), ("room-01", "room-01")])
def test_what_the_bundle_held_out_is_held_out_of_named_data_too(
    asked: str | None, room: str, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = clips_of(tiny_bundle, "synthetic", asked, monkeypatch)
    assert test.record["held_out"] == room
    assert {clip.fold for clip in test.splits.test.clips} == {room}


def test_data_without_that_fold_is_dealt(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    test = clips_of(tiny_bundle, str(folder_of({"alarm": 9, "bark": 9})), None, monkeypatch)
    assert test.record["held_out"] is None


def test_clips_that_are_not_here_are_asked_for(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"tested with are not here \(not-here\); --data names them"):
        clips_of(tiny_bundle, None, None, monkeypatch)


def test_other_data_is_used_and_said(build: Path, capsys: Capture) -> None:
    data = folder_of({"alarm": 9, "bark": 9})
    code, text, err = earkit(capsys, "profile", build, "--data", data, "--json")
    assert (code, err) == (0, [])
    record = json.loads(text)
    assert record["mismatches"] == 0
    assert record["accuracy"]["full"] is None
    assert any("is not the data that the bundle was made from" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--data", "strange"], "unknown to the model"),
        (["--held-out", "room-99"], "room-99"),
        (["--against", "no.keras"], "no.keras"),
        (["--against", "x.pkl"], "a .keras, .onnx or .tflite is needed"),
        (["--against", "text.tflite"], "text.tflite: cannot be read"),
        (["--against", "wide.tflite"], "takes inputs of (9,)"),
        (["-o", "file"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_refused(options: list[str], text: str, build: Path, capsys: Capture) -> None:
    if options[1] == "strange":
        folder_of({"alarm": 9, "yodelling": 9}).rename("strange")
    for name in ("x.pkl", "text.tflite", "file"):
        Path(name).write_text("x")
    Path("wide.tflite").write_bytes(wide_model())
    before = sorted(Path().glob("*"))
    code, out, err = earkit(capsys, "profile", build, *options, "--json")
    assert (code, out, len(err)) == (1, "", 1), err
    assert text in err[0]
    assert sorted(Path().glob("*")) == before


def wide_model() -> bytes:
    x = tflite_writer.Value("x", (1, 9), "float32")
    y = tflite_writer.Value("y", (1, 9), "float32")
    return tflite_writer.model([x], [tflite_writer.Op("LOGISTIC", [x], [y])], [], [y])


def test_bare_model_has_nothing_to_do_with_data(tiny_model: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "b"
    assert earkit(capsys, "compile", tiny_model, "--board", "virtual-m4", "-o", out)[0] == 0
    code, _, err = earkit(capsys, "profile", out, "--data", "synthetic")
    assert (code, len(err)) == (1, 1)
    assert "compile a bundle" in err[0]


def test_run_survives_the_disk_and_makes_a_report(
    profiled: tuple[dict[str, Any], Path], tmp_path: Path, capsys: Capture
) -> None:
    record, folder = profiled
    loaded = runs.load(folder)
    assert json.loads(json.dumps(record)) == loaded.profile
    assert loaded.memory is not None
    assert loaded.memory["arena_bytes"] == record["ram_bytes"]["arena"]
    assert len(loaded.memory["steps"]) > 0
    assert np.sum(loaded.confusion["counts"]) == record["samples"]  # type: ignore[index]
    page = tmp_path / "deep" / "report.html"
    code, text, err = earkit(capsys, "report", folder, "-o", page, "--json")
    assert (code, err) == (0, [])
    assert json.loads(text)["bytes"] == page.stat().st_size
    assert "virtual-m4" in page.read_text()


SPOILT: dict[str, Callable[[Path], object]] = {
    "no profile": lambda run: (run / "profile.json").unlink(),
    "cut profile": lambda run: (run / "profile.json").write_text('{"origin": "emul'),
    "a list": lambda run: (run / "profile.json").write_text("[1, 2]"),
    "empty object": lambda run: (run / "profile.json").write_text('{"accuracy": 7}'),
    "cut run.json": lambda run: (run / "run.json").write_text("{"),
    "nested too deep": lambda run: (run / "run.json").write_text("[" * 100_000),
    "bad listening": lambda run: (run / "listening.npz").write_bytes(b"PK\x03\x04nothing"),
    "a file": lambda run: (shutil.rmtree(run), run.write_text("x")),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_damaged_run_is_one_line(
    spoil: Callable[[Path], object], profiled: tuple[dict[str, Any], Path], tmp_path: Path, capsys: Capture
) -> None:
    run = Path(shutil.copytree(profiled[1], tmp_path / "run"))
    spoil(run)
    code, out, err = earkit(capsys, "report", run, "-o", tmp_path / "report.html", "--json")
    assert (code, out, len(err)) == (1, "", 1), err
    assert not (tmp_path / "report.html").exists()


def test_first_difference_is_none_when_there_is_none() -> None:
    zeros = np.zeros((2, 3), np.int8)
    trial = profile.Trial(["a", "b"], zeros, None, zeros, zeros)
    assert trial.first is None
    assert not trial.wrong.any()
    other = zeros.copy()
    other[1, 2] = 4
    trial = profile.Trial(["a", "b"], zeros, None, other, zeros)
    assert trial.wrong.tolist() == [False, True]
    assert trial.first == {"sample": "b", "what": "output", "index": [2], "device": 4, "host": 0}


def test_reference_refuses_numbers_that_are_none() -> None:
    bad = reference.Reference("bad", (None,), lambda x: x / np.float32(0), Facts("here", "numpy", "float32"))
    with pytest.raises(UserError, match="NaN or infinite"), np.errstate(all="ignore"):
        reference.run(bad, np.zeros((2, 3), np.float32))


def test_onnx_reference_agrees_with_numpy(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the train extra")
    pytest.importorskip("onnxruntime", reason="needs the train extra")
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    inputs = np.random.default_rng(1).normal(size=(70, 6)).astype(np.float32)
    outputs = reference.run(reference.load(tmp_path / "m.onnx"), inputs)
    np.testing.assert_allclose(outputs, inputs @ weights, rtol=1e-5, atol=1e-5)  # float32 sums of 6
    (tmp_path / "bad.onnx").write_bytes(b"not a graph")
    with pytest.raises(UserError, match="cannot be read as onnx"):
        reference.load(tmp_path / "bad.onnx")


def test_full_disk_leaves_no_run(build: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def full(self: Path, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    code, out, err = earkit(capsys, "profile", build, "--samples", "2", "-o", "run", "--json")
    assert (code, out, len(err)) == (1, "", 1)
    assert "disk is full" in err[0]
    assert [path.name for path in Path().iterdir()] == ["build"]
