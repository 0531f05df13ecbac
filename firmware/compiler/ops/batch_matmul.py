"""BATCH_MATMUL: products of stacks of int8 or int16 matrices, with adj_x, adj_y and broadcast of the stacks.

As TFLM: sum of (a - za)(b - zb) in 32 bits, requantised once with double rounding; of int16 in 64 bits with
one rounding. LiteRT's reference rounds once for int8 too and may differ by 1. An int8 matrix whose products
do not lie along rows is turned first: a constant right side when compiling, anything else in scratch memory,
one matrix at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.convolution import NARROW, NARROW_SHIFTS, WIDE_SHIFTS
from firmware.compiler.fixed_point import multiply_by_quantised_multiplier, multiply_wide, reduced, saturate
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.layouts.mve import PIECE, QUAD
from firmware.compiler.operands import (
    broadcast_strides,
    by_clip,
    c_list,
    lead,
    merge,
    product,
    spans,
    stacked,
)
from firmware.compiler.ops import Call, Op, literal, output, refuse, tensor
from firmware.compiler.ops.quantize import factor, only_output, quantised, same_dtype

LOOPS = 3
BLOCK_BYTES = 4096  # of widened columns that the SMLAD kernel keeps in scratch at once
CHANNELS_BYTES = 48  # of a quad of columns, for MVE
LONGEST_STEP = 0xFFFF // 7  # between values that MVE's kernel gathers
MAX_DEPTH = (1 << 30) // (255 * 255)  # products whose sum stays below 2**30, as the kernel wants it


def _adjoint(node: Node) -> tuple[bool, bool]:
    return bool(node.options.get("adj_x", False)), bool(node.options.get("adj_y", False))


def _sizes(graph: Graph, node: Node) -> tuple[int, int, int]:
    """Return (rows, depth, columns) of each product; ModelError when the matrices do not fit."""
    a, b, y = tensor(graph, node, 0).shape, tensor(graph, node, 1).shape, output(graph, node).shape
    if len(a) < 2 or len(b) < 2:
        raise refuse(
            graph, node, f"shapes {a} and {b} are not stacks of matrices", "reshape them to two axes"
        )
    adj_x, adj_y = _adjoint(node)
    rows, depth = a[-1:-3:-1] if adj_x else a[-2:]
    columns, other = b[-2:] if adj_y else b[-1:-3:-1]
    if depth != other or y[-2:] != (rows, columns) or not spans(y[:-2], a[:-2], b[:-2]):
        what = f"shapes {a} and {b} (adj_x {adj_x}, adj_y {adj_y}) do not give {y}"
        raise refuse(graph, node, what, "the file is damaged; export it again")
    return rows, depth, columns


def _stack(graph: Graph, node: Node) -> tuple[tuple[int, ...], ...]:
    """Return (sizes, steps of a, steps of b) of the merged stack axes, in elements."""
    a, b, y = (value.shape for value in (tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node)))
    sizes, of_a, of_b = merge(y[:-2], broadcast_strides(a[:-2], y[:-2]), broadcast_strides(b[:-2], y[:-2]))
    return sizes, tuple(s * product(a[-2:]) for s in of_a), tuple(s * product(b[-2:]) for s in of_b)


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    values = (tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node))
    (scale_a, zero_a), (scale_b, zero_b), (scale_y, zero_y) = (quantised(graph, node, v) for v in values)
    multiplier, shift = factor(graph, node, scale_a * scale_b / scale_y)
    if values[0].dtype == "int16" and shift not in WIDE_SHIFTS:
        what = f"the output's scale {scale_y:.3g} is too fine for inputs of {scale_a:.3g} and {scale_b:.3g}"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    return {"zero_a": zero_a, "zero_b": zero_b, "zero_y": zero_y, "multiplier": multiplier, "shift": shift}


def _check(graph: Graph, node: Node) -> None:
    same_dtype(graph, node, tensor(graph, node, 0), tensor(graph, node, 1), only_output(graph, node))
    _factors(graph, node)
    _, depth, _ = _sizes(graph, node)
    if depth > MAX_DEPTH:
        raise refuse(graph, node, f"sums of {depth} products, at most {MAX_DEPTH}", "split the matrices")
    if len(_stack(graph, node)[0]) > LOOPS:
        raise refuse(graph, node, f"the stacks take more than {LOOPS} loops", "reshape them to fewer axes")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p, rank = _factors(graph, node), len(output(graph, node).shape)
    a, b = (
        by_clip(x, tensor(graph, node, i), rank).astype(np.float64) - p[zero]
        for i, (x, zero) in enumerate(zip(inputs, ("zero_a", "zero_b"), strict=True))
    )
    adj_x, adj_y = _adjoint(node)
    total = (a.swapaxes(-1, -2) if adj_x else a) @ (b.swapaxes(-1, -2) if adj_y else b)  # exact: below 2**53
    dtype = output(graph, node).dtype
    multiply = multiply_wide if dtype == "int16" else multiply_by_quantised_multiplier
    scaled = multiply(total.astype(np.int64), p["multiplier"], p["shift"])
    return [stacked(saturate(scaled + p["zero_y"], dtype), output(graph, node))]


def _kernel(graph: Graph, node: Node, turned_a: int, turned_b: int) -> tuple[dict[str, int], int]:
    """Return the (parameters, scratch) of the node's kernel; turned: elements of each matrix to turn."""
    rows, depth, columns = _sizes(graph, node)
    p = _factors(graph, node)
    if output(graph, node).dtype == "int16":
        return {**p, "multiplier": int(reduced(np.array(p["multiplier"]))), "shift": 15 - p["shift"]}, 0
    largest = (128 + abs(p["zero_a"])) * (128 + abs(p["zero_b"])) * depth
    narrow = int(largest < NARROW and p["shift"] in NARROW_SHIFTS)
    if graph.unit == "dsp":
        padded = depth + -depth % 8 if depth > 4 else 4
        block = min(columns + columns % 2, max(2, BLOCK_BYTES // (2 * padded) // 2 * 2))
        return {**p, "narrow": narrow, "block": block}, 2 * padded * (2 + block)
    if graph.unit == "mve" and max(rows, columns) <= LONGEST_STEP:
        padded, quads = depth + -depth % PIECE, -(-columns // QUAD)
        scratch = quads * (QUAD * padded + CHANNELS_BYTES) + (2 * padded if turned_a else 0)
        return {**p, "narrow": narrow, "block": columns}, scratch
    return p, turned_a + turned_b


def _call(graph: Graph, node: Node) -> Call:
    rows, depth, columns = _sizes(graph, node)
    adj_x, adj_y = _adjoint(node)
    right, constants = tensor(graph, node, 1), {}
    if right.data is not None and not adj_y:
        constants, adj_y = {"turned": right.data.swapaxes(-1, -2)}, True
    sizes, of_a, of_b = _stack(graph, node)
    loops = ", ".join(
        f".{name} = {c_list(lead(values, LOOPS, filler))}"
        for name, values, filler in (("batch", sizes, 1), ("a_step", of_a, 0), ("b_step", of_b, 0))
    )
    loops = f"(struct ear_stack){{ {loops} }}"
    sizes_of = {
        "rows": rows,
        "depth": depth,
        "columns": columns,
        "a_upright": int(not adj_x),
        "b_upright": int(adj_y),
    }
    turned = rows * depth if adj_x else 0, 0 if adj_y else depth * columns
    factors, scratch = _kernel(graph, node, *turned)
    parameters = literal("ear_batch_matmul", **sizes_of, **factors)
    arguments = (
        "{in0}",
        "{turned}" if constants else "{in1}",
        "{out0}",
        "{scratch}" if scratch else "0",
        loops,
        parameters,
    )
    if output(graph, node).dtype == "int16":
        return Call("int16/batch_matmul", arguments, constants, scratch, "ear_batch_matmul_int16")
    return Call("batch_matmul", arguments, constants, scratch)


def _macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements * _sizes(graph, node)[1]


OP = Op("BATCH_MATMUL", range(1, 5), _check, _meaning, _call, _macs, batch=True)
