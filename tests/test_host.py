"""The vector kernels on this machine and as wasm give numpy's bytes; large models compile in time."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import op_oracle
import pytest
import strategies
import tflite_writer as tfl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from op_oracle import Case, int8, quantisations

import boards
from firmware.compiler import build, emit, interp, ops, passes, read_tflite, toolchain, wasm, weights
from firmware.compiler.graph import Array, Graph
from firmware.compiler.plan import plan

MACHINES = {"native": "", "alderlake": "avx_vnni", "haswell": "avx2", "x86_64": ""}  # and what they need here
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
CASES = 8  # in one C file
KINDS = {
    "conv": strategies.conv_2d(),
    "depthwise": strategies.depthwise_conv_2d(),
    "dense": strategies.fully_connected(),
}
NODE = """
import { readFileSync } from "fs";
const [path, input] = process.argv.slice(1);
const model = (await WebAssembly.instantiate(readFileSync(path), {})).instance.exports;
const end = (symbol) => {
  const [data, bytes] = new Uint32Array(model.memory.buffer, symbol.value, 2);
  return new Int8Array(model.memory.buffer, data, bytes);
};
model.ear_model_init();
end(model.ear_inputs).set(JSON.parse(input));
model.ear_model_invoke(0);
console.log(JSON.stringify([model.ear_arena_intact(), [...end(model.ear_outputs)]]));
"""


@st.composite
def wide(draw: Any) -> Case:
    """Draw a layer of several blocks of channels, of more columns than a chunk, or more taps than unroll."""
    kind = draw(st.sampled_from(["conv", "depthwise", "dense"]))
    q, activation = draw(quantisations), draw(strategies.ACTIVATIONS)
    y_q = draw(quantisations)
    options: dict[str, Any] = {"fused_activation_function": activation}
    if kind == "dense":
        rows, depth, outputs = draw(st.sampled_from([(1, 70, 300), (5, 33, 140), (9, 64, 20)]))
        x, y = tfl.Value("x", (rows, depth), "int8", *q), tfl.Value("y", (rows, outputs), "int8", *y_q)
        w, b, scale = draw(strategies.weights((outputs, depth), 0, q[0], depth))
        options["keep_num_dims"] = False
        name = "FULLY_CONNECTED"
    else:
        size, stride, dilation = draw(
            st.sampled_from([(1, 1, 1), (3, 1, 1), (3, 2, 1), (5, 1, 1), (3, 1, 2)])
        )
        channels = draw(st.sampled_from([3, 36, 70]))
        columns = strategies.out_size(9, size, stride, dilation, "SAME")
        shape = (1, size, size, channels) if kind == "depthwise" else (41, size, size, channels)
        outputs = shape[3] if kind == "depthwise" else shape[0]
        x = tfl.Value("x", (1, 9, 9, channels), "int8", *q)
        y = tfl.Value("y", (1, columns, columns, outputs), "int8", *y_q)
        reach = size * size * (1 if kind == "depthwise" else channels)
        w, b, scale = draw(strategies.weights(shape, 3 if kind == "depthwise" else 0, q[0], reach))
        options |= {"padding": "SAME", "stride_h": stride, "stride_w": stride}
        options |= {"dilation_h_factor": dilation, "dilation_w_factor": dilation}
        name = "DEPTHWISE_CONV_2D" if kind == "depthwise" else "CONV_2D"
        options |= {"depth_multiplier": 1} if kind == "depthwise" else {}
    y = dataclasses.replace(y, scale=scale)
    inputs = [value for value in (x, w, b) if value is not None]
    return Case(tfl.Op(name, inputs, [y], options, 3), (int8(draw, x.shape),))


def check(cases: Sequence[Case], machine: str) -> None:
    """Assert that the C for a machine gives numpy's bytes, and does nothing undefined."""
    graphs = [dataclasses.replace(read_tflite.read(case.model, "case"), unit="simd") for case in cases]
    flags = (*toolchain.CHECKED, f"-march={machine}")
    for case, graph, made in zip(cases, graphs, op_oracle.compiled(graphs, cases, flags), strict=True):
        op_oracle.same(made, interp.run(graph, case.inputs), case)


def needs(machine: str) -> None:
    info = Path("/proc/cpuinfo")
    if not info.exists() or ("GenuineIntel" not in (text := info.read_text()) and "AuthenticAMD" not in text):
        pytest.skip("for x86-64 on Linux")
    if MACHINES[machine] not in text:
        pytest.skip(f"this machine has no {MACHINES[machine]}")


@pytest.mark.parametrize("machine", MACHINES)
def test_drawn_ops_with_vectors(machine: str) -> None:
    needs(machine)

    @given(st.lists(st.one_of(*KINDS.values(), wide()), min_size=CASES, max_size=CASES))
    @settings(max_examples=2, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))
    def drawn(cases: list[Case]) -> None:
        check(cases, machine)

    drawn()


