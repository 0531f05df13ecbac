"""PRELU: x from zero up, alpha * x below. As TFLM: int8, or int16 with int8 alphas; factors in double."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from firmware.compiler.fixed_point import RANGES, multiply_by_quantised_multiplier, saturate
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, stacked
from firmware.compiler.ops import Call, Op, literal, no_macs, output, refuse, require_constant, tensor
from firmware.compiler.ops.add import call_pair, check_broadcast
from firmware.compiler.ops.quantize import factor, int8_of, quantised, same_dtype, same_shape

MAX_LEFT = 7  # bits by which a product of 24 may move up


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    x, y = tensor(graph, node, 0), output(graph, node)
    (scale_x, zero_x), (scale_y, zero_y) = quantised(graph, node, x), quantised(graph, node, y)
    scale_alpha, zero_alpha = int8_of(graph, node, tensor(graph, node, 1))
    above = factor(graph, node, scale_x / scale_y)
    below = factor(graph, node, scale_x * scale_alpha / scale_y)
    low, high = RANGES[x.dtype]
    return {
        "zero_x": zero_x,
        "zero_alpha": zero_alpha,
        "zero_y": zero_y,
        "above": above[0],
        "above_shift": above[1],
        "below": below[0],
        "below_shift": below[1],
        "low": low,
        "high": high,
        "width": np.dtype(x.dtype).itemsize,
    }


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    same_dtype(graph, node, tensor(graph, node, 0), output(graph, node))
    require_constant(graph, node, tensor(graph, node, 1))
    check_broadcast(graph, node)
    p = _factors(graph, node)
    if max(p["above_shift"], p["below_shift"]) > MAX_LEFT:
        what = f"its factors reach 2**{max(p['above_shift'], p['below_shift'])}"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p, y = _factors(graph, node), output(graph, node)
    x = by_clip(inputs[0], tensor(graph, node, 0), len(y.shape)).astype(np.int64) - p["zero_x"]
    alpha = inputs[1].astype(np.int64) - p["zero_alpha"]
    above = multiply_by_quantised_multiplier(x, p["above"], p["above_shift"])
    below = multiply_by_quantised_multiplier(x * alpha, p["below"], p["below_shift"])
    return [stacked(saturate(np.where(x >= 0, above, below) + p["zero_y"], y.dtype), y)]


def _call(graph: Graph, node: Node) -> Call:
    """Return the kernel call, with the alphas in the type of the input."""
    alpha = require_constant(graph, node, tensor(graph, node, 1)).astype(tensor(graph, node, 0).dtype)
    call = call_pair(graph, node, "prelu", literal("ear_prelu", **_factors(graph, node)))
    arguments = tuple("{alpha}" if argument == "{in1}" else argument for argument in call.arguments)
    return replace(call, arguments=arguments, constants={"alpha": alpha})


OP = Op("PRELU", range(1, 2), _check, _meaning, _call, no_macs, in_place=True, batch=True)
