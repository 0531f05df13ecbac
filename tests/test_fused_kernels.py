"""Fused kernels on drawn graphs: attention, normalisation, transposes; the same in numpy and in C."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite_writer as tfl
from fused import fused, ops_of, q8, same_in_c
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import int8, quick

from firmware.compiler import interp, passes, plan, read_tflite
from firmware.compiler.ops.ear_norm import inverse_root
from firmware.compiler.passes.transposes import drop_transposes


@st.composite
def attentions(draw: Any) -> tuple[bytes, list[tuple[int, ...]]]:
    """Draw attention of several heads: which operands are transposed, sizes, a scale between or none."""
    heads, rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 40)), draw(st.integers(1, 40))
    depth, width = draw(st.sampled_from([1, 2, 4, 5])), draw(st.sampled_from([1, 2, 4, 5]))
    nodes: list[tfl.Op] = []

    def operand(name: str, length: int, size: int, swap: bool) -> tuple[tfl.Value, tfl.Value]:
        shape = (1, heads, size, length) if swap else (1, heads, length, size)
        ready = q8(f"{name}_ready", shape, 0.05, 3)
        if not draw(st.booleans()):
            return ready, ready
        order = [0, 2, 3, 1] if swap else [0, 2, 1, 3]
        source = q8(name, (1, length, heads, size), 0.05, 3)
        assert tuple(source.shape[axis] for axis in order) == shape
        nodes.append(tfl.Op("TRANSPOSE", [source, tfl.constant(f"{name}_order", order)], [ready]))
        return source, ready

    adj_y = draw(st.booleans())
    q, q_ready = operand("q", rows, depth, swap=False)
    k, k_ready = operand("k", columns, depth, swap=not adj_y)
    v, v_ready = operand("v", columns, width, swap=False)
    scores, p = (
        q8("scores", (1, heads, rows, columns), 0.1, -5),
        q8("p", (1, heads, rows, columns), 1 / 256, -128),
    )
    y = q8("y", (1, heads, rows, width), 0.03, 1)
    nodes.append(tfl.Op("BATCH_MATMUL", [q_ready, k_ready], [scores], {"adj_y": adj_y}, 4))
    if draw(st.booleans()):
        scaled = q8("scaled", scores.shape, 0.04, 7)
        nodes.append(tfl.Op("MUL", [scores, tfl.constant("c", 100, "int8", 0.004, 0)], [scaled]))
        scores = scaled
    for i in range(draw(st.integers(0, 2))):  # a mask, relative positions of each head, one a key
        sizes = draw(st.sampled_from([(1, heads, rows, columns), (rows, columns), (columns,), (heads, 1, 1)]))
        fixed = tfl.constant(f"bias{i}", int8(draw, sizes), "int8", 0.05, 4)
        sums = q8(f"biased{i}", scores.shape, 0.08, -20)
        nodes.append(tfl.Op(draw(st.sampled_from(["ADD", "SUB"])), [scores, fixed], [sums]))
        scores = sums
    nodes.append(tfl.Op("SOFTMAX", [scores], [p], {"beta": 1.0}, 2))
    nodes.append(tfl.Op("BATCH_MATMUL", [p, v_ready], [y], {}, 4))
    if draw(st.booleans()):
        last = q8("last", (1, rows, heads, width), 0.03, 1)
        nodes.append(tfl.Op("TRANSPOSE", [y, tfl.constant("y_order", [0, 2, 1, 3])], [last]))
        y = last
    # firmware runs have one input in these tests: q, k and v are cut from it
    return _of_one_input([q, k, v], nodes, y)


def _of_one_input(
    values: list[tfl.Value], nodes: list[tfl.Op], y: tfl.Value
) -> tuple[bytes, list[tuple[int, ...]]]:
    sizes = [int(np.prod(value.shape)) for value in values]
    x = q8("x", (1, sum(sizes)), 0.05, 3)
    cuts, start = [], 0
    for value, size in zip(values, sizes, strict=True):
        part = q8(f"{value.name}_part", (1, size), 0.05, 3)
        begin, length = (
            tfl.constant(f"{value.name}_at", [0, start]),
            tfl.constant(f"{value.name}_n", [1, size]),
        )
        cuts.append(tfl.Op("SLICE", [x, begin, length], [part]))
        shape = tfl.constant(f"{value.name}_shape", list(value.shape))
        cuts.append(tfl.Op("RESHAPE", [part, shape], [value]))
        start += size
    return tfl.model([x], [*cuts, *nodes], [], [y]), [value.shape for value in values]


@given(attentions())
@quick
def test_attention_gives_the_bytes_of_the_chain(drawn: tuple[bytes, Any]) -> None:
    graph = fused(drawn[0])
    made = [node for node in graph.nodes if node.op.startswith("EAR_ATTENTION")]
    if not made:  # a few scores take less than the kernel's copies of k and v
        assert max(graph.tensors[i].bytes for node in graph.nodes for i in node.outputs) < 2048
        return
    plan_of = made[0].options["plan"]
    assert 1 <= plan_of.block <= plan_of.rows
    shape = graph.tensors[graph.inputs[0]].shape
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    chain = passes.unfused(read_tflite.read(drawn[0], "net"))
    if not any(node.op == "EAR_TABLE" for node in made[0].options["chain"]):
        np.testing.assert_array_equal(interp.run(graph, [x])[0], interp.run(chain, [x])[0])
    same_in_c(graph, 3)


def test_scores_are_never_whole() -> None:
    """Two heads of 98 frames: the chain keeps 19,208 bytes of scores, the kernel one block of one head."""
    shape = (1, 98, 2, 8)
    values = [q8(name, shape, 0.05, 3) for name in "qkv"]
    ready = [q8(f"{n}r", (1, 2, 8, 98) if n == "k" else (1, 2, 98, 8), 0.05, 3) for n in "qkv"]
    orders = [[0, 2, 3, 1] if n == "k" else [0, 2, 1, 3] for n in "qkv"]
    nodes = [
        tfl.Op("TRANSPOSE", [value, tfl.constant(f"{value.name}o", order)], [turned])
        for value, turned, order in zip(values, ready, orders, strict=True)
    ]
    scores, p = q8("s", (1, 2, 98, 98), 0.1), q8("p", (1, 2, 98, 98), 1 / 256, -128)
    y, last = q8("y", (1, 2, 98, 8), 0.03), q8("last", shape, 0.03)
    nodes += [
        tfl.Op("BATCH_MATMUL", ready[:2], [scores], {}, 4),
        tfl.Op("SOFTMAX", [scores], [p], {"beta": 1.0}, 2),
        tfl.Op("BATCH_MATMUL", [p, ready[2]], [y], {}, 4),
        tfl.Op("TRANSPOSE", [y, tfl.constant("yo", [0, 2, 1, 3])], [last]),
    ]
    model, _ = _of_one_input(values, nodes, last)
    plain, whole = (
        plan.plan(made) for made in (passes.unfused(read_tflite.read(model, "net")), fused(model))
    )
    assert plain.arena > 2 * 98 * 98 > whole.arena


@given(st.sampled_from(["RELU", "RELU6", "RELU_N1_TO_1"]), st.booleans(), st.data())
@quick
def test_an_activation_that_keeps_the_scale_goes_into_the_sums(name: str, same: bool, data: Any) -> None:
    """The same bytes; with another scale it stays a node of its own, which rounds again as TFLM does."""
    x, h = q8("x", (1, 12), 0.05, 3), q8("h", (1, 30), 0.11, -5)
    y = q8("y", (1, 30), 0.11 if same else 0.09, -5)
    w = tfl.constant("w", int8(data.draw, (30, 12), -127), "int8", 0.004, 0)
    nodes = [tfl.Op("FULLY_CONNECTED", [x, w], [h], {}, 4), tfl.Op(name, [h], [y])]
    model = tfl.model([x], nodes, [], [y])
    graph, plain = fused(model), passes.unfused(read_tflite.read(model, "net"))
    assert ops_of(graph) == ["FULLY_CONNECTED"] if same else ["FULLY_CONNECTED", name]
    q = int8(data.draw, (1, 12))
    np.testing.assert_array_equal(interp.run(graph, [q])[0], interp.run(plain, [q])[0])
    same_in_c(graph, 2)


@given(st.integers(0, 2**32 - 1), st.integers(0, 62))
@quick
def test_inverse_root(seed: int, bits: int) -> None:
    total = np.random.default_rng(seed).integers(1 << max(bits - 1, 0), max(2, 1 << min(bits, 61)), 100)
    root, power = inverse_root(np.concatenate([total, [1, 2, 3, (1 << 62) - 1]]))
    right = 1 / np.sqrt(np.concatenate([total, [1, 2, 3, (1 << 62) - 1]]).astype(np.float64))
    assert np.abs(root * 2.0**power / right - 1).max() < 2.0**-26
    assert root.min() >= 1 << 30
    assert root.max() < 1 << 31


@st.composite
def norms(draw: Any) -> tuple[bytes, npt.NDArray[np.int8], Any]:
    """Draw a normalisation of int8 as op by op chains, with what it should give in real numbers."""
    shape = tuple(draw(st.sampled_from([(1, 5, 8), (1, 3, 4, 6), (1, 12, 3), (1, 40)])))
    rank = len(shape)
    axes = draw(st.sampled_from([(rank - 1,), (1,), tuple(range(1, rank))]))
    mean_taken, scale = draw(st.booleans()), draw(st.sampled_from([1e-3, 0.02, 0.5]))
    zero, epsilon = draw(st.integers(-60, 60)), draw(st.sampled_from([1e-6, 1e-3]))
    x = q8("x", shape, scale, zero)
    small = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    m, c = q8("m", small, scale, zero), q8("c", shape, scale * 1.5, 0)
    nodes = [
        tfl.Op("MEAN", [x, tfl.constant("a", axes)], [m], {"keep_dims": True}),
        tfl.Op("SUB", [x, m], [c]),
    ]
    if not mean_taken:
        nodes, c = [], x
    square, v = q8("square", shape, scale * scale * 250, -128), q8("v", small, scale * scale * 100, -128)
    e, r = q8("e", small, scale * scale * 100, -128), q8("r", small, 0.1 / scale, -128)
    y = q8("y", shape, 0.03, draw(st.integers(-20, 20)))
    nodes += [
        tfl.Op("MUL", [c, c], [square]),
        tfl.Op("MEAN", [square, tfl.constant("b", axes)], [v], {"keep_dims": True}),
        tfl.Op("ADD", [v, tfl.constant("eps", 127, "int8", epsilon / 127, 0)], [e]),
        tfl.Op("RSQRT", [e], [r]),
        tfl.Op("MUL", [c, r], [y]),
    ]
    data = int8(draw, shape)
    real = (data.astype(np.float64) - zero) * np.float32(scale)
    real = real - real.mean(axis=axes, keepdims=True) if mean_taken else real
    epsilon = float(np.float32(epsilon / 127)) * 127
    real = real / np.sqrt(np.square(real).mean(axis=axes, keepdims=True) + epsilon)
    return tfl.model([x], nodes, [], [y]), data, real


@given(norms())
@quick
def test_normalisation_is_the_nearest_byte(drawn: tuple[bytes, Any, Any]) -> None:
    """Within half a step and one thousandth of the real number, on any input."""
    model, x, real = drawn
    graph = fused(model)
    assert ops_of(graph) == ["EAR_NORM"]
    q = graph.tensors[graph.outputs[0]].quantisation
    assert q is not None
    wanted = np.clip(real / q.scale[0] + q.zero_point[0], -128, 127)
    assert np.abs(interp.run(graph, [x])[0] - wanted).max() < 0.501
    same_in_c(graph, 3)


def test_other_sums_are_left_alone() -> None:
    """A root of a mean of squares that scales another value is no normalisation."""
    x, other = q8("x", (1, 4, 8), 0.02), q8("other", (1, 4, 8), 1 / 128)
    square, v = q8("s", (1, 4, 8), 0.001, -128), q8("v", (1, 4, 1), 0.001, -128)
    r, y = q8("r", (1, 4, 1), 0.05, -128), q8("y", (1, 4, 8), 0.03)
    nodes = [
        tfl.Op("TANH", [x], [other]),
        tfl.Op("MUL", [x, x], [square]),
        tfl.Op("MEAN", [square, tfl.constant("b", [2])], [v], {"keep_dims": True}),
        tfl.Op("RSQRT", [v], [r]),
        tfl.Op("MUL", [other, r], [y]),
    ]
    assert "EAR_NORM" not in ops_of(fused(tfl.model([x], nodes, [], [y])))


@st.composite
def turned(draw: Any) -> bytes:
    """Draw elementwise ops between transposes, as exporters that swap channels leave them."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=3, max_size=4)))
    order = draw(st.permutations(range(len(shape))))
    back = draw(st.sampled_from([list(np.argsort(order)), draw(st.permutations(range(len(shape))))]))
    inside = tuple(shape[axis] for axis in order)
    x, first = q8("x", shape, 0.05, 3), q8("first", inside, 0.05, 3)
    value, nodes = first, [tfl.Op("TRANSPOSE", [x, tfl.constant("order", order)], [first])]
    for i in range(draw(st.integers(0, 3))):
        after = q8(f"v{i}", inside, 0.05, 3 - i)
        kind = draw(st.sampled_from(["RELU", "ADD", "MUL", "both"]))
        rank = draw(st.integers(0, len(inside)))
        data = int8(draw, inside[len(inside) - rank :])
        other = tfl.constant(f"c{i}", data, "int8", 0.03, 1)
        inputs = {"RELU": [value], "both": [value, value]}.get(kind, [value, other])
        nodes.append(tfl.Op("ADD" if kind == "both" else kind, inputs, [after]))
        value = after
    q = value.scale, value.zero_point
    y = q8("y", tuple(inside[axis] for axis in back), *q)
    nodes.append(tfl.Op("TRANSPOSE", [value, tfl.constant("back", back)], [y]))
    return tfl.model([x], nodes, [], [y])


