"""Engines on another machine over the real `ssh`, built by a stand-in trtexec that knows no times."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boards.errors import UserError
from kit.targets import deploy, tensorrt, trtexec
from kit.targets.ssh import Remote
from tests import ssh_server
from tests.ssh_server import Machine
from tests.test_trtexec import NEW, STATS, log

onnx = pytest.importorskip("onnx", reason="needs the train extra")
pytest.importorskip("onnxruntime", reason="needs the train extra")

STAND_IN = Path(__file__).with_name("trtexec_stand_in.py")
NAME = "dog-tensorrt"


@pytest.fixture
def jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with ssh_server.machine(tmp_path, monkeypatch) as made:
        install(made, "v100300")
        yield made


def install(machine: Machine, version: str | None, before: str = "") -> None:
    """Put TensorRT of a version there, or take it away; `before` is done by it first."""
    place = machine.home / "bin"
    place.mkdir(exist_ok=True)
    machine.environment["PATH"] = f"{place}:/usr/bin:/bin"
    (place / "trtexec").unlink(missing_ok=True)
    if version is not None:
        (place / "trtexec").write_text(
            f'#!/bin/sh\n{before}\nexec {sys.executable} {STAND_IN} {version} "$@"\n'
        )
        (place / "trtexec").chmod(0o755)


def model(seed: int = 0, batch: int | str = 1, quantised: bool = True) -> bytes:
    """Return an ONNX of (batch, 4, 3) to 5 values with a pair in front of its product."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(seed).normal(size=(12, 5)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["features"], ["flat"])]
    if quantised:
        nodes += [
            helper.make_node("QuantizeLinear", ["flat", "step", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["real"]),
        ]
    nodes.append(helper.make_node("MatMul", ["real" if quantised else "flat", "w"], ["logits"]))
    values = {"w": weights, "step": np.float32(0.05), "zero": np.int8(0)}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 4, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(made.SerializeToString())


X = np.random.default_rng(3).normal(size=(3, 4, 3)).astype(np.float32)


def commands(machine: Machine, word: str) -> list[str]:
    return [command for command in machine.commands if word in command]


def test_an_engine_is_built_checked_and_timed(jetson: Machine) -> None:
    with Remote("pi") as remote:
        checked = tensorrt.put(remote, NAME, model(), X, True)
        assert (checked["tensorrt"], checked["built"], checked["build_seconds"]) == ("10.3.0", True, None)
        assert checked["compared"]["inputs"] == checked["compared"]["same_choice"] == 3
        assert checked["compared"]["decibel"] is None or checked["compared"]["decibel"] > 60
        engine = tensorrt.timed(remote, NAME)
    assert engine["stand_in"] is True
    assert engine["version"] == "10.3.0"
    for figure in (
        "milliseconds",
        "inferences_per_second",
        "latency",
        "compute",
        "joules_per_inference",
        "origin",
    ):
        assert engine[figure] is None, figure
    assert engine["layers"] == []
    json.dumps(engine, allow_nan=False)


def test_the_same_engine_is_not_built_again_and_another_tensorrt_builds_its_own(jetson: Machine) -> None:
    with Remote("pi") as remote:
        first = tensorrt.put(remote, NAME, model(), X, True)
        again = tensorrt.put(remote, NAME, model(), X, True)
        assert (first["built"], again["built"]) == (True, False)
        install(jetson, "v110100")
        with pytest.raises(
            UserError, match="TensorRT was changed since the engine was built: `earkit flash`"
        ):
            tensorrt.timed(remote, NAME)
        newer = tensorrt.put(remote, NAME, model(), X, True)
        assert (newer["built"], newer["tensorrt"]) == (True, "11.1.0")
        assert tensorrt.timed(remote, NAME)["version"] == "11.1.0"
        other = tensorrt.put(remote, NAME, model(seed=1), X, True)
        assert other["built"]


@pytest.mark.parametrize("version", ["v8502", "v8602", "v100300", "v101303", "v110100"])
@pytest.mark.parametrize("int8", [True, False])
def test_every_release_takes_our_arguments(version: str, int8: bool, jetson: Machine) -> None:
    install(jetson, version)
    made = model(batch=1 if int8 else "n", quantised=int8)
    with Remote("pi") as remote:
        checked = tensorrt.put(remote, NAME, made, X, int8)
        assert checked["compared"]["same_choice"] == 3
        assert tensorrt.timed(remote, NAME)["stand_in"]


def refused(remote: Remote, made: bytes) -> str:
    with pytest.raises(UserError) as caught:
        tensorrt.put(remote, NAME, made, X, True)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_what_goes_wrong_is_named_and_the_old_engine_stays(jetson: Machine) -> None:
    with Remote("pi") as remote:
        with pytest.raises(UserError, match="no dog-tensorrt: `earkit flash`"):
            tensorrt.timed(remote, NAME)
        install(jetson, None)
        assert "no trtexec: sudo apt install libnvinfer-bin" in refused(remote, model())
        assert "nothing is switched to it" in refused(remote, model())
        install(jetson, "v100300")
        tensorrt.put(remote, NAME, model(), X, True)
        before = deploy.current(remote, NAME)
        install(jetson, "v100300", 'case "$*" in *--onnx*) echo "[1] [E] Error: OutOfMemory"; exit 1;; esac')
        line = refused(remote, model(seed=1))
        assert "OutOfMemory: close other programs there, or add swap" in line
        assert f"release {before} runs on" in line
        install(jetson, "v100300", 'case "$*" in *--exportOutput*) kill -9 $$;; esac')
        assert "perhaps for want of memory" in refused(remote, model(seed=1))
        passed = 'echo "&&&& PASSED TensorRT.trtexec [TensorRT v100300] # x"; exit 0'
        install(jetson, "v100300", f'case "$*" in *--exportOutput*) {passed};; esac')
        assert "output0.json" in refused(remote, model())  # not what it said the last time
        install(jetson, "v100300", "echo of something else; exit 0")
        assert "does not say its version" in refused(remote, model(seed=1))
        assert deploy.current(remote, NAME) == before
        install(jetson, "v100300")
        assert tensorrt.timed(remote, NAME)["version"] == "10.3.0"


def test_nonsense_from_there_is_no_figure_or_one_line(jetson: Machine) -> None:
    place, noise = jetson.home / "bin", "head -c 50000 /dev/urandom; echo"
    with Remote("pi") as remote:
        tensorrt.put(remote, NAME, model(), X, True)
        for name in ("nvpmodel", "jetson_clocks", "sudo"):
            (place / name).write_text(f"#!/bin/sh\n{noise}\n")
            (place / name).chmod(0o755)
        (place / "tegrastats").write_text(f"#!/bin/sh\ntrap '' TERM\n{noise}\nsleep 30\n")
        (place / "tegrastats").chmod(0o755)
        install(jetson, "v100300", f'case "$*" in *--exportProfile*) {noise};; esac')
        said = tensorrt.timed(remote, NAME)
        assert (said["milliseconds"], said["stats"]["watts"], said["layers"]) == (None, {}, [])
        json.dumps(said, allow_nan=False)
        (place / "python3").write_text("#!/bin/sh\necho '{\"log\": '\n")
        (place / "python3").chmod(0o755)
        with pytest.raises(UserError, match=r"^pi: `trtexec.py measure` said '.*', no record: run `earkit"):
            tensorrt.timed(remote, NAME)
        (place / "python3").unlink()
        (jetson.home / deploy.BASE / NAME / "current" / "checked.json").write_text("")
        with pytest.raises(UserError, match=r"^pi: .* said '', no record: run `earkit flash` again"):
            tensorrt.timed(remote, NAME)


def test_an_engine_that_computes_something_else_is_not_switched_to(
    jetson: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = tensorrt.answers

    def others(made: bytes, inputs: Any) -> Any:
        name, fixed, outputs = honest(made, inputs)
        return name, fixed, np.roll(outputs, 1, axis=1)

    monkeypatch.setattr(tensorrt, "answers", others)
    with Remote("pi") as remote:
        line = refused(remote, model())
        assert "dB from the host's, at least 15 are wanted" in line
        assert deploy.current(remote, NAME) is None


def test_a_real_report_becomes_a_record() -> None:
    layers = json.dumps(
        [
            {"count": 4021},
            {"name": "conv1 + relu", "timeMs": 200, "averageMs": 0.05, "medianMs": 0.05, "percentage": 40.0},
            {"name": "dense", "timeMs": 300, "averageMs": 0.075, "medianMs": 0.07, "percentage": 60.0},
        ]
    )
    said = {"log": log("v100300", NEW), "layers": layers, "tegrastats": STATS, "state": {"nvpmodel": None}}
    checked = {"engine_bytes": 1, "build_seconds": 2.0, "compared": {}}
    engine = tensorrt.engine(said, checked)
    assert (engine["origin"], engine["milliseconds"], engine["inferences_per_second"]) == (
        "measured",
        1.2,
        804.136,
    )
    assert engine["joules_per_inference"] == pytest.approx(5.5 / 804.136)
    assert [row["name"] for row in engine["layers"]] == ["dense", "conv1 + relu"]
    assert engine["latency"]["p99"] == 2.5
    for damaged in (None, "", "[", "{}", '[{"name": 1}]', "3"):
        assert tensorrt.layers(damaged) == []


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (b"text", "onnxruntime does not run the model"),
        (
            model().replace(b"features", b"a:b,c d!"),
            "needs one plain input and one output; the ONNX has a:b,c d!",
        ),
    ],
)
def test_models_that_cannot_go_there_are_refused_here(made: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tensorrt.answers(made, X)


def test_the_program_there_says_one_line(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "job.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, trtexec.__file__, "check"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "there is no trtexec: sudo apt install libnvinfer-bin (a part of JetPack)\n"
