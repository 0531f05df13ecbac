"""The smallest model of each builtin op and element type, for `benchmarks.operators` to ask about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.tflite_writer import Op, Value, constant

SCALES = {"int8": (0.0625, 3), "int16": (0.0625, 0)}
WEIGHTS = {"float32": "float32"}  # type of the weights of a layer of this type; int8 otherwise
BIASES = {"int8": "int32", "int16": "int64", "float32": "float32"}
Probe = Callable[[str], Op]


def value(name: str, shape: tuple[int, ...], dtype: str, data: Any = None) -> Value:
    """Return a value with the scale that all probes share."""
    scale, zero = SCALES.get(dtype, (None, 0))
    return Value(name, shape, dtype, scale, zero, data=None if data is None else np.asarray(data, dtype))


def _weights(name: str, shape: tuple[int, ...], dtype: str) -> Value:
    kind = WEIGHTS.get(dtype, "int8")
    data = np.random.default_rng(0).integers(-9, 10, shape).astype(kind)
    return Value(name, shape, kind, None if kind == "float32" else 0.0625, 0, data=data)


def _bias(size: int, dtype: str) -> Value:
    kind = BIASES.get(dtype, "int32")
    return Value(
        "bias", (size,), kind, None if kind == "float32" else 0.0625**2, data=np.arange(size).astype(kind)
    )


def unary(name: str, out: tuple[float, int] | None = None, shape: tuple[int, ...] = (2, 6)) -> Probe:
    """Return the probe of an op of one input; `out`: the scale and zero-point that int8 rules ask for."""

    def make(dtype: str) -> Op:
        scale, zero = out if out and dtype in SCALES else SCALES.get(dtype, (None, 0))
        if dtype == "int16" and out:
            scale, zero = 1 / 32768, 0
        options = {"SOFTMAX": {"beta": 1.0}, "LEAKY_RELU": {"alpha": 0.25}}.get(name, {})
        return Op(name, [value("x", shape, dtype)], [Value("y", shape, dtype, scale, zero)], options)

    return make


def pair(name: str, to: str = "") -> Probe:
    """Return the probe of an op of two equal inputs; `to`: type of the output where it is another."""
    return lambda dtype: Op(
        name, [value("a", (2, 6), dtype), value("b", (2, 6), dtype)], [value("y", (2, 6), to or dtype)]
    )


def moved(
    name: str, source: tuple[int, ...], target: tuple[int, ...], *extra: Any, first: int = 0, **options: Any
) -> Probe:
    """Return the probe of an op that moves x, among constants of int32, x as input number `first`."""

    def make(dtype: str) -> Op:
        numbers = [constant(f"n{i}", numbers) for i, numbers in enumerate(extra)]
        return Op(
            name,
            [*numbers[:first], value("x", source, dtype), *numbers[first:]],
            [value("y", target, dtype)],
            options,
        )

    return make


def reduced(name: str) -> Probe:
    """Return the probe of a reduction."""
    return moved(name, (2, 6), (2,), [1])


def found(name: str, to: str) -> Probe:
    """Return the probe of an op that gives a place along the last axis."""
    return lambda dtype: Op(
        name,
        [value("x", (2, 6), dtype), constant("axis", 1)],
        [value("y", (2,), to)],
        {"output_type": {"int32": 2, "int64": 4}[to]},
    )


def several(name: str, **options: Any) -> Probe:
    """Return the probe of an op that cuts x in two."""

    def make(dtype: str) -> Op:
        x, axis, sizes = value("x", (2, 6), dtype), constant("axis", 0), constant("sizes", [1, 1])
        inputs = {"SPLIT": [axis, x], "SPLIT_V": [x, sizes, axis], "UNPACK": [x]}[name]
        shape = (6,) if name == "UNPACK" else (1, 6)
        return Op(name, inputs, [value(n, shape, dtype) for n in ("y", "z")], options)

    return make


def layer(
    name: str, shape: tuple[int, ...], target: tuple[int, ...], weights: tuple[int, ...], **options: Any
) -> Probe:
    """Return the probe of a weighted layer."""

    def make(dtype: str) -> Op:
        inputs = [value("x", shape, dtype), _weights("w", weights, dtype), _bias(target[-1], dtype)]
        if name == "TRANSPOSE_CONV":
            inputs = [constant("shape", target), inputs[1], inputs[0]]
        return Op(name, inputs, [value("y", target, dtype)], options)

    return make


def _matmul(dtype: str) -> Op:
    return Op(
        "BATCH_MATMUL",
        [value("a", (1, 2, 6), dtype), value("b", (1, 6, 3), dtype)],
        [value("y", (1, 2, 3), dtype)],
    )


def _chosen(name: str) -> Probe:
    def make(dtype: str) -> Op:
        index = value("index", (3, 1) if name == "GATHER_ND" else (3,), "int32")
        x = value("x", (2, 6), dtype, None if name != "EMBEDDING_LOOKUP" else np.ones((2, 6)))
        inputs = [index, x] if name == "EMBEDDING_LOOKUP" else [x, index]
        if name == "ONE_HOT":
            inputs = [
                index,
                constant("depth", 6),
                *(value(n, (), dtype, i) for i, n in enumerate(("off", "on"))),
            ]
        return Op(name, inputs, [value("y", (3, 6), dtype)], {"axis": -1} if name == "ONE_HOT" else {})

    return make


def _select(name: str) -> Probe:
    return lambda dtype: Op(
        name,
        [value("c", (2, 6), "bool"), value("a", (2, 6), dtype), value("b", (2, 6), dtype)],
        [value("y", (2, 6), dtype)],
    )


def _update(dtype: str) -> Op:
    inputs = [value("x", (2, 6), dtype), value("u", (1, 6), dtype), value("index", (2,), "int32")]
    return Op("DYNAMIC_UPDATE_SLICE", inputs, [value("y", (2, 6), dtype)])


def _top(dtype: str) -> Op:
    outputs = [value("y", (2, 3), dtype), value("z", (2, 3), "int32")]
    return Op("TOPK_V2", [value("x", (2, 6), dtype), constant("k", 3)], outputs)


def _range(dtype: str) -> Op:
    numbers = [value(f"n{i}", (), dtype, n) for i, n in enumerate((1, 7, 2))]
    return Op("RANGE", numbers, [value("y", (3,), dtype)])


def _prelu(dtype: str) -> Op:
    alpha = _weights("alpha", (6,), dtype)
    return Op("PRELU", [value("x", (2, 6), dtype), alpha], [value("y", (2, 6), dtype)])


def _pow(dtype: str) -> Op:
    exponent = Value("e", (), "float32", data=np.float32(2))
    return Op("POW", [value("x", (2, 6), dtype), exponent], [value("y", (2, 6), dtype)])


def _converted(source: str, target: str) -> Probe:
    """Return the probe of QUANTIZE or DEQUANTIZE; "" stands for the type that is asked about."""
    name = "QUANTIZE" if source else "DEQUANTIZE"
    return lambda dtype: Op(
        name, [value("x", (2, 6), source or dtype)], [value("y", (2, 6), target or dtype)]
    )


def _svdf(dtype: str) -> Op:
    state = Value("state", (1, 10), "float32" if dtype == "float32" else "int16", 0.004, 0, variable=True)
    inputs = [value("x", (1, 6), dtype), _weights("f", (2, 6), dtype)]
    inputs += [
        Value("w", (2, 5), "int16", 0.002, data=np.arange(10, dtype=np.int16)),
        _bias(1, "int8"),
        state,
    ]
    return Op(
        "SVDF", inputs, [value("y", (1, 1), dtype)], {"rank": 2, "fused_activation_function": "RELU"}, 3
    )


def _lstm(dtype: str) -> Op:
    inputs: list[Value | None] = [value("x", (1, 4, 6), dtype)]
    inputs += [_weights(f"w{i}", (5, 6), dtype) for i in range(4)]
    inputs += [_weights(f"r{i}", (5, 5), dtype) for i in range(4)]
    inputs += [None, None, None, *(constant(f"b{i}", np.zeros(5, np.int32)) for i in range(4)), None, None]
    hidden = Value("hidden", (1, 5), dtype, 1 / 128, 0, variable=True)
    inputs += [hidden, Value("cell", (1, 5), "int16", 2.0**-11, 0, variable=True), None, None, None, None]
    y = Value("y", (1, 4, 5), dtype, 1 / 128, 0)
    options = {"fused_activation_function": "TANH"}
    return Op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], options)


STRIDES: dict[str, Any] = {"stride_h": 1, "stride_w": 1, "padding": "SAME"}
POOL: dict[str, Any] = {**STRIDES, "filter_height": 2, "filter_width": 2}
IMAGE = (1, 4, 4, 4)
PROBES: dict[str, Probe] = {
    **{name: unary(name) for name in ("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH")},
    **{name: unary(name) for name in ("LEAKY_RELU", "LOG", "LOGICAL_NOT", "NEG", "RELU", "RELU6")},
    **{name: unary(name) for name in ("RELU_0_TO_1", "RELU_N1_TO_1", "ROUND", "RSQRT", "SIGN", "SIN")},
    **{name: unary(name) for name in ("SQRT", "SQUARE", "ZEROS_LIKE")},
    **{name: unary(name, (1 / 256, -128)) for name in ("LOGISTIC", "SOFTMAX")},
    **{name: unary(name, (1 / 128, 0)) for name in ("TANH", "L2_NORMALIZATION")},
    "LOG_SOFTMAX": unary("LOG_SOFTMAX", (1 / 16, 127)),
    **{name: pair(name) for name in ("ADD", "ADD_N", "DIV", "FLOOR_DIV", "FLOOR_MOD", "LOGICAL_AND")},
    **{name: pair(name) for name in ("LOGICAL_OR", "MAXIMUM", "MINIMUM", "MUL", "SQUARED_DIFFERENCE", "SUB")},
    **{name: pair(name, "bool") for name in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER")},
    "GREATER_EQUAL": pair("GREATER_EQUAL", "bool"),
    **{f"REDUCE_{what}": reduced(f"REDUCE_{what}") for what in ("ALL", "ANY", "MAX", "MIN", "PROD")},
    "MEAN": reduced("MEAN"),
    "SUM": reduced("SUM"),
    **{name: found(name, "int32") for name in ("ARG_MAX", "ARG_MIN")},
    "AVERAGE_POOL_2D": moved("AVERAGE_POOL_2D", IMAGE, IMAGE, **POOL),
    "BATCH_MATMUL": _matmul,
    "BATCH_TO_SPACE_ND": moved("BATCH_TO_SPACE_ND", (4, 2, 2, 4), IMAGE, [2, 2], [[0, 0], [0, 0]]),
    "BROADCAST_ARGS": lambda dtype: Op(
        "BROADCAST_ARGS", [value(n, (2,), dtype, [1, 6]) for n in "ab"], [value("y", (2,), dtype)]
    ),
    "BROADCAST_TO": moved("BROADCAST_TO", (1, 6), (2, 6), [2, 6]),
    "CAST": lambda dtype: Op("CAST", [value("x", (2, 6), dtype)], [value("y", (2, 6), "int32")]),
    "CONCATENATION": lambda dtype: Op(
        "CONCATENATION", [value(n, (2, 6), dtype) for n in "ab"], [value("y", (4, 6), dtype)]
    ),
    "CONV_2D": layer("CONV_2D", IMAGE, (1, 4, 4, 2), (2, 3, 3, 4), **STRIDES),
    "CUMSUM": moved("CUMSUM", (2, 6), (2, 6), 1),
    "DEPTH_TO_SPACE": moved("DEPTH_TO_SPACE", IMAGE, (1, 8, 8, 1), block_size=2),
    "DEPTHWISE_CONV_2D": layer(
        "DEPTHWISE_CONV_2D", IMAGE, IMAGE, (1, 3, 3, 4), depth_multiplier=1, **STRIDES
    ),
    "DEQUANTIZE": _converted("", "float32"),
    "DYNAMIC_UPDATE_SLICE": _update,
    **{name: _chosen(name) for name in ("EMBEDDING_LOOKUP", "GATHER", "GATHER_ND", "ONE_HOT")},
    "EXPAND_DIMS": moved("EXPAND_DIMS", (2, 6), (2, 1, 6), 1),
    "FILL": moved("FILL", (), (2, 6), [2, 6], first=1),
    "FULLY_CONNECTED": layer("FULLY_CONNECTED", (2, 6), (2, 3), (3, 6)),
    "MAX_POOL_2D": moved("MAX_POOL_2D", IMAGE, IMAGE, **POOL),
    "MIRROR_PAD": moved("MIRROR_PAD", (2, 6), (3, 8), [[1, 0], [0, 2]], mode="REFLECT"),
    "PACK": lambda dtype: Op(
        "PACK",
        [value(n, (2, 6), dtype) for n in "ab"],
        [value("y", (2, 2, 6), dtype)],
        {"values_count": 2},
    ),
    "PAD": moved("PAD", (2, 6), (3, 8), [[1, 0], [0, 2]]),
    "PADV2": lambda dtype: Op(
        "PADV2",
        [value("x", (2, 6), dtype), constant("p", [[1, 0], [0, 2]]), value("v", (1,), dtype, [1])],
        [value("y", (3, 8), dtype)],
    ),
    "POW": _pow,
    "PRELU": _prelu,
    "QUANTIZE": _converted("float32", ""),
    "RANGE": _range,
    "RANK": lambda dtype: Op("RANK", [value("x", (2, 6), dtype)], [value("y", (), "int32")]),
    "RESHAPE": moved("RESHAPE", (2, 6), (3, 4), [3, 4]),
    "RESIZE_BILINEAR": moved("RESIZE_BILINEAR", IMAGE, (1, 8, 8, 4), [8, 8]),
    "RESIZE_NEAREST_NEIGHBOR": moved("RESIZE_NEAREST_NEIGHBOR", IMAGE, (1, 8, 8, 4), [8, 8]),
    "REVERSE_SEQUENCE": moved("REVERSE_SEQUENCE", (2, 6), (2, 6), [3, 6], seq_dim=1, batch_dim=0),
    "REVERSE_V2": moved("REVERSE_V2", (2, 6), (2, 6), [1]),
    **{name: _select(name) for name in ("SELECT", "SELECT_V2")},
    "SHAPE": lambda dtype: Op(
        "SHAPE", [value("x", (2, 6), dtype)], [value("y", (2,), "int32")], {"out_type": 2}
    ),
    "SLICE": moved("SLICE", (2, 6), (2, 3), [0, 1], [2, 3]),
    "SPACE_TO_BATCH_ND": moved("SPACE_TO_BATCH_ND", IMAGE, (4, 2, 2, 4), [2, 2], [[0, 0], [0, 0]]),
    "SPACE_TO_DEPTH": moved("SPACE_TO_DEPTH", IMAGE, (1, 2, 2, 16), block_size=2),
    "SPLIT": several("SPLIT", num_splits=2),
    "SPLIT_V": several("SPLIT_V", num_splits=2),
    "SQUEEZE": moved("SQUEEZE", (2, 1, 6), (2, 6), squeeze_dims=[1]),
    "STRIDED_SLICE": moved("STRIDED_SLICE", (2, 6), (2, 3), [0, 0], [2, 6], [1, 2]),
    "SVDF": _svdf,
    "TILE": moved("TILE", (2, 6), (4, 6), [2, 1]),
    "TOPK_V2": _top,
    "TRANSPOSE": moved("TRANSPOSE", (2, 6), (6, 2), [1, 0]),
    "TRANSPOSE_CONV": layer("TRANSPOSE_CONV", IMAGE, (1, 8, 8, 2), (2, 2, 2, 4), stride_h=2, stride_w=2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
    "UNPACK": several("UNPACK", num=2),
}
