"""MEAN, SUM, REDUCE_MAX, REDUCE_MIN, ARG_MAX, ARG_MIN over any axes, against TFLM and the C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, int8, quantisations, quick
from typed_values import numbers, of, sizes

from firmware.compiler import read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.ops import OPS


@st.composite
def reductions(draw: Any) -> Case:
    """Draw a reduction; axes may be negative, repeated, or a scalar."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    if draw(st.booleans()):
        shape[0] = 1
    rank = len(shape)
    name = draw(st.sampled_from(["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"]))
    axes = draw(st.lists(st.integers(-rank, rank - 1), min_size=1, max_size=3))
    keep = draw(st.booleans())
    target = np.zeros(shape).sum(axis=tuple({axis % rank for axis in axes}), keepdims=keep).shape
    source = draw(quantisations)
    x = tfl.Value("x", tuple(shape), "int8", *source)
    y = tfl.Value("y", target, "int8", *(draw(quantisations) if name in ("MEAN", "SUM") else source))
    axis = tfl.constant("axis", axes[0] if len(axes) == 1 and draw(st.booleans()) else axes)
    return Case(tfl.Op(name, [x, axis], [y], {"keep_dims": keep}), (int8(draw, shape),))


@given(st.lists(reductions(), min_size=CASES, max_size=CASES))
@quick
def test_reductions(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def searches(draw: Any) -> Case:
    """Draw an ARG_MAX or ARG_MIN with many equal values."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    x = tfl.Value("x", tuple(shape), "int8", 0.1)
    y = tfl.Value("y", np.zeros(shape).sum(axis=axis).shape, "int32")
    op = tfl.Op(draw(st.sampled_from(["ARG_MAX", "ARG_MIN"])), [x, tfl.constant("axis", axis)], [y])
    return Case(op, (int8(draw, shape, -3, 3),))


@given(st.lists(searches(), min_size=CASES, max_size=CASES))
@quick
def test_searches(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def whole(draw: Any) -> Case:
    """Draw a REDUCE_ANY, REDUCE_ALL, REDUCE_PROD, or a REDUCE_MAX or REDUCE_MIN of wide integers."""
    name = draw(st.sampled_from(["REDUCE_ANY", "REDUCE_ALL", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN"]))
    kinds = {"REDUCE_ANY": ["bool"], "REDUCE_ALL": ["bool"], "REDUCE_PROD": ["int32"]}
    kind, shape = draw(st.sampled_from(kinds.get(name, ["int16", "int32"]))), sizes(draw)
    axes = draw(st.lists(st.integers(-len(shape), len(shape) - 1), min_size=1, max_size=3))
    x, keep = numbers(draw, shape, kind), draw(st.booleans())
    x |= numbers(draw, shape, kind)  # true three times of four
    target = x.max(axis=tuple({axis % len(shape) for axis in axes}), keepdims=keep).shape
    inputs = [of("x", shape, kind), tfl.constant("axis", axes)]
    return Case(tfl.Op(name, inputs, [of("y", target, kind)], {"keep_dims": keep}), (x,), "either")


@given(st.lists(whole(), min_size=CASES, max_size=CASES))
@quick
def test_whole_numbers(cases: list[Case]) -> None:
    agree(cases)


def test_long_mean() -> None:
    """A mean over 40,000 extreme values: the sum and the folded 1 / count keep to 32 bits."""
    x, axis = tfl.Value("x", (1, 200, 200, 2), "int8", 0.1, -128), tfl.constant("axis", [1, 2])
    y = tfl.Value("y", (1, 2), "int8", 0.1, 5)
    full = np.full(x.shape, 127, np.int8)
    full[..., 1] = np.arange(40000).reshape(200, 200) % 251 - 128
    agree([Case(tfl.Op("MEAN", [x, axis], [y]), (full,))])


@pytest.mark.parametrize(
    ("name", "axes", "shape", "scale", "complaint"),
    [
        ("MEAN", [3], (2, 3), 0.1, r"axis \[3\]"),
        ("MEAN", [1], (2, 3), 0.1, "gives"),
        ("SUM", [1], (2, 4), 1e-12, "out of proportion"),
        ("REDUCE_MAX", [2], (2, 3), 0.2, "differ in type, scale"),
    ],
)
def test_refusals(name: str, axes: list[int], shape: tuple[int, ...], scale: float, complaint: str) -> None:
    x, y = tfl.Value("x", (2, 3, 4), "int8", 0.1), tfl.Value("y", shape, "int8", scale)
    op = tfl.Op(name, [x, tfl.constant("axis", axes)], [y])
    graph = read_tflite.read(Case(op, ()).model, "net")
    with pytest.raises(ModelError, match=complaint):
        OPS[name].check(graph, graph.nodes[0])
