"""A Jetson, played by this machine: program and engine flashed and profiled, the reference beside, drawn."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boards import computers
from boards.errors import UserError
from firmware.compiler.program import Program
from kit import beside, engine, measure, pipeline, report, shelf, targets, terminal
from kit.records import Run
from kit.targets import jetson, tensorrt, wheels
from kit.targets.wheels import Wheels
from quantize import bundle as bundles
from tests import ssh_server
from tests.ssh_server import Machine
from tests.test_tensorrt import STAND_IN
from tests.test_trtexec import NEW, STATS, log

onnx = pytest.importorskip("onnx", reason="needs the train extra")
pytest.importorskip("onnxruntime", reason="needs the train extra")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

MODEL = "panns-micro-esc10"
HERE = {"x86_64": "linux-x86_64"}.get(platform.machine(), "pi4")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Program:
    compiled = pipeline.compile(shelf.find(MODEL), HERE, tmp_path_factory.mktemp("program") / MODEL)
    assert isinstance(compiled, Program)
    board = computers.load(HERE).model_copy(update={"kind": "jetson", "gpu": "sm_87"})
    return replace(compiled, board=board)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """Give a machine whose python3 is this one and whose trtexec is the stand-in."""
    with ssh_server.machine(tmp_path, monkeypatch) as here:
        programs = tmp_path / "programs"
        programs.mkdir()
        for name, script in (
            ("python3", f'exec "{sys.executable}" "$@"'),
            ("sync", ""),
            ("trtexec", f'exec "{sys.executable}" {STAND_IN} v100300 "$@"'),
        ):
            (programs / name).write_text(f"#!/bin/sh\n{script}\n")
            (programs / name).chmod(0o755)
        here.environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
        monkeypatch.setattr(wheels, "resolve", lambda _: Wheels((), litert=True))
        yield here


def test_a_bundle_is_flashed_and_profiled_with_its_reference(
    made: Program, machine: Machine, tmp_path: Path
) -> None:
    told: list[str] = []
    record = targets.flash(made, "pi", told.append)
    json.dumps(record)
    assert record["build_id"] == made.build_id
    assert record["tensorrt"]["tensorrt"] == "10.3.0"
    assert record["tensorrt"]["compared"]["inputs"] == 8
    assert "TensorRT 10.3.0, engine of" in told[-1]
    reference = full_size(tmp_path / "full.onnx")
    before = pretended(made, str(reference))
    run = targets.measured(made, before, "pi", test=heard(made))
    profile = run.profile
    assert profile is not None
    assert profile["tensorrt"]["stand_in"]
    assert profile["tensorrt"]["milliseconds"] is profile["reference"]["milliseconds"] is None
    assert profile["reference"]["tensorrt"]["version"] == "10.3.0"
    assert profile["reference"]["on_the_host"]["device"] == "this host"
    assert profile["energy"] is None
    assert "its trtexec is a stand-in: no figure of TensorRT is known" in profile["notes"]
    assert profile["accuracy"]["host_onnx"] == 1.0  # on clips named after what the model hears in them
    rows = {row.figure: row for row in beside.rows(profile)}
    assert rows["milliseconds of an inference"].device == 2.0  # the program's, which did run
    text = terminal.text_of(profile)
    assert "NaN" not in text
    assert "(a stand-in)" in report.page([run])


def full_size(path: Path) -> Path:
    """Write an ONNX for any number of windows of 39 by 40 features, with 10 outputs."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(39 * 40, 10)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 39, 40])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def pretended(made: Program, reference: str) -> Run:
    """Return the run of a profile as the program's own would be, with times that are made up."""
    profile = {
        "board": made.board.name,
        "origin": "measured",
        "unit": "nanoseconds",
        "milliseconds": 2.0,
        "origins": {"milliseconds": "measured"},
        "accuracy": {"device": 1.0, "host_int8": 1.0, "host_float": None, "full": 0.5},
        "energy": None,
        "per_op": [],
        "samples": 4,
        "mismatches": 0,
        "notes": [],
        "reference": {"name": "full", "device": "this host", "milliseconds": 3.0, "file": reference},
    }
    return Run(made.name, profile=profile)


