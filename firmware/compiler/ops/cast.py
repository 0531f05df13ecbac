"""CAST between int8, uint8, int16, int32, int64, float32 and bool: the bare numbers, whatever their scales.

Integers wrap, as in TFLM. A float goes towards zero; TFLM leaves open what one out of range or a NaN becomes:
ours saturates, and gives 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output, require_dtype, tensor
from firmware.compiler.ops.quantize import same_shape
from firmware.compiler.ops.transpose import MOVED

C_TYPES = {"bool": "uint8_t", "float32": "float"}


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    for value in (tensor(graph, node, 0), output(graph, node)):
        require_dtype(graph, node, value, *MOVED)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, y = inputs[0], np.dtype(output(graph, node).dtype)
    if x.dtype != np.float32 or y.kind not in "iu":
        return [x.astype(y)]
    low, high = np.iinfo(y).min, np.iinfo(y).max
    inside = (x > low) & (x < high)
    whole = np.trunc(np.where(inside, x, 0)).astype(y)
    return [np.where(inside, whole, np.where(x >= high, high, np.where(x <= low, low, 0))).astype(y)]


def _call(graph: Graph, node: Node) -> Call:
    x, y = tensor(graph, node, 0), output(graph, node)
    if y.dtype == "bool":
        convert = "EAR_AS_BOOL"
    elif x.dtype == "float32" and y.dtype != "float32":
        convert = f"ear_saturated_{y.dtype}"
    else:
        convert = "EAR_AS_IT_IS"
    source, target = (C_TYPES.get(value.dtype, f"{value.dtype}_t") for value in (x, y))
    arguments = (source, "{in0}", target, "{out0}", str(x.elements), convert)
    return Call("cast", arguments, function="EAR_CAST")


OP = Op("CAST", range(1, 8), _check, _meaning, _call, no_macs, batch=True)
