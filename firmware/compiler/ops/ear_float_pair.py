"""Float32 ops of two inputs with broadcasting.

POW is exp(b log a) (a whole constant b up to 8: products), right to 6e-8 times |b log a|. PRELU takes its
slope from input 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from firmware.compiler import float_functions as functions
from firmware.compiler.floats import PREFIX, c_clamp, check_float, clamp, clamped
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, stacked
from firmware.compiler.ops import Call, Op, output, tensor
from firmware.compiler.ops.add import call_pair, check_broadcast

MAX_POWER = 8


def _power(a: Array, b: Array) -> Array:
    """Return a ** b: products for whole b up to MAX_POWER, else by logarithm; NaN for a below 0 there."""
    result = np.ones(np.broadcast_shapes(a.shape, b.shape), np.float32)
    for step in range(MAX_POWER):
        result = np.where(np.abs(b) > np.float32(step), result * a, result)
    product = np.where(b < 0, np.float32(1) / result, result)
    whole = (np.abs(b) <= np.float32(MAX_POWER)) & (np.rint(b) == b)
    return np.where(whole, product, functions.exp(b * functions.log(a + np.zeros_like(b))))


def _floor_divide(a: Array, b: Array) -> Array:
    ratio = a / b
    return np.where(np.abs(ratio) < np.float32(1 << 23), np.floor(ratio) + np.float32(0), ratio)


FUNCTIONS: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": lambda a, b: a + b,
    "DIV": lambda a, b: a / b,
    "FLOOR_DIV": _floor_divide,
    "MAXIMUM": lambda a, b: np.where(a > b, a, b),
    "MINIMUM": lambda a, b: np.where(a < b, a, b),
    "MUL": lambda a, b: a * b,
    "POW": _power,
    "PRELU": lambda a, b: np.where(a < 0, a * b, a),
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) * (a - b),
    "SUB": lambda a, b: a - b,
}


def _name(node: Node) -> str:
    return node.op.removeprefix(PREFIX)


def apply(node: Node, a: Array, b: Array) -> Array:
    """Return what the node makes of two float32 arrays, without its fused activation."""
    with np.errstate(all="ignore"):
        return FUNCTIONS[_name(node)](a, b).astype(np.float32)


def _check(graph: Graph, node: Node) -> None:
    check_float(graph, node, 2)
    check_broadcast(graph, node)
    clamp(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    y = output(graph, node)
    a, b = (by_clip(x, tensor(graph, node, i), len(y.shape)) for i, x in enumerate(inputs))
    return [stacked(clamped(graph, node, apply(node, a, b)), y)]


def _call(graph: Graph, node: Node) -> Call:
    parameters = f"ear_float_{_name(node).lower()}, {c_clamp(graph, node)}"
    return call_pair(graph, node, "float_pair", parameters)


def _macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements if _name(node) in ("MUL", "SQUARED_DIFFERENCE") else 0


OPS = tuple(
    Op(PREFIX + name, range(1, 16), _check, _meaning, _call, _macs, in_place=True, batch=True)
    for name in FUNCTIONS
)
