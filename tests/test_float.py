"""Float ops inside int8 models: numpy = C to the bit on every input, LiteRT within a stated tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tflite_writer as tfl
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import CASES, Case, compiled, quick

from firmware.compiler import float_functions as functions
from firmware.compiler import interp, passes, read_tflite
from firmware.compiler.floats import PREFIX
from firmware.compiler.graph import Array, Graph, ModelError
from firmware.compiler.ops import OPS
from firmware.compiler.passes.islands import name_floats

UNARY = ["ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC",
         "NEG", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIN", "SQRT", "SQUARE",
         "TANH"]  # fmt: skip
PAIRS = ["ADD", "DIV", "FLOOR_DIV", "MAXIMUM", "MINIMUM", "MUL", "POW", "PRELU", "SQUARED_DIFFERENCE", "SUB"]
REDUCTIONS = ["MEAN", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "SUM"]
STRANGE = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 88.8, -103.9, 1e6,
                    9e5], np.float32)  # fmt: skip
TOLERANCE = 3e-6  # of LiteRT's float kernels: relative to the greatest value of the output


def litert(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """Return the outputs of LiteRT's own float kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels, num_threads=1)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def agree(cases: Sequence[Case], tolerance: float = TOLERANCE) -> None:
    """Assert numpy = C in every bit, and both near LiteRT where the case names it."""
    graphs = [name_floats(read_tflite.read(case.model, "case")).verify() for case in cases]
    meanings = []
    for case, graph in zip(cases, graphs, strict=True):
        node = graph.nodes[0]
        assert node.op.startswith(PREFIX), node.op
        OPS[node.op].check(graph, node)
        made = interp.run(graph, case.inputs)[0]
        assert (made.shape, str(made.dtype)) == (graph.tensors[graph.outputs[0]].shape, "float32")
        meanings.append(made)
        if case.oracle:
            right = litert(case.model, case.inputs)[0]
            near = tolerance * max(1.0, float(np.abs(right[np.isfinite(right)]).max(initial=0)))
            np.testing.assert_allclose(made, right, rtol=tolerance, atol=near, err_msg=str(case.op))
        if graph.tensors[graph.inputs[0]].shape[:1] == (1,) == made.shape[:1]:
            same_as_batch(graph, case, made)
    for case, wanted, in_c in zip(cases, meanings, compiled(graphs, cases), strict=True):
        np.testing.assert_array_equal(in_c[0], wanted, err_msg=str(case.op))


def same_as_batch(graph: Graph, case: Case, wanted: Array) -> None:
    """Assert that a clip means the same between two others."""
    node = graph.nodes[0]
    values: list[Any] = [None if i < 0 else graph.tensors[i].data for i in node.inputs]
    for index, array in zip(graph.inputs, case.inputs, strict=True):
        if array.shape[:1] != (1,):
            return
        values[node.inputs.index(index)] = np.concatenate(
            [array[:, ::-1] if array.ndim > 1 else array, array, -array]
        )
    np.testing.assert_array_equal(OPS[node.op].meaning(graph, node, values)[0][1:2], wanted)


def floats(draw: Any, shape: Sequence[int], low: float = -6.0, high: float = 6.0) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.uniform(low, high, tuple(shape)).astype(np.float32)


def value(name: str, shape: Sequence[int], data: Array | None = None) -> tfl.Value:
    return tfl.Value(name, tuple(shape), "float32", data=data)


def op(name: str, inputs: Sequence[tfl.Value | None], shape: Sequence[int], **options: Any) -> tfl.Op:
    return tfl.Op(name, inputs, [value("y", shape)], options)


def accuracy(function: Callable[[Array], Array], true: Callable[[Array], Array], x: Array) -> float:
    """Return the greatest error in units of the last place, errors below 1e-7 of 1 counted as none."""
    right = true(x.astype(np.float64))
    error = np.abs(function(x) - right) - 1e-7
    return float((error / np.spacing(np.abs(right).astype(np.float32))).max())


@pytest.mark.parametrize(
    ("function", "true", "low", "high"),
    [
        (functions.exp, np.exp, -87, 88),
        (functions.log, np.log, 1e-6, 50),
        (functions.sine, np.sin, -5e4, 5e4),
        (functions.cosine, np.cos, -5e4, 5e4),
        (functions.tanh, np.tanh, -10, 10),
        (functions.logistic, lambda x: 1 / (1 + np.exp(-x)), -80, 80),
        (functions.erf, np.vectorize(math.erf), -5, 5),
    ],
)
def test_functions_are_right_to_the_last_places(function: Any, true: Any, low: float, high: float) -> None:
    x = np.random.default_rng(0).uniform(low, high, 20_000).astype(np.float32)
    assert accuracy(function, true, x) < (6 if function is functions.erf else 2)


