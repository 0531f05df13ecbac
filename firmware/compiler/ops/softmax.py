"""SOFTMAX over the last axis, int8 to int8: exponentials from a table, one fixed-point reciprocal a row."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler import fixed_functions, fixed_point
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import (
    Call,
    Op,
    literal,
    no_macs,
    output,
    per_tensor,
    refuse,
    require_dtype,
    tensor,
)

INTEGER_BITS = 5  # of the scaled differences
SUM_BITS = 12  # integer bits of the sum of exponentials
MAX_DEPTH = 4095


def check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless types, sizes and the output scale (1/256, zero-point -128) suit the kernel."""
    x, y = tensor(graph, node, 0), output(graph, node)
    for value in (x, y):
        require_dtype(graph, node, value, "int8")
    scale, zero_point = per_tensor(graph, node, y)
    if x.shape != y.shape or not x.shape or x.shape[-1] > MAX_DEPTH:
        raise refuse(
            graph, node, f"shapes {x.shape} → {y.shape}", f"keep the last axis to {MAX_DEPTH} values"
        )
    if not math.isclose(scale, 1 / 256, rel_tol=0.1) or zero_point != -128:
        raise refuse(
            graph, node, f"output scale {scale:g}, zero-point {zero_point}", "they must be 1/256 and -128"
        )
    if _real_multiplier(graph, node) <= 1:
        raise refuse(graph, node, "the input scale is too small", "calibrate on real inputs")


def _real_multiplier(graph: Graph, node: Node) -> float:
    scale, _ = per_tensor(graph, node, tensor(graph, node, 0))
    beta = float(np.float32(node.options["beta"]))
    return min(beta * scale * (1 << (31 - INTEGER_BITS)), (1 << 31) - 1.0)


def _exponentials(graph: Graph, node: Node) -> npt.NDArray[np.int64]:
    """Return exp(-difference) in Q0, one for each difference from the row's maximum that counts."""
    multiplier, shift = fixed_point.quantise_multiplier(_real_multiplier(graph, node))
    radius = ((1 << INTEGER_BITS) - 1) * (1 << (31 - INTEGER_BITS)) / (1 << shift)
    difference = -np.arange(min(math.floor(radius), 255) + 1)
    scaled = fixed_point.multiply_by_quantised_multiplier(difference, multiplier, shift)
    return fixed_functions.exp_of_negative(scaled, INTEGER_BITS)


def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return the int8 softmax of inputs[0] over its last axis."""
    x = inputs[0].astype(np.int64)
    table = np.zeros(256, np.int64)
    counting = _exponentials(graph, node)
    table[: counting.size] = counting
    difference = x.max(axis=-1, keepdims=True) - x
    exponentials = table[difference]
    total = fixed_point.rounding_divide_by_pot(exponentials, SUM_BITS).sum(axis=-1, keepdims=True)
    headroom = 32 - np.ceil(np.log2(total + 1)).astype(np.int64)  # leading zeros of a 32-bit total
    normal = (total << headroom) - (1 << 31)
    reciprocal = fixed_functions.shift_left(fixed_functions.half_denominator_reciprocal(normal), 1)
    product = fixed_point.saturating_rounding_doubling_high_mul(reciprocal, exponentials)
    scaled = fixed_point.rounding_divide_by_pot(product, SUM_BITS - headroom + 31 - 8)
    return [np.where(difference < counting.size, np.clip(scaled - 128, -128, 127), -128).astype(np.int8)]


def call(graph: Graph, node: Node) -> Call:
    """Return the kernel call."""
    x = tensor(graph, node, 0)
    table = _exponentials(graph, node).astype(np.int32)
    shape = literal("ear_softmax", rows=x.elements // x.shape[-1], depth=x.shape[-1], differences=table.size)
    return Call("softmax", (shape, "{in0}", "{exponentials}", "{out0}"), {"exponentials": table})


OP = Op("SOFTMAX", range(1, 4), check, meaning, call, no_macs, in_place=True, batch=True)
