"""Bilinear resizing, updates in place, and ops whose value is known when compiling."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, quick
from typed_values import MOVED, numbers, of, sizes

from firmware.compiler import interp, passes, read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.ops import OPS
from firmware.compiler.passes.constants import fold_constants

I32 = tfl.constant


@st.composite
def resizes(draw: Any) -> Case:
    """Draw a RESIZE_BILINEAR."""
    kind = draw(st.sampled_from(["int8", "int8", "int16", "float32"]))
    shape = [draw(st.integers(1, 6)) for _ in range(4)]
    size = [draw(st.integers(1, 13)) for _ in range(2)]
    flag = draw(st.sampled_from(["", "align_corners", "half_pixel_centers"]))
    op = tfl.Op(
        "RESIZE_BILINEAR",
        [of("x", shape, kind), I32("s", size)],
        [of("y", [shape[0], *size, shape[3]], kind)],
        {flag: True} if flag else {},
    )
    return Case(op, (numbers(draw, shape, kind),), "either")


@given(st.lists(resizes(), min_size=CASES, max_size=CASES))
@quick
def test_resizes(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def updates(draw: Any) -> Case:
    """Draw a DYNAMIC_UPDATE_SLICE, often starting outside."""
    kind, shape = draw(st.sampled_from(MOVED)), sizes(draw, most=4)
    part = [draw(st.integers(1, n)) for n in shape]
    start = numbers(draw, (len(shape),), "int32", -1, max(shape) + 1)
    values = [of("x", shape, kind), of("u", part, kind), tfl.Value("s", (len(shape),), "int32")]
    inputs = (numbers(draw, shape, kind), numbers(draw, part, kind), start)
    return Case(tfl.Op("DYNAMIC_UPDATE_SLICE", values, [of("y", shape, kind)]), inputs, "either")


@given(st.lists(updates(), min_size=CASES, max_size=CASES))
@quick
def test_updates(cases: list[Case]) -> None:
    agree(cases)


def test_values_known_when_compiling() -> None:
    """As outputs of a model they are copied; LiteRT and TFLM say the same."""
    x = np.ones((2, 3, 4), np.float32)
    source = of("x", (2, 3, 4), "float32")
    cases = [
        Case(tfl.Op("ZEROS_LIKE", [source], [of("y", (2, 3, 4), "float32")]), (x,), "either"),
        Case(
            tfl.Op("SHAPE", [source], [of("y", (3,), "int32")], {"out_type": tfl.TYPES["int32"]}),
            (x,),
            "either",
        ),
        Case(tfl.Op("RANK", [source], [of("y", (), "int32")]), (x,), "litert"),
    ]
    agree(cases)


@pytest.mark.parametrize(
    ("kind", "numbers_"), [("int32", (7, -2, -3)), ("float32", (0.5, 2.1, 0.4)), ("int32", (0, 5, 1))]
)
def test_ranges(kind: str, numbers_: tuple[float, float, float]) -> None:
    """A RANGE of constants is LiteRT's, folded away by the passes."""
    from op_oracle import litert

    wanted = np.arange(*numbers_, dtype=kind)
    x, y = of("x", wanted.shape, kind), of("y", wanted.shape, "bool")
    values = [tfl.constant(f"n{i}", n, kind) for i, n in enumerate(numbers_)]
    made = of("r", wanted.shape, kind)
    nodes = [tfl.Op("RANGE", values, [made]), tfl.Op("EQUAL", [x, made], [y])]
    model = tfl.model([x], nodes, [], [y])
    graph = fold_constants(read_tflite.read(model, "net"))
    assert [node.op for node in graph.nodes] == ["EQUAL"]
    data = np.asarray(wanted + np.arange(wanted.size) % 2, kind)
    np.testing.assert_array_equal(interp.run(graph, [data])[0], litert(model, data)[0])


def test_a_shape_computed_by_the_model_is_folded() -> None:
    """SHAPE, STRIDED_SLICE, PACK and FILL of a converter's batch-flexible model leave nothing to run."""
    x, s, n = of("x", (2, 3)), of("s", (2,), "int32"), of("n", (), "int32")
    ends = [I32(name, [at]) for name, at in (("b", 0), ("e", 1), ("k", 1))]
    packed, filled, y = of("p", (2,), "int32"), of("f", (2, 3)), of("y", (2, 3))
    nodes = [
        tfl.Op("SHAPE", [x], [s]),
        tfl.Op("STRIDED_SLICE", [s, *ends], [n], {"shrink_axis_mask": 1}),
        tfl.Op("PACK", [n, I32("three", 3)], [packed], {"values_count": 2}),
        tfl.Op("FILL", [packed, tfl.constant("v", 7, "int8", 0.1, 3)], [filled]),
        tfl.Op("MAXIMUM", [x, filled], [y]),
    ]
    graph = passes.run(read_tflite.read(tfl.model([x], nodes, [], [y]), "net"))
    assert [node.op for node in graph.nodes] == ["MAXIMUM"]
    data = np.array([[1, 9, 7], [-9, 100, 6]], np.int8)
    np.testing.assert_array_equal(interp.run(graph, [data])[0], np.maximum(data, 7))


X = of("x", (1, 2, 3, 1))


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (tfl.Op("RESIZE_BILINEAR", [X, I32("s", [2, 2])], [of("y", (1, 2, 3, 1))]), "resized"),
        (
            tfl.Op(
                "RESIZE_BILINEAR",
                [X, I32("s", [2, 3])],
                [of("y", (1, 2, 3, 1))],
                {"align_corners": True, "half_pixel_centers": True},
            ),
            "exclude",
        ),
        (
            tfl.Op(
                "DYNAMIC_UPDATE_SLICE", [X, of("u", (1, 3, 1, 1)), I32("s", [0] * 4)], [of("y", (1, 2, 3, 1))]
            ),
            "laid over",
        ),
        (tfl.Op("SHAPE", [X], [of("y", (3,), "int32")]), "has shape"),
        (tfl.Op("RANGE", [I32("a", 0), I32("d", 4), I32("c", 0)], [of("y", (4,), "int32")]), "steps of 0"),
        (
            tfl.Op("RANGE", [I32("a", 0), of("b", (), "int32"), I32("c", 1)], [of("y", (4,), "int32")]),
            "computed at run time",
        ),
    ],
)
def test_refusals(op: tfl.Op, complaint: str) -> None:
    running = [X, of("b", (), "int32"), of("u", (1, 3, 1, 1))]
    graph = read_tflite.read(tfl.model(running, [op], [], op.outputs), "net")
    with pytest.raises(ModelError, match=complaint):
        OPS[op.name].check(graph, graph.nodes[0])
