"""What elementwise ops mean in real numbers (float64): the truth that tables are held to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from firmware.compiler.floats import CLAMPS, PREFIX
from firmware.compiler.graph import Array, Graph, Node, Tensor

_ERF = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(node: Node, x: Array) -> Array:
    if node.options.get("approximate", False):
        inner: Array = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        inner = _ERF(x * math.sqrt(0.5))
    return np.asarray(0.5 * x * (1 + inner))


UNARY: dict[str, Callable[[Node, Array], Array]] = {
    "ABS": lambda _, x: np.abs(x),
    "CEIL": lambda _, x: np.ceil(x),
    "COS": lambda _, x: np.cos(x),
    "DEQUANTIZE": lambda _, x: x,
    "ELU": lambda _, x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    "EXP": lambda _, x: np.exp(np.minimum(x, 700)),
    "FLOOR": lambda _, x: np.floor(x),
    "GELU": _gelu,
    "HARD_SWISH": lambda _, x: x * np.clip(x + 3, 0, 6) / 6,
    "LEAKY_RELU": lambda node, x: np.where(x < 0, x * float(node.options.get("alpha", 0.0)), x),
    "LOG": lambda _, x: np.log(np.maximum(x, 0)),
    "LOGISTIC": lambda _, x: 1 / (1 + np.exp(np.clip(-x, -700, 700))),
    "NEG": lambda _, x: -x,
    "QUANTIZE": lambda _, x: x,
    "RELU": lambda _, x: np.maximum(x, 0),
    "RELU6": lambda _, x: np.clip(x, 0, 6),
    "RELU_0_TO_1": lambda _, x: np.clip(x, 0, 1),
    "RELU_N1_TO_1": lambda _, x: np.clip(x, -1, 1),
    "ROUND": lambda _, x: np.rint(x),
    "RSQRT": lambda _, x: 1 / np.sqrt(np.maximum(x, 0)),
    "SIN": lambda _, x: np.sin(x),
    "SQRT": lambda _, x: np.sqrt(np.maximum(x, 0)),
    "SQUARE": lambda _, x: x * x,
    "TANH": lambda _, x: np.tanh(x),
}
PAIRS: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": lambda a, b: a + b,
    "DIV": lambda a, b: a / b,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "MUL": lambda a, b: a * b,
    "POW": np.power,
    "PRELU": lambda a, b: np.where(a < 0, a * b, a),
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2,
    "SUB": lambda a, b: a - b,
}


def known(node: Node) -> bool:
    """Tell whether the node works element by element, and how is written here."""
    name = node.op.removeprefix(PREFIX)
    activation = node.options.get("fused_activation_function", "NONE")
    return (name in UNARY or (name in PAIRS and len(node.inputs) == 2)) and activation in CLAMPS


def apply(graph: Graph, node: Node, operands: Sequence[Array]) -> Array:
    """Return the real result of real operands, its fused activation included."""
    name = node.op.removeprefix(PREFIX)
    with np.errstate(all="ignore"):
        y = UNARY[name](node, operands[0]) if name in UNARY else PAIRS[name](operands[0], operands[1])
    low, high = CLAMPS[node.options.get("fused_activation_function", "NONE")]
    return y if (low, high) == CLAMPS["NONE"] else np.clip(y, low, high)


def constant(value: Tensor) -> Array | None:
    """Return the real numbers of a constant; None when it is none, or has not one scale."""
    if value.data is None or value.dtype == "float32":
        return None if value.data is None else value.data.astype(np.float64)
    q = value.quantisation
    if q is None or q.scale.size != 1:
        return None
    return (value.data.astype(np.float64) - float(q.zero_point[0])) * float(q.scale[0])


def saturated(value: Tensor, y: Array) -> Array:
    """Return y within the range of an int8 value; a NaN becomes 0. Float values stay as they are."""
    q = value.quantisation
    if value.dtype != "int8" or q is None:
        return y
    low, high = ((end - float(q.zero_point[0])) * float(q.scale[0]) for end in (-128, 127))
    return np.asarray(np.clip(np.nan_to_num(y, nan=0.0, posinf=high, neginf=low), low, high))
