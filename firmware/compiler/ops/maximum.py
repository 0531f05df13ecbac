"""MAXIMUM and MINIMUM with broadcasting.

TFLM and LiteRT compare the raw values whatever the scales; that is only right when both inputs and the output
share scale and zero-point, so anything else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, stacked
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, tensor
from firmware.compiler.ops.add import call_pair, check_pair, or_integers
from firmware.compiler.ops.quantize import quantised


def _check(graph: Graph, node: Node) -> None:
    check_pair(graph, node)
    values = (tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node))
    if len({quantised(graph, node, value) for value in values}) > 1:
        scales = ", ".join(f"{quantised(graph, node, value)[0]:.6g}" for value in values)
        what = f"its inputs and output differ in scale or zero-point ({scales})"
        raise refuse(graph, node, what, "quantise the model with one scale for the three")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    rank = len(output(graph, node).shape)
    a, b = (by_clip(x, tensor(graph, node, i), rank) for i, x in enumerate(inputs))
    return [stacked(np.maximum(a, b) if node.op == "MAXIMUM" else np.minimum(a, b), output(graph, node))]


def _call(graph: Graph, node: Node) -> Call:
    width = np.dtype(output(graph, node).dtype).itemsize
    call = call_pair(graph, node, "maximum", str(int(node.op == "MINIMUM")))
    return replace(call, arguments=(*call.arguments, str(width)))


OPS = tuple(
    or_integers(Op(name, range(1, 5), _check, _meaning, _call, no_macs, in_place=True, batch=True))
    for name in ("MAXIMUM", "MINIMUM")
)
