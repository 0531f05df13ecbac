"""DEQUANTIZE: int8 to float32 at the edge of the graph, scale * (x - zero) in float32, as TFLM."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, require_dtype, tensor
from firmware.compiler.ops.quantize import int8_of, same_shape


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    y = output(graph, node)
    int8_of(graph, node, tensor(graph, node, 0))
    require_dtype(graph, node, y, "float32")
    if node.outputs[0] not in graph.outputs:
        what = f"it makes tensor {y.name!r} float32 in the middle of the model"
        raise refuse(
            graph, node, what, "keep the next op in int8: quantise it, or write it with ops that can be"
        )


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    scale, zero = int8_of(graph, node, tensor(graph, node, 0))
    return [np.float32(scale) * (inputs[0].astype(np.float32) - np.float32(zero))]


def _call(graph: Graph, node: Node) -> Call:
    x = tensor(graph, node, 0)
    scale, zero = int8_of(graph, node, x)
    return Call("dequantize", ("{in0}", "{out0}", str(x.elements), f"{scale.hex()}f", str(zero)))


OP = Op("DEQUANTIZE", range(1, 7), _check, _meaning, _call, no_macs, batch=True)
