"""What a profile says of the device: the first op that differs, its counter, its runs and its flags."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_writer as writer
from conftest import earkit

import boards
from boards import BOOT_BYTES
from firmware.compiler import build as builds
from firmware.compiler import emit, interp
from firmware.compiler.build import Build
from kit import clock, first_op
from kit.device import Device
from kit.virtual import VirtualBoard

Capture = pytest.CaptureFixture[str]


@contextmanager
def running(build: Build, origin: Any = "emulated") -> Iterator[Device]:
    wire = VirtualBoard(build.board, build.boot.ljust(BOOT_BYTES, b"\xff") + build.image)
    with Device(wire, origin) as device:
        yield device


def layers(count: int = 4, width: int = 12) -> bytes:
    """Return a chain of fully connected layers of different shapes."""
    draw = np.random.default_rng(2)
    values = [writer.Value(f"v{i}", (1, width + i), "int8", 0.1) for i in range(count + 1)]
    constants, ops = [], []
    for before, after in pairwise(values):
        shape = (after.shape[1], before.shape[1])
        w = writer.constant(f"w_{after.name}", draw.integers(-90, 90, shape), "int8", 0.01)
        b = writer.constant(f"b_{after.name}", draw.integers(-90, 90, shape[:1]), "int32", 0.001)
        constants += [w, b]
        ops.append(writer.Op("FULLY_CONNECTED", [before, w, b], [after], version=4))
    return writer.model([values[0]], ops, constants, [values[-1]])


def broken(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the kernel of the `number`-th node that has code spoil the first value that it writes."""
    honest = emit.emit

    def spoiling(*given: Any) -> str:
        text = honest(*given)
        calls = re.search(r"void ear_model_invoke.*", text, re.DOTALL)
        assert calls is not None
        name = re.findall(r"EAR_OP\(\d+\);\s+(\w+)\(", calls[0])[number]
        body = re.search(rf"void {name}\(.*?\n}}\n", text, re.DOTALL)
        assert body is not None
        return text.replace(body[0], body[0].removesuffix("}\n") + "    *out0 ^= 1;\n}\n")

    monkeypatch.setattr(builds.emit, "emit", spoiling)


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_broken_kernel_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "m.tflite").write_bytes(layers())
    broken(monkeypatch, number)
    monkeypatch.chdir(tmp_path)
    assert earkit(capsys, "compile", "m.tflite", "--board", "virtual-m4", "-o", "b")[0] == 0
    code, text, _ = earkit(capsys, "profile", "b", "--samples", "3", "--json")
    assert code == 0
    record = json.loads(text)
    assert record["mismatches"] > 0
    op = record["first_mismatch"]["op"]
    assert (op["node"], op["op"], op["run"]) == (number, "FULLY_CONNECTED", 0)
    assert op["name"] == record["per_op"][number]["name"]
    shown = earkit(capsys, "profile", "b", "--samples", "3")[1]
    assert f"first op that differs: {op['name']} (FULLY_CONNECTED), node {number}" in shown


def test_honest_boards_agree_op_by_op(tiny_build: Path) -> None:
    made = builds.load(tiny_build)
    x = np.random.default_rng(1).integers(-128, 128, made.graph.tensors[made.graph.inputs[0]].shape, np.int8)
    with running(made) as device:
        assert first_op.find(made, device, [x, x + np.int8(1)]) is None


def test_a_check_is_the_crc_of_the_hosts_tensor(tiny_build: Path) -> None:
    made = builds.load(tiny_build)
    into, out = made.graph.inputs[0], made.graph.outputs[0]
    x = np.random.default_rng(3).integers(-128, 128, made.graph.tensors[into].shape, np.int8)
    wanted = interp.run(made.graph, [x])[0].tobytes()
    last = len(made.sizes["ops"]) - 1
    with running(made) as device:
        place = (last, made.plan.offsets[out], len(wanted))
        assert device.check(x, [place]) == (zlib.crc32(wanted),)
        assert device.check(x, [(last, made.plan.arena + made.plan.state, 1)]) == (0,)  # nothing is there
        assert device.check(x, [(last, 0, 2**32 - 1)]) == (0,)
        assert device.check(x, []) == ()
        assert np.array_equal(device.infer(x), np.frombuffer(wanted, np.int8))


