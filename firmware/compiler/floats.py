"""What float32 ops share: the type check, the clamp of a fused activation, C numbers, sums in order."""

from __future__ import annotations

import math

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import positive_axis, product
from firmware.compiler.ops import output, refuse, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output

PREFIX = "EAR_FLOAT_"  # of the names that passes.islands gives to float nodes
CLAMPS = {
    "NONE": (-math.inf, math.inf),
    "RELU": (0.0, math.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}


def check_float(graph: Graph, node: Node, inputs: int) -> None:
    """Raise ModelError unless the first inputs and the only output are float32."""
    for value in (*(tensor(graph, node, i) for i in range(inputs)), only_output(graph, node)):
        require_dtype(graph, node, value, "float32")


def clamp(graph: Graph, node: Node) -> tuple[float, float]:
    """Return the (low, high) of the fused activation; ModelError for one that is not a clamp."""
    activation = node.options.get("fused_activation_function", "NONE")
    if activation not in CLAMPS:
        raise refuse(graph, node, f"the fused activation {activation} is not a clamp", "make it an op")
    return CLAMPS[activation]


def clamped(graph: Graph, node: Node, y: Array) -> Array:
    """Return y within the fused activation's bounds; a NaN stays."""
    low, high = clamp(graph, node)
    y = np.where(y < np.float32(low), np.float32(low), y)
    return np.where(y > np.float32(high), np.float32(high), y)


def c_clamp(graph: Graph, node: Node) -> str:
    """Return the bounds as two C expressions with a comma between."""
    return ", ".join(map(c_float, clamp(graph, node)))


def c_float(value: float) -> str:
    """Return the C expression of a float32."""
    if math.isinf(value):
        return "EAR_INFINITY" if value > 0 else "-EAR_INFINITY"
    return "EAR_NAN" if math.isnan(value) else f"{float(np.float32(value)).hex()}f"


def in_order(x: Array, axis: int) -> Array:
    """Return the sum along an axis (kept, of size 1), added one by one from the first, as a loop does."""
    sums = np.add.accumulate(x, axis=axis, dtype=np.float32)
    return np.take(sums, [-1], axis=axis)


def split_axes(graph: Graph, node: Node, axes: frozenset[int]) -> tuple[int, int, int]:
    """Return (outer, count, inner) sizes of input 0 around neighbouring axes; else ModelError."""
    shape = tensor(graph, node, 0).shape
    big = [axis for axis in sorted(axes) if shape[axis] > 1]
    if not big:
        return product(shape), 1, 1
    first, last = big[0], big[-1]
    if any(shape[axis] > 1 and axis not in axes for axis in range(first, last)):
        what = f"axes {sorted(axes)} of {shape} are not neighbours"
        raise refuse(graph, node, what, "reduce in two steps, or transpose first")
    return product(shape[:first]), product(shape[first : last + 1]), product(shape[last + 1 :])


def one_axis(graph: Graph, node: Node, axis: int) -> frozenset[int]:
    """Return the axis counted from the front; ModelError when the tensor has no such axis."""
    shape = tensor(graph, node, 0).shape
    found = positive_axis(axis, len(shape))
    if found is None:
        what = f"axis {axis} of a tensor with shape {shape}"
        raise refuse(graph, node, what, "the file is damaged; export it again")
    return frozenset((found,))


def same_elements(graph: Graph, node: Node) -> None:
    """Raise ModelError unless the output has the shape of input 0."""
    x, y = tensor(graph, node, 0).shape, output(graph, node).shape
    if x != y:
        raise refuse(graph, node, f"output {y} of input {x}", "the file is damaged; export it again")
