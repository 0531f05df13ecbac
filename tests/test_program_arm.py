"""Programs for aarch64 and ARMv7 under QEMU: the same bytes out as the definition, link and runner alike."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import programs
import pytest
from eim_client import PATIENCE, scores
from programs import Program

from firmware.compiler import interp
from kit.device import Device
from kit.pipe_wire import PipeWire

ZOO = programs.ROOT / "models" / "zoo" / "tiny_transformer-micro-esc10.zip"  # attention, norms: floats too
CONVOLUTIONS = programs.ROOT / "models" / "zoo" / "panns-micro-esc10.zip"
MACHINES = {  # processor → machine, QEMU; the products of the last one are SDOT's
    "cortex_a72": ("aarch64", ("qemu-aarch64-static", "-cpu", "cortex-a72")),
    "cortex_a7": ("armv7", ("qemu-arm-static", "-cpu", "cortex-a7")),
    "cortex_a76": ("aarch64", ("qemu-aarch64-static", "-cpu", "cortex-a76")),
}


def emulated(source: Path, cpu: str, folder: Path) -> tuple[Program, list[str]]:
    """Return the program of a bundle for a processor, and the command that runs it here."""
    machine, emulator = MACHINES[cpu]
    if shutil.which(emulator[0]) is None:
        pytest.skip(f"needs {emulator[0]}")
    program = programs.compiled(source, machine, cpu, folder)
    return program, [*emulator, str(program.path)]


@pytest.fixture(scope="module", params=MACHINES)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Program, list[str]]:
    return emulated(ZOO, request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def board(made: tuple[Program, list[str]]) -> Iterator[Device]:
    with Device(PipeWire(made[1]), "emulated") as device:
        yield device


@pytest.mark.parametrize("cpu", MACHINES)
def test_convolutions_are_those_of_the_definition(cpu: str, tmp_path: Path) -> None:
    program, command = emulated(CONVOLUTIONS, cpu, tmp_path)
    shape = program.graph.tensors[program.graph.inputs[0]].shape
    drawn = np.random.default_rng(1).integers(-128, 128, (5, *shape), np.int8)
    x = np.concatenate([[np.full(shape, value, np.int8) for value in (-128, 127)], drawn])
    with Device(PipeWire(command), "emulated") as device:
        found = np.stack([device.infer(one) for one in x])
    assert np.array_equal(found, interp.run_batch(program.graph, x).reshape(found.shape))


def test_outputs_and_features_are_those_of_the_definition(
    made: tuple[Program, list[str]], board: Device
) -> None:
    program, rng = made[0], np.random.default_rng(0)
    graph, front = program.graph, program.front
    shape = graph.tensors[graph.inputs[0]].shape
    edges = [np.full(shape, value, np.int8) for value in (-128, 0, 127)]
    for x in (*edges, *rng.integers(-128, 128, (12, *shape), np.int8)):
        assert np.array_equal(board.infer(x), interp.run(graph, [x])[0].ravel())
    for level in (3, 300, 30_000):
        samples = np.asarray(rng.normal(0, level, front.samples).clip(-32768, 32767), np.int16)
        assert np.array_equal(board.features(samples), program.features(samples))
    used = board.memory()
    assert used.stack_intact
    assert used.arena_intact
    assert 0 < used.stack_high_water < used.stack_bytes


def test_an_emulators_nanoseconds_stay_emulated(made: tuple[Program, list[str]], board: Device) -> None:
    graph = made[0].graph
    counts = board.profile(np.zeros(graph.tensors[graph.inputs[0]].shape, np.int8))
    assert (counts.unit, counts.origin) == ("nanoseconds", "emulated")


def test_it_is_a_runner_too(made: tuple[Program, list[str]]) -> None:
    program, command = made
    samples = np.random.default_rng(1).normal(0, 2000, program.front.samples).astype(np.int16)
    text = json.dumps({"hello": 1, "id": 1}) + json.dumps({"classify": samples.tolist(), "id": 2})
    done = subprocess.run(
        [*command, "stdin"], input=text.encode(), capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    _, answer = (json.loads(part) for part in done.stdout.split(b"\n\0")[:-1])
    told = list(answer["result"]["classification"].values())
    assert told == pytest.approx(scores(program, samples), abs=1.1e-5)
