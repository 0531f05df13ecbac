"""The kernels for MVE on an emulated Cortex-M55, both compilers: numpy's bytes, nothing written elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mve_runner
import numpy as np
import pytest
import strategies
import tflite_writer as tfl
from fused import fused
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from op_oracle import Case, int8, quantisations
from test_fused_kernels import attentions, norms
from test_ops_matmul import products

from boards.errors import UserError
from firmware.compiler import convolution, interp, layouts, read_tflite, toolchain
from firmware.compiler.graph import Array, Graph
from firmware.compiler.layouts.layout import Product

pytestmark = pytest.mark.skipif(
    mve_runner.QEMU is None, reason="QEMU is not installed: apt install qemu-system-arm"
)
BATCH = 16  # cases of one start of the emulator
EXAMPLES = 3  # the first of them is always the simplest
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking would start the emulator for minutes


@st.composite
def wide(draw: Any) -> Case:
    """Draw a convolution or depthwise convolution with as many channels as real models have."""
    window, deep = draw(strategies.windows(dilated=draw(st.booleans()))), draw(st.booleans())
    rows, columns, q = window["rows"], window["columns"], draw(quantisations)
    channels, batch = draw(st.sampled_from([1, 3, 8, 16, 17, 24, 40, 64])), draw(st.sampled_from([1, 1, 2]))
    outputs = channels if deep else draw(st.sampled_from([4, 6, 16]))
    x = tfl.Value("x", (batch, rows[0], columns[0], channels), "int8", *q)
    shape = (1, rows[1], columns[1], channels) if deep else (outputs, rows[1], columns[1], channels)
    reach = rows[1] * columns[1] * (1 if deep else channels)
    w, b, y_scale = draw(strategies.weights(shape, 3 if deep else 0, q[0], reach))
    y = tfl.Value("y", (batch, rows[4], columns[4], outputs), "int8", y_scale, draw(st.integers(-128, 127)))
    options = {
        **strategies.sliding(window),
        "fused_activation_function": draw(strategies.ACTIVATIONS),
        **({"depth_multiplier": 1} if deep else {}),
    }
    name = "DEPTHWISE_CONV_2D" if deep else "CONV_2D"
    values = [value for value in (x, w, b) if value is not None]
    return Case(tfl.Op(name, values, [y], options, 3), (int8(draw, x.shape),))


@st.composite
def pairs(draw: Any) -> Case:
    """Draw an ADD, SUB or MUL, of which the second input may repeat."""
    name = draw(st.sampled_from(["ADD", "SUB", "MUL"]))
    whole = (1, draw(st.integers(1, 5)), draw(st.integers(1, 21)))
    other = draw(st.sampled_from([whole, (1, 1, whole[2]), (1, whole[1], 1)]))
    q = [draw(quantisations) for _ in range(3)]
    a, b, y = (
        tfl.Value(n, s, "int8", *q[i])
        for i, (n, s) in enumerate(zip("aby", (whole, other, whole), strict=True))
    )
    options = {"fused_activation_function": draw(strategies.ACTIVATIONS)}
    return Case(tfl.Op(name, [a, b], [y], options), (int8(draw, whole), int8(draw, other)))


KINDS: dict[str, st.SearchStrategy[Case]] = {
    "conv": strategies.conv_2d(),
    "wide": wide(),
    "dense": strategies.fully_connected(),
    "pool": strategies.pools(),
    "pair": pairs(),
    "softmax": strategies.softmaxes(),
    "products": products(),
}


def check(cases: Sequence[Case], folder: Path, kind: Any = "zig") -> None:
    graphs = [read_tflite.read(case.model, "case").verify() for case in cases]
    check_graphs(graphs, [case.inputs for case in cases], folder, kind)


def check_graphs(
    graphs: Sequence[Graph], inputs: Sequence[Sequence[Array]], folder: Path, kind: Any = "zig"
) -> None:
    for graph, values, run in zip(graphs, inputs, mve_runner.run(graphs, inputs, folder, kind), strict=True):
        np.testing.assert_array_equal(run.output, interp.run(graph, values)[0], err_msg=str(graph.nodes[0]))
        assert run.intact, graph.nodes[0]


@pytest.mark.parametrize("op", KINDS)
def test_drawn_ops(op: str, tmp_path: Path) -> None:
    @given(st.lists(KINDS[op], min_size=BATCH, max_size=BATCH))
    @settings(max_examples=EXAMPLES, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))
    def drawn(cases: list[Case]) -> None:
        check(cases, tmp_path)

    drawn()


@given(st.lists(st.one_of(*KINDS.values()), min_size=BATCH, max_size=BATCH))
@settings(max_examples=EXAMPLES, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))
def test_drawn_ops_through_gcc(tmp_path: Path, cases: list[Case]) -> None:
    try:
        toolchain.driver("gcc")
    except UserError as error:
        pytest.skip(str(error))
    check(cases, tmp_path, "gcc")


@given(st.lists(norms(), min_size=BATCH, max_size=BATCH))
@settings(max_examples=EXAMPLES, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))
def test_drawn_normalisations(tmp_path: Path, drawn: list[tuple[bytes, Any, Any]]) -> None:
    check_graphs([fused(model) for model, _, _ in drawn], [[x] for _, x, _ in drawn], tmp_path)


@given(st.lists(attentions(), min_size=BATCH, max_size=BATCH))
@settings(max_examples=EXAMPLES, phases=PHASES, deadline=None, suppress_health_check=list(HealthCheck))
def test_drawn_attention(tmp_path: Path, drawn: list[tuple[bytes, Any]]) -> None:
    wholes = [fused(model) for model, _ in drawn]
    pairs = [(whole, node) for whole in wholes for node in whole.nodes if node.op.startswith("EAR_ATTENTION")]
    graphs = [
        replace(whole, nodes=(node,), inputs=node.inputs[:3], outputs=node.outputs) for whole, node in pairs
    ]
    rng = np.random.default_rng(len(graphs))
    inputs = [
        [rng.integers(-128, 128, graph.tensors[i].shape).astype(np.int8) for i in graph.inputs]
        for graph in graphs
    ]
    if graphs:  # none in the first example: of small scores the chain keeps its ops
        check_graphs(graphs, inputs, tmp_path)


def dense(depth: int, outputs: int) -> Case:
    """Return a fully connected op whose weights and outputs cover their ranges."""
    rng = np.random.default_rng(depth)
    x, y = tfl.Value("x", (1, depth), "int8", 0.05, 3), tfl.Value("y", (1, outputs), "int8", 5.0, -128)
    w = tfl.constant("w", rng.integers(-127, 128, (outputs, depth)), "int8", [0.02] * outputs, [0] * outputs)
    options = {"keep_num_dims": False, "fused_activation_function": "RELU"}
    return Case(
        tfl.Op("FULLY_CONNECTED", [x, w], [y], options, 4),
        (rng.integers(-128, 128, (1, depth)).astype(np.int8),),
    )


def test_a_matrix_product_stays_near_its_floor(tmp_path: Path) -> None:
    case = dense(640, 128)
    graph = read_tflite.read(case.model, "case").verify()
    (run,) = mve_runner.run([graph], [case.inputs], tmp_path)
    assert run.instructions < 0.18 * 640 * 128  # 10 instructions for 64 products, and the ends


def test_groups_keep_the_portable_kernel() -> None:
    channels = convolution.Channels(
        np.zeros(4, np.int64),
        np.full(4, 1 << 30, np.int32),
        np.full(4, -5, np.int32),
        0,
        -128,
        127,
        narrow=True,
    )
    rows = np.ones((4, 9), np.int8)
    grouped, whole = (Product(rows, channels, 9, gathered=True, groups=groups) for groups in (2, 1))
    assert [layouts.product("mve", layer).packed for layer in (grouped, whole)] == [False, True]
