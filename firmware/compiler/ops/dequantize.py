"""DEQUANTIZE: int8 or int16 to float32 before a float island, scale * (x - zero) in float32, as TFLM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output, require_dtype, tensor
from firmware.compiler.ops.quantize import quantised, same_shape


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    y = output(graph, node)
    quantised(graph, node, tensor(graph, node, 0))
    require_dtype(graph, node, y, "float32")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    scale, zero = quantised(graph, node, tensor(graph, node, 0))
    return [np.float32(scale) * (inputs[0].astype(np.float32) - np.float32(zero))]


def _call(graph: Graph, node: Node) -> Call:
    x = tensor(graph, node, 0)
    scale, zero = quantised(graph, node, x)
    width = np.dtype(x.dtype).itemsize
    places = (str(x.elements), f"{scale.hex()}f", str(zero), str(width))
    return Call("dequantize", ("{in0}", "{out0}", *places))


OP = Op("DEQUANTIZE", range(1, 7), _check, _meaning, _call, no_macs, batch=True)
