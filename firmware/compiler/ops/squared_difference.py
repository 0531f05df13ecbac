"""SQUARED_DIFFERENCE with broadcasting.

As TFLM: twice the larger scale, 7 more bits (int16: none), square, requantise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.fixed_point import (
    RANGES,
    multiply_by_quantised_multiplier,
    saturate,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import stacked
from firmware.compiler.ops import Call, Op, literal, output
from firmware.compiler.ops.add import brought, call_pair, check_pair, factors_of_pair, twice_the_larger
from firmware.compiler.ops.quantize import factor, quantised

LEFT_SHIFT = {"int8": 7, "int16": 0}


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    y, left = output(graph, node), LEFT_SHIFT[output(graph, node).dtype]
    twice, (scale, _) = twice_the_larger(graph, node), quantised(graph, node, y)
    to_output = factor(graph, node, twice * twice / float(np.float32(1 << 2 * left) * np.float32(scale)))
    return factors_of_pair(graph, node, left, to_output, RANGES[y.dtype])


def _check(graph: Graph, node: Node) -> None:
    check_pair(graph, node)
    _factors(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p = _factors(graph, node)
    a, b = brought(graph, node, inputs, p)
    square = np.square(a - b)
    scaled = multiply_by_quantised_multiplier(square, p["multiplier_y"], p["shift_y"])
    y = output(graph, node)
    return [stacked(saturate(scaled + p["zero_y"], y.dtype), y)]


def _call(graph: Graph, node: Node) -> Call:
    parameters = literal("ear_squared_difference", **_factors(graph, node))
    return call_pair(graph, node, "squared_difference", parameters)


def _macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements


OP = Op("SQUARED_DIFFERENCE", range(1, 3), _check, _meaning, _call, _macs, in_place=True, batch=True)
