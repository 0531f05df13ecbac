"""model.c: deterministic, readable, clean under every compiler's warnings, only the kernels it uses."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tflite_writer as tfl

import boards
import firmware
from firmware.compiler import emit, passes, read_tflite, toolchain
from firmware.compiler.graph import Graph, Unit
from firmware.compiler.ops import OPS
from firmware.compiler.plan import plan

Q = (0.1, 3)


def graph(name: str = "mine") -> Graph:
    """A convolution, a pool, a reshape, a dense layer, a softmax."""
    rng = np.random.default_rng(9)
    x = tfl.Value("x", (1, 6, 6, 4), "int8", *Q)
    c, p, f, d = (
        tfl.Value(n, s, "int8", 0.2, -5)
        for n, s in (("c", (1, 6, 6, 4)), ("p", (1, 3, 3, 4)), ("f", (1, 36)), ("d", (1, 5)))
    )
    y = tfl.Value("y", (1, 5), "int8", 1 / 256, -128)
    weights = tfl.constant("w", rng.integers(-127, 128, (4, 3, 3, 4)), "int8", 0.01)
    dense = tfl.constant("v", rng.integers(-127, 128, (5, 36)), "int8", 0.01)
    slide = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "RELU"}
    pool = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2}
    nodes = [
        tfl.Op("CONV_2D", [x, weights], [c], slide, 3),
        tfl.Op("MAX_POOL_2D", [c], [p], pool, 2),
        tfl.Op("RESHAPE", [p, tfl.constant("s", [1, 36])], [f]),
        tfl.Op("FULLY_CONNECTED", [f, dense], [d], {}, 4),
        tfl.Op("SOFTMAX", [d], [y], {"beta": 1.0}, 2),
    ]
    return passes.run(read_tflite.read(tfl.model([x], nodes, [], [y]), name))


def test_the_same_model_gives_the_same_text() -> None:
    assert emit.emit(graph(), plan(graph())) == emit.emit(graph(), plan(graph()))
    assert emit.header(graph(), plan(graph()), "ab") == emit.header(graph(), plan(graph()), "ab")


def test_only_the_kernels_in_use_are_included() -> None:
    made = emit.emit(graph(), plan(graph()))
    included = re.findall(r'"kernels/(\w+)\.h"', made)
    assert included == ["conv_2d", "fully_connected", "max_pool_2d", "softmax"]
    assert not re.search(r"\b(malloc|free|printf|calloc)\b", made)


def test_profile_hook_comes_before_each_node_and_at_the_end() -> None:
    made = emit.emit(graph(), plan(graph()))
    assert [int(i) for i in re.findall(r"EAR_OP\((\d+)\);", made)] == [0, 1, 2, 3, 4]
    assert "#define EAR_NODES 4" in emit.header(graph(), plan(graph()))
    assert len(emit.compiled_nodes(graph())) == 4


def test_a_hostile_name_cannot_leave_its_comment() -> None:
    made = emit.emit(graph("*/ int evil; /* \\"), plan(graph()))
    assert "*/ int evil" not in made


def test_header_states_sizes_and_scales() -> None:
    made = emit.header(graph(), plan(graph()), "0123456789abcdef")
    defines = dict(re.findall(r"#define (EAR_\w+) (\S+)", made))
    assert defines["EAR_INPUT_BYTES"] == "144"
    assert defines["EAR_OUTPUT_BYTES"] == "5"
    assert defines["EAR_BUILD_ID"] == '"0123456789abcdef"'
    assert float(defines["EAR_INPUT_SCALE"].rstrip("f")) == pytest.approx(0.1)
    assert defines["EAR_INPUT_ZERO_POINT"] == "(3)"
    assert int(defines["EAR_ARENA_BYTES"]) == plan(graph()).arena
    assert defines["EAR_FRONTEND"] == "0"


@pytest.mark.parametrize("kind", get_args(toolchain.Toolchain))
@pytest.mark.parametrize("board", [name for name in boards.names() if boards.load(name).kind == "virtual"])
def test_compiles_without_a_warning_for_each_core(
    kind: toolchain.Toolchain, board: str, tmp_path: Path
) -> None:
    try:
        toolchain.driver(kind)
    except boards.UserError as error:
        pytest.skip(str(error))
    made = replace(graph(), unit=toolchain.unit(boards.load(board)))
    (tmp_path / "model.c").write_text(emit.emit(made, plan(made)))
    (tmp_path / "model.h").write_text(emit.header(made, plan(made)))
    out = tmp_path / "model.o"
    includes = (tmp_path, firmware.ROOT)
    toolchain.compile_object(tmp_path / "model.c", includes, boards.load(board), out, toolchain=kind)
    assert out.stat().st_size > 1000


@pytest.mark.parametrize("unit", get_args(Unit))
def test_constant_bytes_count_what_the_c_defines(unit: Unit) -> None:
    made = replace(graph(), unit=unit)
    sizes = {"int8_t": 1, "int16_t": 2, "int32_t": 4, "uint32_t": 4}
    arrays = re.findall(r"static const (\w+) \w+\[(\d+)\]", emit.emit(made, plan(made)))
    assert emit.constant_bytes(made) == sum(sizes[kind] * int(count) for kind, count in arrays)


def test_nodes_of_one_shape_share_their_code() -> None:
    """Two equal convolutions that differ in their weights only are one function, called twice."""
    rng = np.random.default_rng(3)
    x, y, z = (tfl.Value(n, (1, 6, 6, 4), "int8", *Q) for n in "xyz")
    v, w = (tfl.constant(n, rng.integers(-127, 128, (4, 3, 3, 4)), "int8", 0.01) for n in "vw")
    slide = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE"}
    nodes = [tfl.Op("CONV_2D", [x, v], [y], slide, 3), tfl.Op("CONV_2D", [y, w], [z], slide, 3)]
    made = passes.run(read_tflite.read(tfl.model([x], nodes, [], [z]), "twice"))
    text = emit.emit(made, plan(made))
    assert text.count("noinline") == 1
    assert text.count("    conv_2d_0(AT(int8_t") == 2


def test_every_op_has_its_kernel_file() -> None:
    kernels = {path.stem for path in (firmware.ROOT / "kernels").glob("*.h")}
    for node in emit.compiled_nodes(graph()):
        assert OPS[node.op].call(graph(), node).kernel in kernels
