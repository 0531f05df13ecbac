"""Int16 activations, int8 weights: against TFLM (LiteRT where it has no such kernel) and C, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import strategies
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, quick, scales
from test_ops_elementwise import pairs
from test_ops_matmul import products, upsamplings
from test_ops_reduce import reductions

from firmware.compiler.graph import Array


def int16(draw: Any, like: Array) -> Array:
    """Return random int16 values of a shape, the extremes often among them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.clip(random.integers(-34000, 34001, like.shape), -32768, 32767).astype(np.int16)


@st.composite
def widened(draw: Any, cases: st.SearchStrategy[Case], biases: tuple[str, ...] = ("int64", "int32")) -> Case:
    """Draw an int8 case and make its activations int16, its bias one of `biases`."""
    case, bias = draw(cases), draw(st.sampled_from(biases))

    def value(old: tfl.Value | None) -> tfl.Value | None:
        if old is None or (old.name == "w" and old.data is not None and case.op.name != "BATCH_MATMUL"):
            return old
        if old.dtype == "int8":
            data = None if old.data is None else int16(draw, old.data)
            return replace(old, dtype="int16", zero_point=0, data=data)
        if old.name == "b":
            return replace(old, dtype=bias, data=(np.asarray(old.data) // 4).astype(bias))
        return old

    inputs, outputs = [value(v) for v in case.op.inputs], [value(v) for v in case.op.outputs]
    if len(inputs) < 3 and "int64" not in biases:
        inputs.append(None)
    op = replace(case.op, inputs=inputs, outputs=outputs)
    made: Case = replace(case, op=op, inputs=tuple(int16(draw, x) for x in case.inputs))
    return made


def lists(cases: st.SearchStrategy[Case], size: int = CASES // 3) -> st.SearchStrategy[list[Case]]:
    return st.lists(cases, min_size=size, max_size=size)


@given(lists(widened(strategies.conv_2d())))
@quick
def test_conv_2d(cases: list[Case]) -> None:
    agree(cases)


@given(lists(widened(strategies.depthwise_conv_2d(), ("int64",))))
@quick
def test_depthwise_conv_2d(cases: list[Case]) -> None:
    agree(cases)


@given(lists(widened(strategies.fully_connected())))
@quick
def test_fully_connected(cases: list[Case]) -> None:
    agree(cases)


@given(lists(widened(upsamplings(), ("int64",)), 2))
@quick
def test_transpose_conv(cases: list[Case]) -> None:
    agree(cases)


@given(lists(widened(pairs())))
@quick
def test_pairs(cases: list[Case]) -> None:
    agree(cases)


@given(lists(widened(products())))
@quick
def test_batch_matmul(cases: list[Case]) -> None:
    agree(cases)


@given(lists(widened(strategies.pools())))
@quick
def test_pools(cases: list[Case]) -> None:
    agree(cases)


@given(lists(widened(reductions())))
@quick
def test_reductions(cases: list[Case]) -> None:
    agree([replace(case, oracle="litert" if "REDUCE" in case.op.name else "tflm") for case in cases])


WORDS = np.arange(-32768, 32768, dtype=np.int16).reshape(1, -1)
OF_TFLM = ["ABS", "LEAKY_RELU", "LOGISTIC", "RELU", "RSQRT", "TANH"]
OURS = ["COS", "ELU", "GELU", "HARD_SWISH", "NEG", "RELU_0_TO_1", "RELU_N1_TO_1", "SIN", "SQRT", "SQUARE"]


@st.composite
def unaries(draw: Any) -> Case:
    """Draw an op that maps every int16."""
    name = draw(st.sampled_from([*OF_TFLM, *OURS, "RELU6"]))
    source, target = draw(scales) / 64, draw(scales) / 64
    if name in ("LOGISTIC", "TANH"):
        source, target = draw(st.sampled_from([source / 4, 2.0**-12, 2.0**-11])), 2.0**-15
    options = {"alpha": draw(st.floats(0, 1, width=32))} if name == "LEAKY_RELU" else {}
    x, y = (tfl.Value(n, WORDS.shape, "int16", q) for n, q in (("x", source), ("y", target)))
    oracle = "tflm" if name in OF_TFLM else "litert" if name == "RELU6" else ""
    values = np.maximum(WORDS, np.int16(0)) if name == "RSQRT" else WORDS  # TFLM stops below zero
    return Case(tfl.Op(name, [x], [y], options), (values,), oracle)


@given(lists(unaries()))
@quick
def test_unaries(cases: list[Case]) -> None:
    agree(cases)


@pytest.mark.parametrize("name", ["EXP", "LOG"])
def test_curves(name: str) -> None:
    """Every int16 as LiteRT's reference, which samples the same points with C's functions."""
    x, y = tfl.Value("x", WORDS.shape, "int16", 2.0**-12), tfl.Value("y", WORDS.shape, "int16", 2.0**-9)
    agree(
        [
            Case(
                tfl.Op(name, [x], [y]),
                (np.maximum(WORDS, np.int16(1)) if name == "LOG" else WORDS,),
                "litert",
            )
        ]
    )


@st.composite
def softmaxes(draw: Any) -> Case:
    """Draw a softmax over 1 to 40 values, flat to sharp."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 40)))
    x = tfl.Value("x", shape, "int16", draw(scales) / 256)
    y = tfl.Value("y", shape, "int16", 1 / 32768)
    options = {"beta": draw(st.sampled_from([1.0, 0.5, 3.0]))}
    return Case(tfl.Op("SOFTMAX", [x], [y], options), (int16(draw, np.zeros(shape)),))


@given(lists(softmaxes()))
@quick
def test_softmax(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def requantisings(draw: Any) -> Case:
    """Draw a QUANTIZE among integer types, or from float32 to int16, or a DEQUANTIZE of int16."""
    source, target = draw(
        st.sampled_from(
            [
                *[("int8", "int16"), ("int8", "int32"), ("int16", "int8"), ("int16", "int16")],
                *[("int16", "int32"), ("int32", "int8"), ("int32", "int16")],
                *[("float32", "int16"), ("int16", "float32")],
            ]
        )
    )
    wide = int16(draw, np.zeros((1, 300)))
    scale = {"int32": 2.0**-18, "int16": 2.0**-8, "int8": 0.05}
    zero = {"int8": draw(st.integers(-128, 127))}
    factor = draw(st.floats(0.3, 3))

    def scaled(kind: str, by: float) -> float | None:
        return float(np.float32(scale[kind] * by)) if kind in scale else None

    x, y = (
        tfl.Value(n, wide.shape, kind, scaled(kind, f), zero.get(kind, 0))
        for n, kind, f in (("x", source, 1.0), ("y", target, factor))
    )
    values = {"int8": wide >> 8, "int32": wide.astype(np.int32) * 5, "float32": wide / 180}.get(source, wide)
    op = tfl.Op("DEQUANTIZE" if target == "float32" else "QUANTIZE", [x], [y])
    return Case(op, (np.asarray(values).astype(source),))


@given(lists(requantisings()))
@quick
def test_requantisings(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def prelus(draw: Any) -> Case:
    """Draw a PRELU of int8 or int16, its slopes one, one a channel or one a value."""
    shape = (1, draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 6)))
    slopes = draw(st.sampled_from([(1, 1, 1), shape[1:], (1, 1, shape[3])]))
    kind = draw(st.sampled_from(["int8", "int16"]))
    zeros = [draw(st.integers(-128, 127)) if kind == "int8" else 0 for _ in range(2)]
    source = draw(scales)
    target = source * draw(st.floats(0.2, 4))
    x, y = (tfl.Value(n, shape, kind, *q) for n, q in (("x", (source, zeros[0])), ("y", (target, zeros[1]))))
    data = np.random.default_rng(draw(st.integers(0, 99))).integers(-128, 128, slopes)
    alpha = tfl.constant("alpha", data, "int8", draw(st.floats(0.001, 0.02)), draw(st.integers(-128, 127)))
    values = int16(draw, np.zeros(shape))
    return Case(
        tfl.Op("PRELU", [x, alpha], [y]), (values if kind == "int16" else (values >> 8).astype(np.int8),)
    )


@given(lists(prelus()))
@quick
def test_prelu(cases: list[Case]) -> None:
    agree(cases)
