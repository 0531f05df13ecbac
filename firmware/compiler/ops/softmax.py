"""SOFTMAX over the last axis: exponentials from a table, one fixed-point reciprocal a row, as TFLM.

Of int16 both come from curves of 513 points; the output has scale 1/32768.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler import fixed_functions, fixed_point, int16_functions
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
MAX_LEFT = 14  # bits by which a difference of 16 bits may move up


def check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless types, sizes and the output scale (1/256, zero-point -128) suit the kernel."""
    x, y = tensor(graph, node, 0), output(graph, node)
    require_dtype(graph, node, x, "int8", "int16")
    require_dtype(graph, node, y, x.dtype)
    scale, zero_point = per_tensor(graph, node, y)
    if x.shape != y.shape or not x.shape or x.shape[-1] > MAX_DEPTH:
        raise refuse(
            graph, node, f"shapes {x.shape} → {y.shape}", f"keep the last axis to {MAX_DEPTH} values"
        )
    if x.dtype == "int16":
        _check_int16(graph, node)
        return
    if not math.isclose(scale, 1 / 256, rel_tol=0.1) or zero_point != -128:
        raise refuse(
            graph, node, f"output scale {scale:g}, zero-point {zero_point}", "they must be 1/256 and -128"
        )
    if _real_multiplier(graph, node) <= 1:
        raise refuse(graph, node, "the input scale is too small", "calibrate on real inputs")


def _check_int16(graph: Graph, node: Node) -> None:
    scale, zero_point = per_tensor(graph, node, output(graph, node))
    if not math.isclose(scale, 1 / 32768, rel_tol=0.001) or zero_point:
        what = f"int16 output scale {scale:g}, zero-point {zero_point}"
        raise refuse(graph, node, what, "they must be 1/32768 and 0")
    if per_tensor(graph, node, tensor(graph, node, 0))[1]:
        raise refuse(graph, node, "its int16 input has a zero-point", "quantise it symmetrically")
    if _int16_factor(graph, node)[1] > MAX_LEFT:
        raise refuse(graph, node, "the input scale is too coarse", "calibrate on real inputs")


def _int16_factor(graph: Graph, node: Node) -> tuple[int, int]:
    """Return the (multiplier, shift) that bring a difference of 10 to 65535."""
    scale, _ = per_tensor(graph, node, tensor(graph, node, 0))
    return fixed_point.quantise_multiplier(scale * float(np.float32(node.options["beta"])) / (10.0 / 65535.0))


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
    """Return the softmax of inputs[0] over its last axis."""
    if inputs[0].dtype == np.int16:
        return [int16_functions.softmax(inputs[0], *_int16_factor(graph, node)).astype(np.int16)]
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
    if x.dtype == "int16":
        return _int16_call(graph, node)
    counting = _exponentials(graph, node)
    table = np.pad(counting, (0, 256 - counting.size)).astype(np.int32)
    shape = literal("ear_softmax", rows=x.elements // x.shape[-1], depth=x.shape[-1])
    return Call("softmax", (shape, "{in0}", "{exponentials}", "{out0}"), {"exponentials": table})


def _int16_call(graph: Graph, node: Node) -> Call:
    x = tensor(graph, node, 0)
    multiplier, shift = _int16_factor(graph, node)
    sizes = {"rows": x.elements // x.shape[-1], "depth": x.shape[-1]}
    shape = literal("ear_softmax_int16", **sizes, multiplier=multiplier, shift=shift)
    exponential, reciprocal = int16_functions.softmax_curves()
    return Call(
        "int16/softmax",
        (shape, "{in0}", "{out0}", "{exponential}", "{reciprocal}"),
        {"exponential": exponential, "reciprocal": reciprocal},
        function="ear_softmax_int16",
    )


OP = Op("SOFTMAX", range(1, 4), check, meaning, call, no_macs, in_place=True, batch=True)