def heard(made: Program) -> Any:
    """Return drawn clips, named after what the model's int8 form on this host hears in them."""
    from kit import heldout
    from kit import profile as profiles
    from models.frontend import FrontEnd, features
    from quantize.evaluate import Windows

    assert made.frontend is not None
    front = FrontEnd(**made.frontend)
    rng = np.random.default_rng(2)
    sounds = rng.normal(0, 3000, (6, front.samples)) * np.geomspace(0.01, 2, 6)[:, None]
    samples = sounds.clip(-32768, 32767).astype(np.int16)
    values = np.stack([features(one, front) for one in samples])
    outputs = profiles.on_host(made.window, profiles.as_input(values, made.window))
    truth = outputs.argmax(axis=1).astype(np.int64)
    windows = Windows(values, np.arange(6), truth)
    clips = heldout.HeldOut(made.labels, tuple(f"clip{i}" for i in range(6)), samples, windows)
    return measure.Test(clips, None, same=True, notes=())  # type: ignore[arg-type]


def test_without_an_engine_or_trtexec_it_is_said(made: Program, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "programs" / "trtexec").unlink()
    with pytest.raises(UserError, match="no trtexec: sudo apt install libnvinfer-bin"):
        targets.flash(made, "pi")
    with pytest.raises(UserError, match=f"pi has no {jetson.engine_name(made)}: `earkit flash`"):
        targets.measured(made, pretended(made, ""), "pi")


def test_figures_of_a_real_log_are_set_beside_and_drawn() -> None:
    said = {
        "log": log("v100300", NEW),
        "layers": '[{"count": 9}, {"name": "conv<1>", "averageMs": 0.5, "percentage": 99.5}]',
        "tegrastats": STATS,
        "state": {"nvpmodel": "NV Power Mode: 15W\n0\n", "module": "Jetson\0"},
    }
    checked = {"engine_bytes": 123456, "build_seconds": 9.0, "compared": {"decibel": 31.5, "largest": 0.125}}
    mine = tensorrt.engine(said, checked)
    slow = {**mine, "milliseconds": 12.0, "inferences_per_second": 80.0, "joules_per_inference": 0.07}
    before = {"name": "cnn14", "file": "cnn14.onnx", "device": "a CPU", "model_bytes": 4_000_000}
    profile = {
        **(pretended_profile()),
        "tensorrt": mine,
        "reference": jetson._there(before, slow, 1),
        **jetson._energy({"origins": {"milliseconds": "measured"}}, mine),
    }
    rows = {row.figure: row for row in beside.rows(profile)}
    assert rows["milliseconds of an inference"].ratio == pytest.approx(12 / 1.2)
    assert rows["inferences a second"].device == 804.136
    assert rows["joules of an inference"].ratio == pytest.approx(0.07 / (5.5 / 804.136))
    shown = {row[0]: row for row in engine.rows(profile)}
    assert shown["milliseconds, p99 of 4021 runs"][1:] == (2.5, 2.5, "measured")
    assert shown["milliseconds of kernels, median"][1] == 1.1
    page = report.page([Run("r", profile=profile)])
    for text in (
        "TensorRT 10.3.0, Jetson, 15W, tj at most 52 °C",
        "conv&lt;1&gt;",
        "31.5",
        "123,456",
        "unstable",
    ):
        assert text in page, text
    assert profile["energy"]["source"] == "tegrastats, VDD_IN"


def pretended_profile() -> dict[str, Any]:
    return {
        "board": "jetson-orin-nano",
        "origin": "measured",
        "milliseconds": 2.0,
        "flash_bytes": {"weights": 100_000, "total": 100_000},
        "accuracy": {"device": 0.8, "full": 0.9},
        "origins": {"milliseconds": "measured"},
        "per_op": [],
        "mismatches": 0,
        "samples": 4,
    }


def test_names_of_deployments_fit(made: Program) -> None:
    long = replace(made, name="x" * 90)
    for name in (jetson.engine_name(long), jetson.engine_name(made)):
        assert len(name) <= 64
    assert bundles.load(shelf.find(MODEL)).labels == made.labels
