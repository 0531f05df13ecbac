"""Ops that move values: transpose, slice, join, split, gather, resize; against TFLM and the C."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given, settings
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, int8, quantisations, quick

from firmware.compiler import interp, read_tflite
from firmware.compiler.graph import Graph, ModelError, Node, Quantisation, Tensor
from firmware.compiler.ops import (
    OPS,
    add,
    arg_max,
    batch_matmul,
    concatenation,
    dequantize,
    gather,
    maximum,
    mul,
    quantize,
    reduce,
    split,
    squared_difference,
    transpose,
    transpose_conv,
    unary,
)

SCALE = (0.1, 3)


def value(name: str, shape: Any) -> tfl.Value:
    """Return an int8 value of the one scale that these ops keep."""
    return tfl.Value(name, tuple(int(size) for size in shape), "int8", *SCALE)


def shapes(draw: Any, most: int = 5) -> list[int]:
    """Draw the sizes of a tensor, the first often 1."""
    sizes: list[int] = draw(st.lists(st.integers(1, 5), min_size=1, max_size=most))
    return [1, *sizes[1:]] if draw(st.booleans()) else sizes


@st.composite
def views(draw: Any) -> Case:
    """Draw a TRANSPOSE, SLICE or BROADCAST_TO."""
    name = draw(st.sampled_from(["TRANSPOSE", "SLICE", "BROADCAST_TO"]))
    shape = shapes(draw, 4 if name == "BROADCAST_TO" else 5)
    x = value("x", shape)
    if name == "TRANSPOSE":
        order = draw(st.permutations(range(len(shape))))
        extra, target = [tfl.constant("order", order)], [shape[axis] for axis in order]
    elif name == "SLICE":
        begin = [draw(st.integers(0, size - 1)) for size in shape]
        target = [draw(st.integers(1, size - first)) for size, first in zip(shape, begin, strict=True)]
        ends = zip(shape, begin, target, strict=True)
        written = [
            -1 if size == first + count and draw(st.booleans()) else count for size, first, count in ends
        ]
        extra = [tfl.constant("begin", begin), tfl.constant("size", written)]
    else:
        target = [draw(st.integers(1, 3)) if size == 1 else size for size in shape]
        target = [*draw(st.lists(st.integers(1, 3), max_size=1)), *target]
        extra = [tfl.constant("shape", target)]
    return Case(tfl.Op(name, [x, *extra], [value("y", target)]), (int8(draw, shape),))


@given(st.lists(views(), min_size=CASES, max_size=CASES))
@quick
def test_views(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def strided(draw: Any) -> Case:
    """Draw a STRIDED_SLICE with masks, strides of either sign and dropped axes."""
    shape = shapes(draw, 4)
    rank = len(shape)
    begin = [draw(st.integers(-size, size - 1)) for size in shape]
    end = [draw(st.integers(-size - 1, size + 1)) for size in shape]
    dropped = draw(st.integers(0, (1 << rank) - 1)) if rank > 1 else 0
    open_begin, open_end = draw(st.integers(0, 31)), draw(st.integers(0, 31))
    steps = [1 if dropped >> i & 1 else draw(st.sampled_from([1, 1, 2, 3, -1, -2])) for i in range(rank)]
    index: list[Any] = []
    for i, size in enumerate(shape):
        first = None if open_begin >> i & 1 else begin[i]
        last = None if open_end >> i & 1 else end[i]
        part = slice(first, last, steps[i])
        if not range(size)[part]:  # nothing: take everything
            open_begin, open_end, part = open_begin | 1 << i, open_end | 1 << i, slice(None, None, steps[i])
        index.append((part.start or 0) if dropped >> i & 1 else part)
    x = int8(draw, shape)
    wanted = x[tuple(index)]
    masks = {"begin_mask": open_begin, "end_mask": open_end, "shrink_axis_mask": dropped}
    inputs = [value("x", shape), *(tfl.constant(n, v) for n, v in (("b", begin), ("e", end), ("s", steps)))]
    return Case(tfl.Op("STRIDED_SLICE", inputs, [value("y", wanted.shape)], masks), (x,))


@given(st.lists(strided(), min_size=CASES, max_size=CASES))
@quick
def test_strided_slices(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def joins(draw: Any) -> Case:
    """Draw a CONCATENATION, whose parts may have other scales or be constants, or a PACK."""
    name = draw(st.sampled_from(["CONCATENATION", "PACK"]))
    shape = shapes(draw, 4)
    count, axis = draw(st.integers(1, 4)), draw(st.integers(0, len(shape) - 1))
    parts, inputs, whole, oracle = [], [], 0, "tflm"
    for i in range(count):
        own = list(shape)
        if name == "CONCATENATION":
            own[axis] = draw(st.integers(1, 4))
        whole += own[axis]
        data = int8(draw, own)
        fixed = i > 0 and draw(st.integers(0, 3)) == 0
        other = name == "CONCATENATION" and draw(st.integers(0, 4)) == 0
        oracle = "" if other else oracle  # TFLM and LiteRT refuse other scales
        q = draw(quantisations) if other else SCALE
        parts.append(tfl.Value(f"x{i}", tuple(own), "int8", *q, data=data if fixed else None))
        inputs += [] if fixed else [data]
    if name == "PACK":
        return Case(
            tfl.Op(
                name,
                parts,
                [value("y", [*shape[:axis], count, *shape[axis:]])],
                {"axis": axis, "values_count": count},
            ),
            tuple(inputs),
        )
    options = {"axis": axis - len(shape) if draw(st.booleans()) else axis}
    target = value("y", [*shape[:axis], whole, *shape[axis + 1 :]])
    return Case(tfl.Op(name, parts, [target], options), tuple(inputs), oracle)


@given(st.lists(joins(), min_size=CASES, max_size=CASES))
@quick
def test_joins(cases: list[Case]) -> None:
    agree(cases)


def test_concatenation_rescales_as_quantize() -> None:
    """A part with another scale is what QUANTIZE makes of it."""
    x = tfl.Value("x", (1, 256), "int8", 0.05, -7)
    y = tfl.Value("y", (1, 256), "int8", 0.08, 20)
    every = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
    cases = [Case(tfl.Op(name, [x], [y]), (every,), "") for name in ("CONCATENATION", "QUANTIZE")]
    joined, rescaled = (interp.run(read_tflite.read(case.model, "case"), case.inputs)[0] for case in cases)
    np.testing.assert_array_equal(joined, rescaled)


@st.composite
def pieces(draw: Any) -> Case:
    """Draw a SPLIT, SPLIT_V or UNPACK."""
    name = draw(st.sampled_from(["SPLIT", "SPLIT_V", "UNPACK"]))
    shape = shapes(draw, 4)
    axis = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    if name == "SPLIT":
        sizes = [sizes[0]] * len(sizes)
    if name != "UNPACK":
        shape[axis] = sum(sizes)
    written = axis - len(shape) if draw(st.booleans()) else axis
    x, where = value("x", shape), tfl.constant("axis", written)
    if name == "UNPACK":
        outputs = [value(f"y{i}", [*shape[:axis], *shape[axis + 1 :]]) for i in range(shape[axis])]
        op = tfl.Op(name, [x], outputs, {"num": shape[axis], "axis": written})
    else:
        outputs = [value(f"y{i}", [*shape[:axis], size, *shape[axis + 1 :]]) for i, size in enumerate(sizes)]
        inputs = [where, x] if name == "SPLIT" else [x, tfl.constant("sizes", sizes), where]
        op = tfl.Op(name, inputs, outputs, {"num_splits": len(sizes)})
    return Case(op, (int8(draw, shape),))


@given(st.lists(pieces(), min_size=CASES, max_size=CASES))
@quick
def test_pieces(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def choices(draw: Any) -> Case:
    """Draw a GATHER or a RESIZE_NEAREST_NEIGHBOR."""
    if draw(st.booleans()):
        shape = shapes(draw, 4)
        axis = draw(st.integers(-len(shape), len(shape) - 1))
        chosen = draw(st.lists(st.integers(0, shape[axis] - 1), min_size=1, max_size=6))
        target = np.take(np.zeros(shape), chosen, axis=axis).shape
        op = tfl.Op(
            "GATHER", [value("x", shape), tfl.constant("i", chosen)], [value("y", target)], {"axis": axis}
        )
        return Case(op, (int8(draw, shape),))
    shape = [draw(st.integers(1, 6)) for _ in range(4)]
    size = [draw(st.integers(1, 13)) for _ in range(2)]
    flag = draw(st.sampled_from(["", "align_corners", "half_pixel_centers"]))
    y = value("y", [shape[0], *size, shape[3]])
    op = tfl.Op(
        "RESIZE_NEAREST_NEIGHBOR",
        [value("x", shape), tfl.constant("s", size)],
        [y],
        {flag: True} if flag else {},
    )
    return Case(op, (int8(draw, shape),))


@given(st.lists(choices(), min_size=CASES, max_size=CASES))
@quick
def test_choices(cases: list[Case]) -> None:
    agree(cases)


X = value("x", (2, 6))
I32 = tfl.constant


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (tfl.Op("TRANSPOSE", [X, I32("p", [0, 0])], [value("y", (2, 6))]), "permutation"),
        (tfl.Op("TRANSPOSE", [X, I32("p", [1])], [value("y", (2, 6))]), "has 1 numbers"),
        (tfl.Op("TRANSPOSE", [X, I32("p", [1, 0])], [value("y", (2, 6))]), "its input gives"),
        (
            tfl.Op("TRANSPOSE", [X, I32("p", [1, 0])], [tfl.Value("y", (6, 2), "int8", 0.2)]),
            "differ in type, scale",
        ),
        (
            tfl.Op("TRANSPOSE", [X, tfl.Value("p", (2,), "int32")], [value("y", (6, 2))]),
            "computed at run time",
        ),
        (tfl.Op("SLICE", [X, I32("b", [0, 4]), I32("s", [2, 3])], [value("y", (2, 3))]), "it takes"),
        (tfl.Op("SLICE", [X, I32("b", [0, -1]), I32("s", [2, 1])], [value("y", (2, 1))]), "it takes"),
        (
            tfl.Op("STRIDED_SLICE", [X, *(I32(n, [0, 0]) for n in "bes")], [value("y", (2, 6))]),
            "stride 0",
        ),
        (
            tfl.Op(
                "STRIDED_SLICE",
                [X, I32("b", [0, 9]), I32("e", [2, 9]), I32("s", [1, 1])],
                [value("y", (2, 1))],
            ),
            "takes nothing",
        ),
        (tfl.Op("BROADCAST_TO", [X, I32("t", [3, 6])], [value("y", (3, 6))]), "broadcast"),
        (tfl.Op("CONCATENATION", [X, X], [value("y", (4, 6))], {"axis": 1}), "do not give"),
        (tfl.Op("CONCATENATION", [X, X], [value("y", (4, 6))], {"axis": 7}), "axis 7"),
        (tfl.Op("SPLIT", [I32("a", 1), X], [value(n, (2, 2)) for n in "yz"], {"num_splits": 2}), "has shape"),
        (tfl.Op("SPLIT_V", [X, I32("s", [4, 4]), I32("a", 1)], [value(n, (2, 4)) for n in "yz"]), "pieces"),
        (tfl.Op("UNPACK", [X], [value("y", (6,))], {"num": 1}), "pieces"),
        (tfl.Op("GATHER", [X, I32("i", [6])], [value("y", (2, 1))], {"axis": 1}), "indices outside"),
        (tfl.Op("RESIZE_NEAREST_NEIGHBOR", [X, I32("s", [2, 2])], [value("y", (2, 2))]), "resized"),
    ],
)
def test_refusals(op: tfl.Op, complaint: str) -> None:
    """A node whose numbers contradict each other never reaches the C."""
    graph = read_tflite.read(Case(op, ()).model, "net")
    with pytest.raises(ModelError, match=complaint) as caught:
        OPS[op.name].check(graph, graph.nodes[0])
    assert str(caught.value).startswith(f"net: {op.name}")


MODULES = (add, arg_max, batch_matmul, concatenation, dequantize, gather, maximum, mul, quantize, reduce)
MODULES = (*MODULES, split, squared_difference, transpose, transpose_conv, unary)
OWN = sorted(op.name for module in MODULES for op in getattr(module, "OPS", None) or [module.OP])


@st.composite
def damaged(draw: Any) -> Graph:
    """Draw a graph of one node with any inputs, types, constants and options."""
    tensors: list[Tensor] = []
    for _ in range(draw(st.integers(1, 6))):
        shape = tuple(draw(st.lists(st.integers(1, 3), max_size=4)))
        dtype = draw(st.sampled_from(["int8", "int8", "int8", "int32", "float32"]))
        scale = np.array(
            draw(st.lists(st.sampled_from([1e-9, 0.1, 0.2, 1e9]), min_size=1, max_size=2)), np.float32
        )
        zero = np.full(scale.shape, draw(st.sampled_from([0, 3, 127, 1000])), np.int32)
        constant = np.full(shape, draw(st.integers(-2, 3)), dtype) if draw(st.booleans()) else None
        quantisation = Quantisation(scale, zero) if draw(st.integers(0, 3)) else None
        tensors.append(Tensor(f"t{len(tensors)}", shape, dtype, quantisation, constant))
    constants = [i for i, tensor in enumerate(tensors) if tensor.constant]
    running = [i for i in range(len(tensors)) if i not in constants]
    places = st.lists(st.sampled_from([*range(len(tensors)), -1]), max_size=4)
    outputs = tuple(draw(st.lists(st.sampled_from(running), max_size=2, unique=True))) if running else ()
    inputs = tuple(i for i in draw(places) if i not in outputs)
    keys = [
        "axis",
        "num",
        "keep_dims",
        "adj_x",
        "begin_mask",
        "shrink_axis_mask",
        "stride_h",
        "stride_w",
        "alpha",
    ]
    options = draw(st.dictionaries(st.sampled_from(keys), st.integers(-2, 5), max_size=4))
    node = Node("", inputs, outputs, options)
    left = tuple(i for i in running if i not in outputs)
    return Graph(tuple(tensors), (node,), left, outputs, "net")


@given(damaged(), st.sampled_from(OWN))
@settings(max_examples=400, deadline=None)
def test_damaged_nodes(graph: Graph, name: str) -> None:
    """Whatever a node says, it is refused by ModelError or has a meaning of the promised shapes."""
    node = replace(graph.nodes[0], op=name)
    graph = replace(graph, nodes=(node,))
    op = OPS[name]
    try:
        op.check(graph, node)
    except ModelError:
        return
    operands = [None if i < 0 else graph.tensors[i].data for i in node.inputs]
    filled = [
        np.ones(graph.tensors[i].shape, graph.tensors[i].dtype) if data is None and i >= 0 else data
        for i, data in zip(node.inputs, operands, strict=True)
    ]
    made = op.meaning(graph, node, filled)
    assert [array.shape for array in made] == [graph.tensors[i].shape for i in node.outputs]
    assert op.macs(graph, node) >= 0
    if not op.alias:
        assert op.call(graph, node).arguments