def lowered(path: Path) -> Graph:
    return passes.run(read_tflite.read(path.read_bytes(), path.stem), "simd")


def clip(graph: Graph, seed: int) -> Array:
    shape = graph.tensors[graph.inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("name", ["kws_ref_model", "ad01_int8"])
def test_whole_models_on_this_machine(shared: Path, name: str, tmp_path: Path) -> None:
    graph = lowered(shared / "models" / f"{name}.tflite")
    model = build.host_library(graph, plan(graph), tmp_path)
    for seed in range(20):
        x = clip(graph, seed)
        np.testing.assert_array_equal(model([x])[0], interp.run(graph, [x])[0])


def in_node(graph: Graph, x: Array, folder: Path) -> Array:
    """Return the output of the graph as wasm in Node, its arena checked."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    module = wasm.compile_module(graph, plan(graph), folder)
    command = ["node", "--input-type=module", "-e", NODE, str(module), json.dumps(x.reshape(-1).tolist())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    intact, values = json.loads(done.stdout)
    assert intact == 1
    return np.array(values, np.int8).reshape(graph.tensors[graph.outputs[0]].shape)


@pytest.mark.parametrize("name", ["kws_ref_model", "ad01_int8"])
def test_whole_models_as_wasm(shared: Path, name: str, tmp_path: Path) -> None:
    graph = lowered(shared / "models" / f"{name}.tflite")
    x = clip(graph, 3)
    np.testing.assert_array_equal(in_node(graph, x, tmp_path), interp.run(graph, [x])[0])


@given(wide())
@settings(
    max_examples=3,
    phases=PHASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_drawn_ops_as_wasm(tmp_path: Path, case: Case) -> None:
    graph = passes.run(read_tflite.read(case.model, "case"), "simd")
    np.testing.assert_array_equal(in_node(graph, case.inputs[0], tmp_path), interp.run(graph, case.inputs)[0])


def chain(layers: int, width: int) -> bytes:
    """Return a model of fully connected layers in a row."""
    rng = np.random.default_rng(8)
    first = x = tfl.Value("x", (1, width), "int8", 0.1, 0)
    nodes = []
    for i in range(layers):
        w = tfl.constant(f"w{i}", rng.integers(-127, 128, (width, width)), "int8", np.full(1, 0.002), [0])
        y = tfl.Value(f"y{i}", (1, width), "int8", 0.1, 0)
        options = {"keep_num_dims": False, "fused_activation_function": "NONE"}
        nodes.append(tfl.Op("FULLY_CONNECTED", [x, w], [y], options, 4))
        x = y
    return tfl.model([first], nodes, [], [x])


@pytest.mark.parametrize("unit", ["c", "simd"])
def test_large_weights_beside_the_c(unit: Any, tmp_path: Path) -> None:
    graph = passes.run(read_tflite.read(chain(2, 160), "large"), unit)
    model = build.host_library(graph, plan(graph), tmp_path)
    assert (tmp_path / weights.BINARY).stat().st_size >= 2 * 160 * 160
    x = clip(graph, 1)
    np.testing.assert_array_equal(model([x])[0], interp.run(graph, [x])[0])
    if unit == "simd":
        np.testing.assert_array_equal(in_node(graph, x, tmp_path), interp.run(graph, [x])[0])


@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_large_weights_reach_the_image(kind: Any, tmp_path: Path) -> None:
    if kind == "gcc" and shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    made = build.compile_model(
        chain(1, 160), boards.load("virtual-m4"), tmp_path / "build", name="large", toolchain=kind
    )
    (large,) = (constant for constant in emit.constants(made.graph) if constant.large)
    assert large.data.tobytes() in made.image
    assert not list((tmp_path / "build").glob("weights.*"))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "uint32", "int32"]), st.integers(1, 70))
def test_the_text_of_a_constant_holds_its_numbers(seed: int, dtype: str, count: int) -> None:
    info = np.iinfo(dtype)
    data = np.random.default_rng(seed).integers(info.min, info.max, count, endpoint=True, dtype=dtype)
    text = weights.Constant("w", data).definition()
    body = text.split("= {")[1]
    assert [int(number, 0) for number in re.findall(r"-?0x[0-9a-f]+|-?\d+", body)] == data.tolist()
    assert all(line == line.rstrip() and len(line) <= 110 for line in text.splitlines())


def test_constants_of_a_node_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = dataclasses.replace(passes.run(read_tflite.read(chain(30, 8), "deep"), "dsp"))
    counted: Counter[int] = Counter()
    op = ops.OPS["FULLY_CONNECTED"]

    def call(graph: Graph, node: Any) -> Any:
        counted[id(node)] += 1
        return op.call(graph, node)

    monkeypatch.setitem(ops.OPS, "FULLY_CONNECTED", dataclasses.replace(op, call=call))
    emit.emit(graph, plan(graph))
    emit.constant_bytes(graph)
    assert set(counted.values()) == {1}
    assert len(counted) == 30
