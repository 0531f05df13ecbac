"""The kernels on emulated cores, both compilers: the DSP paths and the plain ones give numpy's bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import core_runner
import numpy as np
import pytest
import strategies
import tflite_writer as tfl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from op_oracle import Case, int8

from firmware.compiler import interp, passes, read_tflite, toolchain


@st.composite
def neighbours(draw: Any) -> Case:
    """Draw a 3 x 3 depthwise convolution: two of its outputs are computed together."""
    sizes = [(draw(st.integers(5, 9)), 3, draw(st.integers(1, 2)), draw(st.integers(1, 2))) for _ in range(2)]
    padding, channels, x_scale = draw(strategies.PADDINGS), draw(st.integers(4, 9)), 0.1
    rows, columns = ((*size, strategies.out_size(*size, padding)) for size in sizes)
    x = tfl.Value("x", (1, rows[0], columns[0], channels), "int8", x_scale, draw(st.integers(-128, 127)))
    w, b, y_scale = draw(strategies.weights((1, 3, 3, channels), 3, x_scale, 9))
    y = tfl.Value("y", (1, rows[4], columns[4], channels), "int8", y_scale, draw(st.integers(-128, 127)))
    options = {
        **strategies.sliding({"padding": padding, "rows": rows, "columns": columns}),
        "depth_multiplier": 1,
        "fused_activation_function": draw(strategies.ACTIVATIONS),
    }
    inputs = [value for value in (x, w, b) if value is not None]
    return Case(tfl.Op("DEPTHWISE_CONV_2D", inputs, [y], options, 3), (int8(draw, x.shape),))


BOARDS = ["virtual-m0plus", "virtual-m3", "virtual-m4", "virtual-m7", "virtual-m33"]
KINDS = {
    "conv": strategies.conv_2d(),
    "depthwise": strategies.depthwise_conv_2d(),
    "depthwise 3x3": neighbours(),
    "dense": strategies.fully_connected(),
    "softmax": strategies.softmaxes(),
}


def check(case: Case, board: str, folder: Path, kind: Any = "zig") -> None:
    graph = passes.run(read_tflite.read(case.model, "case"))
    (x,) = case.inputs
    np.testing.assert_array_equal(core_runner.run(graph, x, board, folder, kind), interp.run(graph, [x])[0])


@pytest.mark.parametrize("op", KINDS)
@pytest.mark.parametrize("board", BOARDS)
def test_drawn_ops_on_each_core(op: str, board: str, tmp_path: Path) -> None:
    @given(KINDS[op])
    @settings(
        max_examples=8 if board == "virtual-m4" else 2, deadline=None, suppress_health_check=list(HealthCheck)
    )
    def drawn(case: Case) -> None:
        check(case, board, tmp_path)

    drawn()


@given(st.one_of(*KINDS.values()))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_drawn_ops_through_gcc(tmp_path: Path, case: Case) -> None:
    try:
        toolchain.driver("gcc")
    except Exception as error:
        pytest.skip(str(error))
    check(case, "virtual-m4", tmp_path, "gcc")


@pytest.mark.parametrize("name", ["kws_ref_model", "ad01_int8"])
@pytest.mark.parametrize("board", BOARDS)
def test_whole_models_on_each_core(shared: Path, name: str, board: str, tmp_path: Path) -> None:
    graph = passes.run(read_tflite.read((shared / "models" / f"{name}.tflite").read_bytes(), name))
    x = np.random.default_rng(6).integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
    np.testing.assert_array_equal(core_runner.run(graph, x, board, tmp_path), interp.run(graph, [x])[0])
