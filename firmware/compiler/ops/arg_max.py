"""ARG_MAX and ARG_MIN: the index along a constant axis, the first of equal ones; TOPK_V2: the k largest.

int8, int16, int32 and float32; indices int32, of ARG_MAX and ARG_MIN also int64. TFLM has ARG_MAX and ARG_MIN
of int8 and float32; LiteRT is followed for int32 and TOPK_V2, and neither has int16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, product, stacked
from firmware.compiler.ops import Call, Op, no_macs, output, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, integers, moves_bytes, one_axis

C_TYPES = {"int8": "int8_t", "int16": "int16_t", "int32": "int32_t", "float32": "float"}


def _check(graph: Graph, node: Node) -> None:
    x, y, axis = tensor(graph, node, 0), only_output(graph, node), one_axis(graph, node)
    require_dtype(graph, node, x, *C_TYPES)
    require_dtype(graph, node, y, "int32", "int64")
    if y.shape != (*x.shape[:axis], *x.shape[axis + 1 :]):
        raise damaged(graph, node, f"its output has shape {y.shape}, its input {x.shape}, its axis is {axis}")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    find, y = np.argmax if node.op == "ARG_MAX" else np.argmin, output(graph, node)
    x = by_clip(inputs[0], tensor(graph, node, 0))
    return [stacked(find(x, axis=one_axis(graph, node) + 1).astype(y.dtype), y)]


def _call(graph: Graph, node: Node) -> Call:
    x, axis = tensor(graph, node, 0), one_axis(graph, node)
    sizes = (product(x.shape[:axis]), x.shape[axis], product(x.shape[axis + 1 :]), int(node.op == "ARG_MIN"))
    bytes_ = np.dtype(output(graph, node).dtype).itemsize
    arguments = ("{in0}", "{out0}", *(str(size) for size in (*sizes, bytes_)))
    return Call("arg_max", arguments, function=f"ear_arg_max_{C_TYPES[x.dtype]}")


def _check_top(graph: Graph, node: Node) -> None:
    x, y, places = tensor(graph, node, 0), output(graph, node), output(graph, node, 1)
    require_dtype(graph, node, x, *C_TYPES)
    require_dtype(graph, node, places, "int32")
    moves_bytes(graph, node, x, y)
    count = integers(graph, node, 1, 1)[0]
    fits = x.shape and 1 <= count <= x.shape[-1] and len(node.outputs) == 2
    if not fits or not y.shape == places.shape == (*x.shape[:-1], count):
        raise damaged(graph, node, f"the {count} largest of {x.shape} are not {y.shape} and {places.shape}")


def _top(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, count = inputs[0], output(graph, node).shape[-1]
    wide = x.astype(np.float64)  # exact: negating the smallest integer would not be
    places = np.argsort(-wide, axis=-1, kind="stable")[..., :count]
    return [np.take_along_axis(x, places, axis=-1), places.astype(np.int32)]


def _call_top(graph: Graph, node: Node) -> Call:
    x, count = tensor(graph, node, 0), output(graph, node).shape[-1]
    sizes = (product(x.shape[:-1]), x.shape[-1], count)
    arguments = ("{in0}", "{out0}", "{out1}", *(str(size) for size in sizes))
    return Call("arg_max", arguments, function=f"ear_top_{C_TYPES[x.dtype]}")


OPS = (
    Op("ARG_MAX", range(1, 4), _check, _meaning, _call, no_macs, batch=True),
    Op("ARG_MIN", range(1, 4), _check, _meaning, _call, no_macs, batch=True),
    Op("TOPK_V2", range(1, 4), _check_top, _top, _call_top, no_macs),
)
