"""Float32 ops of one input, element by element, as in float_functions.py: within 3e-6 of LiteRT's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from firmware.compiler import float_functions as functions
from firmware.compiler.floats import PREFIX, c_float, check_float, same_elements
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output

ONE, HALF = np.float32(1), np.float32(0.5)
CUBE, ROOT_2_OVER_PI = np.float32(0.044715), np.float32(math.sqrt(2 / math.pi))
WHOLE = np.float32(1 << 23)  # from here on every float is an integer


def _clamp(low: float, high: float) -> Callable[[Array, float], Array]:
    def bounded(x: Array, _: float) -> Array:
        x = np.where(x < np.float32(low), np.float32(low), x)
        return np.where(x > np.float32(high), np.float32(high), x)

    return bounded


def _floor(x: Array) -> Array:
    """Return the floor, 0 for -0."""
    return np.where(np.abs(x) < WHOLE, np.floor(x) + np.float32(0), x)


def _rsqrt(x: Array, _: float) -> Array:
    return ONE / np.sqrt(x)


def _elu(x: Array, _: float) -> Array:
    return np.where(x < 0, functions.exp(x) - ONE, x)


def _leaky(x: Array, alpha: float) -> Array:
    return np.where(x < 0, x * np.float32(alpha), x)


def _gelu(x: Array, _: float) -> Array:
    return (HALF * x) * (ONE + functions.erf(x * np.float32(math.sqrt(0.5))))


def _gelu_tanh(x: Array, _: float) -> Array:
    inner = ROOT_2_OVER_PI * (x + CUBE * ((x * x) * x))
    return (HALF * x) * (ONE + functions.tanh(inner))


def _hard_swish(x: Array, _: float) -> Array:
    return (x * _clamp(0, 6)(x + np.float32(3), 0)) / np.float32(6)


def _round(x: Array, _: float) -> Array:
    """Return the nearest integer, halves to the even one."""
    return np.where(np.abs(x) < WHOLE, np.rint(x), x)


FUNCTIONS: dict[str, Callable[[Array, float], Array]] = {
    "ABS": lambda x, _: np.abs(x),
    "CEIL": lambda x, _: np.where(np.abs(x) < WHOLE, -_floor(-x), x),
    "COS": lambda x, _: functions.cosine(x),
    "ELU": _elu,
    "EXP": lambda x, _: functions.exp(x),
    "FLOOR": lambda x, _: _floor(x),
    "GELU": _gelu,
    "HARD_SWISH": _hard_swish,
    "LEAKY_RELU": _leaky,
    "LOG": lambda x, _: functions.log(x),
    "LOGISTIC": lambda x, _: functions.logistic(x),
    "NEG": lambda x, _: -x,
    "RELU": _clamp(0, math.inf),
    "RELU6": _clamp(0, 6),
    "RELU_0_TO_1": _clamp(0, 1),
    "RELU_N1_TO_1": _clamp(-1, 1),
    "ROUND": _round,
    "RSQRT": _rsqrt,
    "SIN": lambda x, _: functions.sine(x),
    "SQRT": lambda x, _: np.sqrt(x),
    "SQUARE": lambda x, _: x * x,
    "TANH": lambda x, _: functions.tanh(x),
}


def _name(node: Node) -> str:
    return node.op.removeprefix(PREFIX)


def _approximate(node: Node) -> bool:
    return _name(node) == "GELU" and bool(node.options.get("approximate", False))


def _alpha(node: Node) -> float:
    return float(node.options.get("alpha", 0.0))


def apply(node: Node, x: Array) -> Array:
    """Return what the node makes of float32 values."""
    function = _gelu_tanh if _approximate(node) else FUNCTIONS[_name(node)]
    with np.errstate(all="ignore"):
        return function(x, _alpha(node)).astype(np.float32)


def _check(graph: Graph, node: Node) -> None:
    check_float(graph, node, 1)
    same_elements(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    return [apply(node, inputs[0])]


def _call(graph: Graph, node: Node) -> Call:
    function = "gelu_tanh" if _approximate(node) else _name(node).lower()
    count = str(output(graph, node).elements)
    arguments = ("{in0}", "{out0}", count, f"ear_map_{function}", c_float(_alpha(node)))
    return Call("float_unary", arguments)


OPS = tuple(
    Op(PREFIX + name, range(1, 16), _check, _meaning, _call, no_macs, in_place=True, batch=True)
    for name in FUNCTIONS
)