@given(
    st.lists(st.tuples(st.sampled_from(UNARY), st.booleans(), st.data()), min_size=CASES, max_size=CASES),
    st.floats(0, 1, width=32),
)
@quick
def test_unary(drawn: list[tuple[str, bool, Any]], alpha: float) -> None:
    cases = []
    for name, approximate, data in drawn:
        low = 0.01 if name in ("LOG", "RSQRT", "SQRT") else -6.0
        x = floats(data.draw, (1, 7, 5), low)
        known: dict[str, Any] = {"LEAKY_RELU": {"alpha": alpha}, "GELU": {"approximate": approximate}}
        options = known.get(name, {})
        cases.append(Case(op(name, [value("x", x.shape)], x.shape, **options), (x,), "litert"))
    agree(cases)


@pytest.mark.parametrize("name", UNARY)
def test_unary_on_strange_numbers(name: str) -> None:
    """Infinities, NaN, the smallest and the largest: the C does what numpy does, nothing undefined."""
    rng = np.random.default_rng(1)
    wide = (rng.normal(size=400) * 10.0 ** rng.uniform(-44, 38, 400)).astype(np.float32)
    x = np.concatenate([STRANGE, wide]).reshape(1, -1)
    agree([Case(op(name, [value("x", x.shape)], x.shape), (x,), "")])


@st.composite
def pairs(draw: Any) -> Case:
    name = draw(st.sampled_from(PAIRS))
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    shapes = [tuple(n if draw(st.booleans()) else 1 for n in shape) for _ in range(2)]
    if name == "PRELU":
        shapes = [shape, shape[1:] or (1,)]
    a, b = (floats(draw, s) for s in shapes)
    if name == "POW":
        a, b = np.abs(a), np.round(b) if draw(st.booleans()) else b
    constant = draw(st.booleans()) or name == "PRELU"
    values = [value("a", a.shape), value("b", b.shape, b if constant else None)]
    options = {}
    if name in ("ADD", "SUB", "MUL", "DIV"):
        options = {"fused_activation_function": draw(st.sampled_from(["NONE", "RELU", "RELU6"]))}
    result = op(name, values, np.broadcast_shapes(*shapes), **options)
    return Case(result, (a,) if constant else (a, b), "litert" if name != "FLOOR_DIV" else "")


@given(st.lists(pairs(), min_size=CASES, max_size=CASES))
@quick
def test_pairs(cases: list[Case]) -> None:
    agree(cases, 2e-5)  # POW: 6e-8 |b log a|


@st.composite
def reductions(draw: Any) -> Case:
    name = draw(st.sampled_from(REDUCTIONS))
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)))
    first = draw(st.integers(0, len(shape) - 1))
    axes = list(range(first, draw(st.integers(first + 1, len(shape)))))
    keep = draw(st.booleans()) or len(axes) == len(shape)
    result = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes]
    values = [value("x", shape), tfl.constant("axes", axes)]
    return Case(op(name, values, result, keep_dims=keep), (floats(draw, shape),), "litert")


@st.composite
def running(draw: Any) -> Case:
    name = draw(st.sampled_from(["CUMSUM", "SOFTMAX", "LOG_SOFTMAX", "L2_NORMALIZATION"]))
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=4)))
    values: list[tfl.Value | None] = [value("x", shape)]
    options: dict[str, Any] = {"beta": draw(st.sampled_from([1.0, 0.5]))} if name == "SOFTMAX" else {}
    if name == "CUMSUM":
        values.append(tfl.constant("axis", draw(st.integers(-len(shape), len(shape) - 1))))
        options = {"reverse": draw(st.booleans()), "exclusive": draw(st.booleans())}
    return Case(op(name, values, shape, **options), (floats(draw, shape),), "litert")


@given(st.lists(st.one_of(reductions(), running()), min_size=CASES, max_size=CASES))
@quick
def test_along_axes(cases: list[Case]) -> None:
    agree(cases)


