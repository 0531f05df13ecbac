"""MUL with broadcasting. As TFLM: (a - za)(b - zb), requantised once. int8 or int16. LiteRT agrees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.fixed_point import multiply_by_quantised_multiplier, saturate
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import stacked
from firmware.compiler.ops import Call, Op, literal, output, tensor
from firmware.compiler.ops.add import call_pair, check_pair, clamp, or_integers, pair
from firmware.compiler.ops.quantize import factor, quantised


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    values = (tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node))
    (scale_a, zero_a), (scale_b, zero_b), (scale_y, zero_y) = (quantised(graph, node, v) for v in values)
    multiplier, shift = factor(graph, node, scale_a * scale_b / scale_y)
    low, high = clamp(graph, node)
    return {
        "zero_a": zero_a,
        "zero_b": zero_b,
        "zero_y": zero_y,
        "multiplier": multiplier,
        "shift": shift,
        "low": low,
        "high": high,
        "width": np.dtype(values[0].dtype).itemsize,
    }


def _check(graph: Graph, node: Node) -> None:
    check_pair(graph, node)
    _factors(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p = _factors(graph, node)
    a, b = pair(graph, node, inputs)
    scaled = multiply_by_quantised_multiplier(a * b, p["multiplier"], p["shift"])
    y = output(graph, node)
    return [stacked(saturate(scaled + p["zero_y"], y.dtype, p["low"], p["high"]), y)]


def _call(graph: Graph, node: Node) -> Call:
    return call_pair(graph, node, "mul", literal("ear_mul", **_factors(graph, node)))


def _macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements


OP = or_integers(Op("MUL", range(1, 5), _check, _meaning, _call, _macs, in_place=True, batch=True))
