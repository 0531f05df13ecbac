"""Ops that choose, pad or deal out values: gather, one-hot, pads, blocks, select, update; all types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, quick
from typed_values import MOVED, numbers, of, sizes

from firmware.compiler import interp, read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.ops import OPS

I32 = tfl.constant
types = st.sampled_from(MOVED)
INDEX = st.sampled_from(["int32", "int64"])


def places(draw: Any, shape: Any, size: int, kind: str) -> tuple[tfl.Value, list[Any]]:
    """Draw indices below `size`, a constant or a run-time input; return (value, inputs)."""
    data = numbers(draw, shape, kind, 0, size - 1)
    fixed = draw(st.booleans())
    return tfl.Value("i", tuple(shape), kind, data=data if fixed else None), [] if fixed else [data]


@st.composite
def gathers(draw: Any) -> Case:
    """Draw a GATHER, EMBEDDING_LOOKUP, GATHER_ND or ONE_HOT."""
    name, kind = draw(st.sampled_from(["GATHER", "EMBEDDING_LOOKUP", "GATHER_ND", "ONE_HOT"])), draw(types)
    shape = sizes(draw, most=3)
    x, index, options = numbers(draw, shape, kind), draw(INDEX), {}
    source = of("x", shape, kind)
    if name == "GATHER":
        axis = draw(st.integers(-len(shape), len(shape) - 1))
        batches = draw(st.integers(0, axis % len(shape)))
        many = draw(st.lists(st.integers(1, 3), max_size=1 if batches else 2))
        options = {"axis": axis, "batch_dims": batches}
        chosen, inputs = places(draw, [*shape[:batches], *many], shape[axis], index)
        target = (*shape[: axis % len(shape)], *many, *shape[axis % len(shape) + 1 :])
        op = tfl.Op(name, [source, chosen], [of("y", target, kind)], options)
        return Case(op, (x, *inputs), "litert" if batches or index == "int64" else "either")
    if name == "EMBEDDING_LOOKUP":
        shape = [*shape, 2]
        table = of("x", shape, kind, numbers(draw, shape, kind))
        data = numbers(draw, (draw(st.integers(1, 4)),), "int32", 0, shape[0] - 1)
        chosen = tfl.Value("i", data.shape, "int32")
        op = tfl.Op(name, [chosen, table], [of("y", (*chosen.shape, *shape[1:]), kind)])
        return Case(op, (data,), "either")
    if name == "GATHER_ND":
        depth = draw(st.integers(1, len(shape)))
        many = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
        chosen, inputs = places(draw, [*many, depth], min(shape[:depth]), index)
        op = tfl.Op(name, [source, chosen], [of("y", (*many, *shape[depth:]), kind)])
        return Case(op, (x, *inputs), "litert" if index == "int64" else "either")
    kind = draw(st.sampled_from(["int8", "int32", "int64", "bool", "float32"]))
    depth, axis = draw(st.integers(1, 4)), draw(st.integers(-1, len(shape)))
    hot = numbers(draw, shape, index, -1, depth)
    at = axis % (len(shape) + 1)
    levels = [of(n, (), kind, numbers(draw, (), kind)) for n in ("on", "off")]
    inputs_ = [tfl.Value("x", tuple(shape), index), I32("depth", depth), *levels]
    op = tfl.Op(name, inputs_, [of("y", (*shape[:at], depth, *shape[at:]), kind)], {"axis": axis})
    return Case(op, (hot,), "litert")


@given(st.lists(gathers(), min_size=CASES, max_size=CASES))
@quick
def test_gathers(cases: list[Case]) -> None:
    agree(cases)


def test_an_index_out_of_range_is_moved_into_it() -> None:
    """Run-time indices never reach memory outside of the tensor, in numpy and in C."""
    x = np.arange(12, dtype=np.int8).reshape(4, 3)
    wild = np.array([-5, 9, 2], np.int32)
    op = tfl.Op("GATHER", [of("x", (4, 3)), tfl.Value("i", (3,), "int32")], [of("y", (3, 3))])
    nd = tfl.Op("GATHER_ND", [of("x", (4, 3)), tfl.Value("i", (3, 1), "int32")], [of("y", (3, 3))])
    cases = [Case(op, (x, wild), ""), Case(nd, (x, wild.reshape(3, 1)), "")]
    agree(cases)
    made = interp.run(read_tflite.read(cases[0].model, "case"), cases[0].inputs)[0]
    np.testing.assert_array_equal(made, x[[0, 3, 2]])


@st.composite
def pads(draw: Any) -> Case:
    """Draw a PAD, PADV2 or MIRROR_PAD."""
    name, kind = draw(st.sampled_from(["PAD", "PADV2", "MIRROR_PAD"])), draw(types)
    shape = sizes(draw, most=4)
    symmetric = draw(st.booleans())
    most = [size if symmetric else size - 1 for size in shape] if name == "MIRROR_PAD" else [3] * len(shape)
    around = [[draw(st.integers(0, n)) if draw(st.booleans()) else 0 for _ in range(2)] for n in most]
    target = [size + sum(pair) for size, pair in zip(shape, around, strict=True)]
    extra = [of("v", (1,), kind, numbers(draw, (1,), kind))] if name == "PADV2" else []
    options = {"mode": "SYMMETRIC" if symmetric else "REFLECT"} if name == "MIRROR_PAD" else {}
    inputs = [of("x", shape, kind), I32("p", around), *extra]
    return Case(
        tfl.Op(name, inputs, [of("y", target, kind)], options), (numbers(draw, shape, kind),), "either"
    )


@given(st.lists(pads(), min_size=CASES, max_size=CASES))
@quick
def test_pads(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def blocks(draw: Any) -> Case:
    """Draw a SPACE_TO_BATCH_ND or BATCH_TO_SPACE_ND of one or two spatial axes with borders."""
    kind = draw(st.sampled_from(["int8", "int16", "int32", "float32"]))
    spatial = draw(st.integers(1, 2))
    step = [draw(st.integers(1, 3)) for _ in range(spatial)]
    parts = [draw(st.integers(1, 3)) for _ in range(spatial)]
    around = []
    for n, block in zip(parts, step, strict=True):
        before = draw(st.integers(0, n * block - 1))
        around.append([before, draw(st.integers(0, n * block - 1 - before))])
    whole = [n * block - sum(pair) for n, block, pair in zip(parts, step, around, strict=True)]
    images, depth = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    wide = (images, *whole, depth)
    dealt = (images * int(np.prod(step)), *parts, depth)
    to_batch = draw(st.booleans())
    source, target = (wide, dealt) if to_batch else (dealt, wide)
    name = "SPACE_TO_BATCH_ND" if to_batch else "BATCH_TO_SPACE_ND"
    inputs = [of("x", source, kind), I32("b", step), I32("p", around)]
    return Case(tfl.Op(name, inputs, [of("y", target, kind)]), (numbers(draw, source, kind),), "litert")


@given(st.lists(blocks(), min_size=CASES, max_size=CASES))
@quick
def test_blocks(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def selections(draw: Any) -> Case:
    """Draw a SELECT, SELECT_V2 or REVERSE_SEQUENCE."""
    name, kind = draw(st.sampled_from(["SELECT", "SELECT_V2", "REVERSE_SEQUENCE"])), draw(types)
    shape = sizes(draw, 2, 4)
    if name == "REVERSE_SEQUENCE":
        kind = draw(st.sampled_from(["int16", "int32", "float32"]))
        sequence, batch = draw(st.permutations(range(len(shape))))[:2]
        lengths = numbers(draw, (shape[batch],), "int32", 1, shape[sequence])
        options = {"seq_dim": sequence, "batch_dim": batch}
        op = tfl.Op(name, [of("x", shape, kind), I32("n", lengths)], [of("y", shape, kind)], options)
        return Case(op, (numbers(draw, shape, kind),), "litert")
    smaller = [[1 if draw(st.integers(0, 2)) == 0 else n for n in shape] for _ in range(3)]
    own = smaller if name == "SELECT_V2" else [shape] * 3
    if name == "SELECT" and draw(st.booleans()):
        own = [shape[:1], shape, shape]
    target = np.broadcast_shapes(*own) if name == "SELECT_V2" else shape
    values = [of("c", own[0], "bool"), of("a", own[1], kind), of("b", own[2], kind)]
    inputs = [numbers(draw, value.shape, value.dtype) for value in values]
    return Case(tfl.Op(name, values, [of("y", target, kind)]), tuple(inputs), "litert")


@given(st.lists(selections(), min_size=CASES, max_size=CASES))
@quick
def test_selections(cases: list[Case]) -> None:
    agree(cases)


X = of("x", (2, 6))


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (tfl.Op("GATHER_ND", [X, I32("i", [[0, 6]])], [of("y", (1,))]), "indices outside"),
        (tfl.Op("GATHER", [X, I32("i", [[0]])], [of("y", (1, 6))], {"batch_dims": 1}), "batch_dims"),
        (tfl.Op("GATHER", [X, of("i", (1,), "float32")], [of("y", (1, 6))]), "is float32"),
        (tfl.Op("ONE_HOT", [X, I32("d", 3), X, X], [of("y", (2, 6, 3))]), "is int8"),
        (tfl.Op("PAD", [X, I32("p", [[0, -1], [0, 0]])], [of("y", (1, 6))]), "paddings"),
        (tfl.Op("MIRROR_PAD", [X, I32("p", [[2, 0], [0, 0]])], [of("y", (4, 6))]), "mirror image"),
        (
            tfl.Op(
                "SPACE_TO_BATCH_ND",
                [of("x", (1, 3, 1)), I32("b", [2]), I32("p", [[0, 0]])],
                [of("y", (2, 1, 1))],
            ),
            "blocks",
        ),
        (tfl.Op("SELECT_V2", [of("c", (3,), "bool"), X, X], [of("y", (2, 6))]), "do not give"),
        (
            tfl.Op(
                "REVERSE_SEQUENCE", [X, I32("n", [7, 1])], [of("y", (2, 6))], {"seq_dim": 1, "batch_dim": 0}
            ),
            "lengths",
        ),
    ],
)
def test_refusals(op: tfl.Op, complaint: str) -> None:
    graph = read_tflite.read(Case(op, ()).model, "net")
    with pytest.raises(ModelError, match=complaint):
        OPS[op.name].check(graph, graph.nodes[0])
