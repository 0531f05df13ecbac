"""Ops that read their input along other strides, slices with every mask; all types; TFLM and LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, quick
from typed_values import MOVED, numbers, of, sizes

from firmware.compiler import read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.ops import OPS

I32 = tfl.constant
types = st.sampled_from(MOVED)


@st.composite
def repeats(draw: Any) -> Case:
    """Draw a TRANSPOSE, TILE, FILL, BROADCAST_TO or REVERSE_V2."""
    name, kind = (
        draw(st.sampled_from(["TRANSPOSE", "TILE", "FILL", "BROADCAST_TO", "REVERSE_V2"])),
        draw(types),
    )
    shape = sizes(draw, most=4)
    if name == "FILL":
        value = numbers(draw, (), kind)
        return Case(
            tfl.Op(name, [I32("t", shape), of("x", (), kind)], [of("y", shape, kind)]), (value,), "either"
        )
    x = numbers(draw, shape, kind)
    if name == "TRANSPOSE":
        order = draw(st.permutations(range(len(shape))))
        extra, made = order, np.transpose(x, order)
    elif name == "TILE":
        extra = [draw(st.integers(1, 3)) for _ in shape]
        made = np.tile(x, extra)
    elif name == "BROADCAST_TO":
        extra = [draw(st.integers(1, 3)) if size == 1 else size for size in shape]
        made = np.broadcast_to(x, extra)
    else:
        extra = [draw(st.integers(-len(shape), len(shape) - 1))]
        made = x
    op = tfl.Op(name, [of("x", shape, kind), I32("n", extra)], [of("y", made.shape, kind)])
    return Case(op, (x,), "either")


@given(st.lists(repeats(), min_size=CASES, max_size=CASES))
@quick
def test_repeats(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def blocks(draw: Any) -> Case:
    """Draw a DEPTH_TO_SPACE or SPACE_TO_DEPTH."""
    kind = draw(st.sampled_from(["int8", "int32", "float32"]))
    block = draw(st.integers(1, 3))
    images, rows, columns, depth = (draw(st.integers(1, 3)) for _ in range(4))
    deep, wide = (images, rows, columns, depth * block**2), (images, rows * block, columns * block, depth)
    to_space = draw(st.booleans())
    source, target = (deep, wide) if to_space else (wide, deep)
    op = tfl.Op(
        "DEPTH_TO_SPACE" if to_space else "SPACE_TO_DEPTH",
        [of("x", source, kind)],
        [of("y", target, kind)],
        {"block_size": block},
    )
    return Case(op, (numbers(draw, source, kind),), "either")


@given(st.lists(blocks(), min_size=CASES, max_size=CASES))
@quick
def test_blocks(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def ranges(draw: Any) -> Case:
    """Draw a STRIDED_SLICE of any type with ranges, new axes, dropped axes, an ellipsis or offsets."""
    kind, shape = draw(types), sizes(draw, most=3)
    index: list[Any] = []
    masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    begin, end, step = [], [], []
    relative = draw(st.booleans())
    left = list(shape)
    while left and len(index) < 4:
        kinds = ["range", "drop"] if relative else ["range", "range", "drop", "new", "dots"]
        what = draw(st.sampled_from(kinds))
        bit, size = 1 << len(index), left[0]
        first, last, by = draw(st.integers(0, size - 1)), size, draw(st.sampled_from([1, 1, 2]))
        if what == "dots" and not masks["ellipsis_mask"]:
            masks["ellipsis_mask"] |= bit
            index.append(Ellipsis)
            left = left[draw(st.integers(1, len(left))) :]  # LiteRT misreads an ellipsis of no axes
        elif what == "new":
            masks["new_axis_mask"] |= bit
            index.append(None)
        else:
            left = left[1:]
            if what == "drop":
                masks["shrink_axis_mask"] |= bit
                by = 1
            elif draw(st.booleans()):
                masks["begin_mask"] |= bit
            index.append(
                first if what == "drop" else slice(0 if masks["begin_mask"] & bit else first, last, by)
            )
        begin.append(first)
        end.append(last - (0 if masks["begin_mask"] & bit else first) if relative else last)
        step.append(by)
    x = numbers(draw, shape, kind)
    made = x[tuple(index)]
    inputs = [of("x", shape, kind), *(I32(n, v) for n, v in (("b", begin), ("e", end), ("s", step)))]
    return Case(
        tfl.Op("STRIDED_SLICE", inputs, [of("y", made.shape, kind)], {**masks, "offset": relative}),
        (x,),
        "litert",
    )


@given(st.lists(ranges(), min_size=CASES, max_size=CASES))
@quick
def test_ranges(cases: list[Case]) -> None:
    agree(cases)


X = of("x", (2, 6))


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (tfl.Op("TILE", [X, I32("n", [0, 1])], [of("y", (2, 6))]), "repeats"),
        (tfl.Op("TILE", [X, tfl.Value("n", (2,), "int32")], [of("y", (2, 6))]), "computed at run time"),
        (tfl.Op("REVERSE_V2", [X, I32("a", [2])], [of("y", (2, 6))]), "axes"),
        (tfl.Op("FILL", [I32("n", [2, 6]), X], [of("y", (2, 6))]), "its value"),
        (tfl.Op("DEPTH_TO_SPACE", [X], [of("y", (2, 6))], {"block_size": 2}), "blocks of 2"),
        (
            tfl.Op("SPACE_TO_DEPTH", [of("x", (1, 3, 2, 1))], [of("y", (1, 1, 1, 4))], {"block_size": 2}),
            "not made",
        ),
        (
            tfl.Op("STRIDED_SLICE", [X, *(I32(n, [0, 0, 0]) for n in "bes")], [of("y", (2, 6))]),
            "3 ranges",
        ),
        (
            tfl.Op(
                "STRIDED_SLICE",
                [X, *(I32(n, [1, 1]) for n in "bes")],
                [of("y", (1, 1))],
                {"offset": True, "ellipsis_mask": 1},
            ),
            "offset",
        ),
    ],
)
def test_refusals(op: tfl.Op, complaint: str) -> None:
    graph = read_tflite.read(Case(op, ()).model, "net")
    with pytest.raises(ModelError, match=complaint):
        OPS[op.name].check(graph, graph.nodes[0])
