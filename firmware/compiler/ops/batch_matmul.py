"""BATCH_MATMUL: products of stacks of int8 matrices, with adj_x, adj_y and broadcast of the stacks.

As TFLM: sum of (a - za)(b - zb) in 32 bits, requantised once with double rounding. LiteRT's reference rounds
once and may differ by 1. A matrix whose products do not lie along rows is turned first: a constant right side
when compiling, anything else in scratch memory, one matrix at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.fixed_point import multiply_by_quantised_multiplier, saturate_int8
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import broadcast_strides, by_clip, c_list, lead, merge, product, stacked
from firmware.compiler.ops import Call, Op, literal, output, refuse, tensor
from firmware.compiler.ops.quantize import factor, int8_of, only_output

LOOPS = 3
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
    try:
        shape = (*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns)
    except ValueError:
        shape = ()
    if depth != other or shape != y:
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
    (scale_a, zero_a), (scale_b, zero_b), (scale_y, zero_y) = (int8_of(graph, node, v) for v in values)
    multiplier, shift = factor(graph, node, scale_a * scale_b / scale_y)
    return {"zero_a": zero_a, "zero_b": zero_b, "zero_y": zero_y, "multiplier": multiplier, "shift": shift}


def _check(graph: Graph, node: Node) -> None:
    only_output(graph, node)
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
    scaled = multiply_by_quantised_multiplier(total.astype(np.int64), p["multiplier"], p["shift"])
    return [stacked(saturate_int8(scaled + p["zero_y"]), output(graph, node))]


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
    parameters = literal("ear_batch_matmul", **sizes_of, **_factors(graph, node))
    scratch = (rows * depth if adj_x else 0) + (0 if adj_y else depth * columns)
    arguments = (
        "{in0}",
        "{turned}" if constants else "{in1}",
        "{out0}",
        "{scratch}" if scratch else "0",
        loops,
        parameters,
    )
    return Call("batch_matmul", arguments, constants, scratch)


def _macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements * _sizes(graph, node)[1]


OP = Op("BATCH_MATMUL", range(1, 5), _check, _meaning, _call, _macs, batch=True)
