"""SQUARED_DIFFERENCE with broadcasting.

As TFLM: twice the larger scale, 7 more bits (int16: none), square, requantise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.fixed_point import (
    RANGES,
    multiply_by_quantised_multiplier,
    quantise_multiplier,
    saturate,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import stacked
from firmware.compiler.ops import Call, Op, literal, output, tensor
from firmware.compiler.ops.add import call_pair, check_pair, pair
from firmware.compiler.ops.quantize import factor, quantised

LEFT_SHIFT = {"int8": 7, "int16": 0}


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    values = (tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node))
    (scale_a, zero_a), (scale_b, zero_b), (scale_y, zero_y) = (quantised(graph, node, v) for v in values)
    left = LEFT_SHIFT[values[0].dtype]
    twice = 2.0 * max(scale_a, scale_b)
    a, b = quantise_multiplier(scale_a / twice), quantise_multiplier(scale_b / twice)
    y = factor(graph, node, twice * twice / float(np.float32(1 << 2 * left) * np.float32(scale_y)))
    low, high = RANGES[values[0].dtype]
    return {
        "zero_a": zero_a,
        "zero_b": zero_b,
        "zero_y": zero_y,
        "multiplier_a": a[0],
        "shift_a": a[1],
        "multiplier_b": b[0],
        "shift_b": b[1],
        "multiplier_y": y[0],
        "shift_y": y[1],
        "width": np.dtype(values[0].dtype).itemsize,
        "left": left,
        "low": low,
        "high": high,
    }


def _check(graph: Graph, node: Node) -> None:
    check_pair(graph, node)
    _factors(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p = _factors(graph, node)
    a, b = pair(graph, node, inputs)
    scaled_a = multiply_by_quantised_multiplier(a << p["left"], p["multiplier_a"], p["shift_a"])
    scaled_b = multiply_by_quantised_multiplier(b << p["left"], p["multiplier_b"], p["shift_b"])
    square = np.square(scaled_a - scaled_b)
    scaled = multiply_by_quantised_multiplier(square, p["multiplier_y"], p["shift_y"])
    y = output(graph, node)
    return [stacked(saturate(scaled + p["zero_y"], y.dtype), y)]


def _call(graph: Graph, node: Node) -> Call:
    parameters = literal("ear_squared_difference", **_factors(graph, node))
    return call_pair(graph, node, "squared_difference", parameters)


def _macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements


OP = Op("SQUARED_DIFFERENCE", range(1, 3), _check, _meaning, _call, _macs, in_place=True, batch=True)