def test_too_many_places_are_refused(tiny_build: Path) -> None:
    from boards.errors import UserError

    made = builds.load(tiny_build)
    x = np.zeros(made.graph.tensors[made.graph.inputs[0]].shape, np.int8)
    with running(made) as device:
        with pytest.raises(UserError, match="out of range"):
            device.check(x, [(0, 0, 1)] * (len(made.sizes["ops"]) + 2))
        assert device.infer(x).size > 0


class Time:
    """Seconds as a clock of `hz` has them that counts what the emulator executes."""

    def __init__(self, device: Device, hz: float) -> None:
        self.device, self.hz = device, hz

    def __call__(self) -> float:
        assert isinstance(self.device.wire, VirtualBoard)
        return self.device.wire.instructions() / self.hz + 5.0


HZ = 4_000_000  # a slow board: the emulator has to count half a second of it


@pytest.mark.parametrize(("factor", "right"), [(1.0, True), (1.02, True), (1.25, False), (0.5, False)])
def test_a_counter_is_judged_by_the_clock_of_the_host(factor: float, right: bool, tiny_build: Path) -> None:
    with running(builds.load(tiny_build)) as device:
        told = clock.check(device, HZ, Time(device, HZ * factor))
    assert told["ratio"] == pytest.approx(factor, rel=0.005)
    assert told["seconds"] == pytest.approx(clock.LONG_S / factor, rel=0.005)
    assert told["right"] is right


@pytest.mark.parametrize("right", [True, False])
def test_milliseconds_only_from_a_counter_that_is_right(
    right: bool, build: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A board that says it counts cycles and is real, as far as the kit can see."""
    assert earkit(capsys, "flash", build)[0] == 0
    told = Device.info

    def info(self: Device) -> Any:
        self.origin = "measured"
        self._info = type(told(self))(**{**vars(told(self)), "unit": "cycles"})
        return self._info

    monkeypatch.setattr(Device, "info", info)
    ratio = 1.001 if right else 1.5
    checked = {"ratio": ratio, "seconds": 0.5, "tolerance": clock.TOLERANCE, "right": right}
    monkeypatch.setattr(clock, "check", lambda *_: checked)
    code, text, _ = earkit(capsys, "profile", build, "--samples", "2", "--json")
    assert code == 0
    record = json.loads(text)
    assert record["clock"] == {"hz": boards.load("virtual-m4").clock_hz, "checked": checked}
    assert record["runs"]["count"] == 9
    assert record["runs"]["min"] <= record["cycles"] <= record["runs"]["max"]
    if right:
        assert record["milliseconds"] == pytest.approx(record["cycles"] / 120e6 * 1e3)
        assert record["notes"] == [note for note in record["notes"] if "milliseconds" not in note]
    else:
        assert record["milliseconds"] is None
        assert record["origins"]["milliseconds"] is None
        assert any("counted 1.500 times" in note and "virtual-m4.toml" in note for note in record["notes"])


def test_clock_and_flags_are_recorded(build: Path, capsys: Capture) -> None:
    record = json.loads(earkit(capsys, "profile", build, "--samples", "2", "--json")[1])
    assert record["toolchain"].startswith("ziglang ")
    assert "-O2" in record["flags"]
    assert any("cortex_m4" in flag for flag in record["flags"])
    assert record["clock"] == {"hz": 120_000_000, "checked": None}  # nothing to check in an emulator
    runs = record["runs"]
    assert (runs["warm_up"], runs["count"]) == (2, 2)
    assert runs["min"] <= runs["median"] <= runs["max"]
    page = Path("report.html")
    assert earkit(capsys, "report", "runs/build", "-o", page)[0] == 0
    assert "120 MHz" in page.read_text()
    assert "-O2" in page.read_text()
