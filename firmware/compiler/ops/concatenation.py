"""CONCATENATION along any axis, and PACK (the same, along a new axis). Any type.

TFLM and LiteRT refuse int8 inputs whose scale or zero-point differs from the output's; ours requantises them
as QUANTIZE does, through a table of 256.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.operands import by_clip, positive_axis, product, stacked
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, tensor
from firmware.compiler.ops.quantize import by_byte, int8_of, only_output, requantise
from firmware.compiler.ops.transpose import damaged, moves_bytes


def _parts(graph: Graph, node: Node) -> list[Tensor]:
    return [tensor(graph, node, position) for position in range(len(node.inputs))]


def _axis(graph: Graph, node: Node) -> int:
    axis = positive_axis(int(node.options.get("axis", 0)), len(output(graph, node).shape))
    if axis is None:
        raise damaged(graph, node, f"axis {node.options.get('axis')} of {output(graph, node).shape}")
    return axis


def _needs_table(graph: Graph, node: Node, part: Tensor) -> bool:
    y = output(graph, node)
    return y.dtype == "int8" and int8_of(graph, node, part) != int8_of(graph, node, y)


def _check(graph: Graph, node: Node) -> None:
    axis, y, parts = _axis(graph, node), only_output(graph, node), _parts(graph, node)
    shapes = [part.shape for part in parts]
    if node.op == "PACK":
        shapes = [(*shape[:axis], 1, *shape[axis:]) for shape in shapes]
    whole = sum(shape[axis] for shape in shapes if len(shape) > axis)
    fits = all(len(s) == len(y.shape) and (*s[:axis], whole, *s[axis + 1 :]) == y.shape for s in shapes)
    if not parts or not fits:
        raise damaged(
            graph, node, f"{[part.shape for part in parts]} along axis {axis} do not give {y.shape}"
        )
    if node.options.get("fused_activation_function", "NONE") != "NONE":
        raise refuse(graph, node, "it has a fused activation", "make the activation an op")
    for part in parts:
        if y.dtype == "int8" and part.dtype == "int8":
            requantise(graph, node, part, y)
        else:
            moves_bytes(graph, node, part, y)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    axis, y = _axis(graph, node), output(graph, node)
    parts = []
    for x, part in zip(inputs, _parts(graph, node), strict=True):
        moved = (
            by_byte(requantise(graph, node, part, y))[x.view(np.uint8)]
            if _needs_table(graph, node, part)
            else x
        )
        moved = by_clip(moved, part)
        parts.append(np.expand_dims(moved, axis + 1) if node.op == "PACK" else moved)
    clips = max(part.shape[0] for part in parts)
    whole = [np.broadcast_to(part, (clips, *part.shape[1:])) for part in parts]
    return [stacked(np.concatenate(whole, axis=axis + 1), y)]


def _call(graph: Graph, node: Node) -> Call:
    axis, y, parts = _axis(graph, node), output(graph, node), _parts(graph, node)
    rows = product(y.shape[:axis])
    tables = {i: requantise(graph, node, p, y) for i, p in enumerate(parts) if _needs_table(graph, node, p)}
    fields = ", ".join(
        f"{{ {{in{i}}}, {part.bytes // rows}, {f'{{table{i}}}' if i in tables else 0} }}"
        for i, part in enumerate(parts)
    )
    arguments = ("{out0}", str(rows), str(len(parts)), f"(const struct ear_part[]){{ {fields} }}")
    return Call("concatenation", arguments, {f"table{i}": by_byte(table) for i, table in tables.items()})


OPS = (
    Op("CONCATENATION", range(1, 5), _check, _meaning, _call, no_macs, batch=True),
    Op("PACK", range(1, 5), _check, _meaning, _call, no_macs, batch=True),
)
