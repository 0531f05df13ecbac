"""Ops of one int8 input and QUANTIZE: every byte, many scales, against TFLM, LiteRT and the C."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, agree, litert, quantisations, quick, scales, tflm

from firmware.compiler import interp, read_tflite
from firmware.compiler.graph import ModelError
from firmware.compiler.ops import OPS
from firmware.compiler.ops.unary import TABLES

BYTES = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
OUTPUTS = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
OF_LITERT = {"EXP", "GELU", "LOG", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "SQRT"}
OF_NOBODY = {"CEIL", "COS", "FLOOR", "NEG", "POW", "ROUND", "SIGN", "SIN", "SQUARE"}
OF_TFLM = {*TABLES, "QUANTIZE"} - OF_LITERT - OF_NOBODY
SAMPLED = ["ELU", "EXP", "GELU", "LOG"]  # through the C library's float functions: one step at exact halves


def unary(name: str, source: tuple[float, int], target: tuple[float, int], **options: Any) -> tfl.Op:
    """Return a node that maps all 256 bytes."""
    x, y = tfl.Value("x", (1, 256), "int8", *source), tfl.Value("y", (1, 256), "int8", *target)
    return tfl.Op(name, [x], [y], options)


def halfway(draw: Any) -> tuple[float, float]:
    """Draw (input scale, output scale) that put some byte next to a rounding boundary: float32 would show."""
    step = np.float32(draw(scales))
    near = np.float32(step * (draw(st.integers(0, 126)) + 0.5) / draw(st.integers(1, 127)))
    return float(near + draw(st.integers(-3, 3)) * np.spacing(near)), float(step)


@st.composite
def exact(draw: Any) -> Case:
    """Draw an op whose every byte its oracle defines exactly."""
    name = draw(st.sampled_from(sorted((OF_TFLM | OF_LITERT) - set(SAMPLED))))
    source, target = draw(quantisations), draw(quantisations)
    if draw(st.booleans()):
        (fine, coarse), source_zero, target_zero = halfway(draw), source[1], target[1]
        source, target = (fine, source_zero), (coarse, target_zero)
    if name == "HARD_SWISH":  # TFLM and we refuse an output 128 times finer, or 512 times coarser
        target = (float(np.clip(target[0], source[0] / 64, source[0] * 256)), target[1])
    options = {"alpha": draw(st.floats(0, 1, width=32))} if name == "LEAKY_RELU" else {}
    x = np.maximum(BYTES, source[1]).astype(np.int8) if name in ("RSQRT", "SQRT") else BYTES
    op = unary(name, source, OUTPUTS.get(name, target), **options)
    return Case(op, (x,), "litert" if name in OF_LITERT else "tflm")


@given(st.lists(exact(), min_size=CASES, max_size=CASES))
@quick
def test_every_byte(cases: list[Case]) -> None:
    agree(cases)


@given(name=st.sampled_from(SAMPLED), source=quantisations, target=quantisations, approximate=st.booleans())
@quick
def test_sampled_functions(
    name: str, source: tuple[float, int], target: tuple[float, int], approximate: bool
) -> None:
    """Equal to the oracle but where the true value lies within 1e-4 of halfway between two steps."""
    options = {"approximate": approximate} if name == "GELU" else {}
    case = Case(unary(name, source, target, **options), (BYTES,), "")
    made = interp.run(read_tflite.read(case.model, "case"), case.inputs)[0].astype(int)
    right = (tflm if name == "ELU" else litert)(case.model, BYTES)[0].astype(int)
    assert np.abs(made - right).max() <= 1
    assert (made != right).sum() <= 2
    agree([case])


def test_negative_is_affine() -> None:
    """-x to the nearest step where both runtimes fail: other zero-points, other scales, -128."""
    case = Case(unary("NEG", (0.05, -7), (0.04, 11)), (BYTES,), "")
    real = -0.05 * (BYTES.astype(int) + 7)
    wanted = np.clip(np.round(real / 0.04) + 11, -128, 127)
    assert np.abs(interp.run(read_tflite.read(case.model, "case"), [BYTES])[0] - wanted).max() <= 1
    agree([case, Case(unary("NEG", (0.05, 0), (0.05, 0)), (np.maximum(BYTES, np.int8(-127)),), "litert")])


def test_rsqrt_of_what_cannot_be() -> None:
    """Zero and below give the largest output."""
    case = Case(unary("RSQRT", (0.05, 10), (0.02, -128)), (BYTES,), "")
    made = interp.run(read_tflite.read(case.model, "case"), [BYTES])[0]
    assert (made[BYTES <= 10] == 127).all()


def test_float_edges() -> None:
    """QUANTIZE of floats and DEQUANTIZE agree with TFLM; a NaN becomes -128, an infinity saturates."""
    x = tfl.Value("x", (1, 64), "float32")
    y = tfl.Value("y", (1, 64), "int8", 0.05, 3)
    values = (np.random.default_rng(0).normal(0, 5, (1, 64))).astype(np.float32)
    values[0, :6] = np.float32([0.025, -0.025, 0.075, 1e6, -1e6, 0.49999997 * 0.05])
    strange = values.copy()
    strange[0, :5] = [np.nan, np.inf, -np.inf, 1e30, -1e30]
    back = tfl.Op("DEQUANTIZE", [y], [x])
    quantize = tfl.Op("QUANTIZE", [x], [y])
    agree([Case(quantize, (values,)), Case(quantize, (strange,), ""), Case(back, (BYTES[:, :64],))])
    made = interp.run(read_tflite.read(Case(quantize, ()).model, "case"), [strange])[0]
    assert made[0, :5].tolist() == [-128, 127, -128, 127, -128]


@pytest.mark.parametrize(
    ("op", "complaint"),
    [
        (unary("LOGISTIC", (0.1, 0), (1 / 128, 0)), "not 1/256"),
        (unary("TANH", (1e-9, 0), (1 / 128, 0)), "too fine"),
        (unary("RELU", (1e7, 0), (1e-9, 0)), "out of proportion"),
        (unary("HARD_SWISH", (1e4, 0), (1e-4, 0)), "out of proportion"),
        (unary("RSQRT", (1e-9, 0), (1e-9, 0)), "out of proportion"),
        (unary("ABS", (0.1, 300), (0.1, 0)), "zero-point 300"),
        (
            tfl.Op("NEG", [tfl.Value("x", (1, 2), "int8", 0.1)], [tfl.Value("y", (2, 1), "int8", 0.1)]),
            "shape",
        ),
        (tfl.Op("RELU", [tfl.Value("x", (1, 2), "float32")], [tfl.Value("y", (1, 2), "float32")]), "float32"),
    ],
)
def test_refusals(op: tfl.Op, complaint: str) -> None:
    graph = read_tflite.read(Case(op, ()).model, "net")
    with pytest.raises(ModelError, match=complaint) as caught:
        OPS[op.name].check(graph, graph.nodes[0])
    assert str(caught.value).startswith(f"net: {op.name}")