@given(st.lists(turned(), min_size=8, max_size=8))
@quick
def test_transposes_go_and_every_byte_stays(models: list[bytes]) -> None:
    for model in models:
        graph = read_tflite.read(model, "net")
        made = drop_transposes(graph).verify()
        x = np.random.default_rng(0).integers(-128, 128, graph.tensors[graph.inputs[0]].shape).astype(np.int8)
        np.testing.assert_array_equal(interp.run(made, [x])[0], interp.run(graph, [x])[0])
        assert len(made.nodes) <= len(graph.nodes)


def test_transposes_around_elementwise_ops_cancel() -> None:
    x, a = q8("x", (1, 3, 5), 0.05), q8("a", (1, 5, 3), 0.05)
    b, y = q8("b", (1, 5, 3), 0.05), q8("y", (1, 3, 5), 0.05)
    channel = tfl.constant("c", [[[5, -7, 9]]], "int8", 0.02, 0)
    nodes = [
        tfl.Op("TRANSPOSE", [x, tfl.constant("o", [0, 2, 1])], [a]),
        tfl.Op("ADD", [a, channel], [b]),
        tfl.Op("TRANSPOSE", [b, tfl.constant("p", [0, 2, 1])], [y]),
    ]
    assert ops_of(drop_transposes(read_tflite.read(tfl.model([x], nodes, [], [y]), "net"))) == ["ADD"]


def test_two_thousand_nodes_pass_in_a_second() -> None:
    value, nodes = q8("x0", (1, 16), 0.05), []
    first = value
    for i in range(1000):
        a, b = q8(f"a{i}", (1, 16), 0.05), q8(f"b{i}", (1, 16), 0.05)
        nodes += [tfl.Op("RELU", [value], [a]), tfl.Op("ADD", [a, value], [b])]
        value = b
    graph = read_tflite.read(tfl.model([first], nodes, [], [value]), "long")
    made = graph
    started = time.perf_counter()
    for step in (*passes.EXACT, *passes.FUSIONS):
        made = step(made)
    assert time.perf_counter() - started < 2  # less than one on a quiet core
    assert len(made.nodes) == 1  # one table: everything is a function of x0
