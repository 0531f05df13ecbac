"""Weights of 4 bits: against TFLM and C, bit for bit, at half the bytes in flash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import strategies
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, quick

from firmware.compiler import read_tflite
from firmware.compiler.ops import OPS


@st.composite
def halved(draw: Any, cases: st.SearchStrategy[Case]) -> Case:
    """Draw an int8 case and make its weights 4 bits; their scale grows as much."""
    case = draw(cases)

    def value(old: tfl.Value | None) -> tfl.Value | None:
        if old is None or old.name not in ("w", "b"):
            return old
        scale = np.asarray(old.scale) * 16
        if case.op.name == "FULLY_CONNECTED":  # TFLM takes one scale
            scale = scale[:1]
        made = replace(old, scale=scale, zero_point=np.zeros(scale.size))
        return replace(made, dtype="int4", data=np.asarray(old.data) >> 4) if old.name == "w" else made

    made: Case = replace(case, op=replace(case.op, inputs=[value(v) for v in case.op.inputs]))
    return made


def lists(cases: st.SearchStrategy[Case], size: int = CASES // 3) -> st.SearchStrategy[list[Case]]:
    return st.lists(cases, min_size=size, max_size=size)


@given(lists(halved(strategies.conv_2d())))
@quick
def test_conv_2d(cases: list[Case]) -> None:
    agree(cases)


@given(lists(halved(strategies.depthwise_conv_2d())))
@quick
def test_depthwise_conv_2d(cases: list[Case]) -> None:
    agree(cases)


@given(lists(halved(strategies.fully_connected())))
@quick
def test_fully_connected(cases: list[Case]) -> None:
    agree(cases)


@pytest.mark.parametrize("depth", [16, 24])
def test_half_the_bytes(depth: int) -> None:
    """Two weights a byte."""
    x, y = tfl.Value("x", (1, depth), "int8", 0.1), tfl.Value("y", (1, 12), "int8", 0.1)
    w = tfl.Value("w", (12, depth), "int4", 0.1, data=np.arange(12 * depth).reshape(12, depth) % 16 - 8)
    graph = read_tflite.read(Case(tfl.Op("FULLY_CONNECTED", [x, w], [y]), ()).model, "case")
    assert OPS["FULLY_CONNECTED"].call(graph, graph.nodes[0]).constants["weights"].nbytes == 6 * depth