@st.composite
def products(draw: Any) -> Case:
    rows, depth, columns = (draw(st.integers(1, 7)) for _ in range(3))
    activation = {"fused_activation_function": draw(st.sampled_from(["NONE", "RELU", "RELU6"]))}
    if draw(st.booleans()):
        weights = value("w", (columns, depth), floats(draw, (columns, depth), -1, 1))
        bias = [value("b", (columns,), floats(draw, (columns,)))] if draw(st.booleans()) else []
        x = floats(draw, (rows, depth))
        dense = op("FULLY_CONNECTED", [value("x", x.shape), weights, *bias], (rows, columns), **activation)
        return Case(dense, (x,), "litert")
    stack, adj_x, adj_y = draw(st.integers(1, 3)), draw(st.booleans()), draw(st.booleans())
    a = floats(draw, (stack, depth, rows) if adj_x else (stack, rows, depth))
    b = floats(draw, (stack, columns, depth) if adj_y else (stack, depth, columns))
    values = [value("a", a.shape), value("b", b.shape)]
    return Case(
        op("BATCH_MATMUL", values, (stack, rows, columns), adj_x=adj_x, adj_y=adj_y), (a, b), "litert"
    )


@st.composite
def convolutions(draw: Any) -> Case:
    depthwise, bias = draw(st.booleans()), draw(st.booleans())
    channels, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    outputs *= channels if depthwise else 1
    size, stride, dilation = (draw(st.integers(1, 3)) for _ in range(3))
    dilation = dilation if stride == 1 else 1
    length = draw(st.integers((size - 1) * dilation + 1, 12))
    padding = draw(st.sampled_from(["SAME", "VALID"]))
    fits = -(-length // stride) if padding == "SAME" else (length - (size - 1) * dilation - 1) // stride + 1
    x = floats(draw, (1, length, length, channels))
    shape = (1, size, size, outputs) if depthwise else (outputs, size, size, channels)
    values = [value("x", x.shape), value("w", shape, floats(draw, shape, -1, 1))]
    values += [value("b", (outputs,), floats(draw, (outputs,)))] if bias else []
    options = {"padding": padding, "stride_w": stride, "stride_h": stride, "dilation_w_factor": dilation,
               "dilation_h_factor": dilation}  # fmt: skip
    if depthwise:
        options["depth_multiplier"] = outputs // channels
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    oracle = "litert" if bias else ""  # LiteRT wants one
    return Case(op(name, values, (1, fits, fits, outputs), **options), (x,), oracle)


@given(st.lists(st.one_of(products(), convolutions()), min_size=CASES, max_size=CASES))
@quick
def test_products(cases: list[Case]) -> None:
    agree(cases)


def test_grouped_convolution_and_quantised_weights() -> None:
    """Weights of int8 behind float activations are brought to float; groups see their own channels."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1, 5, 5, 4)).astype(np.float32)
    steps, scale = rng.integers(-127, 128, (6, 3, 3, 2)), np.linspace(0.01, 0.05, 6).astype(np.float32)
    options = {"padding": "SAME", "stride_w": 1, "stride_h": 1}
    real = value("w", steps.shape, (steps * scale[:, None, None, None]).astype(np.float32))
    bias = value("b", (6,), rng.normal(size=6).astype(np.float32))
    plain = Case(op("CONV_2D", [value("x", x.shape), real, bias], (1, 5, 5, 6), **options), (x,), "litert")
    weights = tfl.constant("w", steps, "int8", scale, np.zeros(6), 0)
    hybrid = Case(op("CONV_2D", [value("x", x.shape), weights, bias], (1, 5, 5, 6), **options), (x,), "")
    agree([plain, hybrid])
    one, other = (interp.run(name_floats(read_tflite.read(c.model, "c")), [x])[0] for c in (plain, hybrid))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("made", "complaint"),
    [
        (op("CUMSUM", [value("x", (1, 4)), tfl.constant("axis", 7)], (1, 4)), "axis 7"),
        (op("EXP", [value("x", (1, 4))], (2, 2)), "output"),
        (op("ADD", [value("a", (2, 3)), value("b", (2, 4))], (2, 3)), "do not give"),
        (
            op("ADD", [value("a", (2,)), value("b", (2,))], (2,), fused_activation_function="TANH"),
            "not a clamp",
        ),
        (op("MEAN", [value("x", (2, 3, 4)), tfl.constant("axes", [0, 2])], (3,)), "not neighbours"),
        (op("FULLY_CONNECTED", [value("x", (1, 3)), value("w", (2, 3))], (1, 2)), "computed at run time"),
    ],
)
def test_refusals(made: tfl.Op, complaint: str) -> None:
    graph = name_floats(read_tflite.read(Case(made, ()).model, "net"))
    with pytest.raises(ModelError, match=complaint) as caught:
        OPS[graph.nodes[0].op].check(graph, graph.nodes[0])
    assert made.name in str(caught.value)


def test_a_whole_float_model_is_still_refused() -> None:
    model = Case(op("EXP", [value("x", (1, 4))], (1, 4)), ()).model
    with pytest.raises(ModelError, match="quantise it"):
        passes.run(read_tflite.read(model, "net"))
