"""SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND of one or two spatial axes: converters' dilation. Any type.

The border is the zero-point, as in LiteRT; TFLM fills it with memory that it never set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.operands import c_list, product
from firmware.compiler.ops import Call, Op, no_macs, output, refuse, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, integers, moves_bytes


@dataclass(frozen=True)
class Blocks:
    """A tensor (images, rows, columns, depth) and how it is dealt out to block[0] * block[1] parts."""

    whole: tuple[int, int, int, int]
    block: tuple[int, int]
    around: tuple[tuple[int, int], tuple[int, int]]  # border (before, after) of rows and of columns

    @property
    def part(self) -> tuple[int, int]:
        """Return (rows, columns) of each part."""
        rows, columns = (
            (size + sum(around)) // block
            for size, around, block in zip(self.whole[1:3], self.around, self.block, strict=True)
        )
        return rows, columns


def _planes(value: Tensor) -> tuple[int, ...]:
    """Return (images, rows, columns, depth) of a tensor of rank 3 or 4."""
    return value.shape if len(value.shape) == 4 else (value.shape[0], value.shape[1], 1, *value.shape[2:])


def _blocks(graph: Graph, node: Node) -> Blocks:
    x, y = tensor(graph, node, 0), only_output(graph, node)
    spatial = len(x.shape) - 2
    if spatial not in (1, 2) or len(y.shape) != len(x.shape):
        cure = "reshape it to (batch, rows, columns, channels)"
        raise refuse(graph, node, f"shapes {x.shape} → {y.shape} have not one or two spatial axes", cure)
    block = integers(graph, node, 1, spatial)
    around = integers(graph, node, 2, 2 * spatial)
    if min(block) < 1 or min(around) < 0 or max(around) > 1 << 20:
        raise damaged(graph, node, f"blocks {block} with a border {around}")
    pairs = [(around[i], around[i + 1]) for i in range(0, len(around), 2)]
    spread, parts = (x, y) if node.op == "SPACE_TO_BATCH_ND" else (y, x)
    images, rows, columns, depth = _planes(spread)
    made = Blocks(
        (images, rows, columns, depth),
        (block[0], block[1] if spatial == 2 else 1),
        (pairs[0], pairs[1] if spatial == 2 else (0, 0)),
    )
    wanted = (images * product(made.block), *made.part, depth)
    exact = all(
        (size + sum(edge)) % step == 0
        for size, edge, step in zip((rows, columns), made.around, made.block, strict=True)
    )
    if _planes(parts) != wanted or not exact:
        raise damaged(graph, node, f"{x.shape} in blocks {block} with a border {pairs} is not {y.shape}")
    return made


def _check(graph: Graph, node: Node) -> None:
    moves_bytes(graph, node, tensor(graph, node, 0), only_output(graph, node))
    _blocks(graph, node)


def _zero(graph: Graph, node: Node) -> int:
    q = output(graph, node).quantisation
    return 0 if q is None else int(q.zero_point[0])


def _to_batch(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    s = _blocks(graph, node)
    images, _, _, depth = s.whole
    padded = np.pad(
        inputs[0].reshape(s.whole), [(0, 0), *s.around, (0, 0)], constant_values=_zero(graph, node)
    )
    cut = padded.reshape(images, s.part[0], s.block[0], s.part[1], s.block[1], depth)
    return [np.ascontiguousarray(cut.transpose(2, 4, 0, 1, 3, 5)).reshape(output(graph, node).shape)]


def _to_space(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    s = _blocks(graph, node)
    images, rows, columns, depth = s.whole
    cut = inputs[0].reshape(*s.block, images, *s.part, depth).transpose(2, 3, 0, 4, 1, 5)
    (top, _), (left, _) = s.around
    whole = cut.reshape(images, s.part[0] * s.block[0], s.part[1] * s.block[1], depth)
    cropped = whole[:, top : top + rows, left : left + columns]
    return [np.ascontiguousarray(cropped).reshape(output(graph, node).shape)]


def _call(graph: Graph, node: Node) -> Call:
    s, item = _blocks(graph, node), np.dtype(output(graph, node).dtype).itemsize
    images, rows, columns, depth = s.whole
    fields = {"images": images, "rows": rows, "columns": columns}
    fields |= {"part_rows": s.part[0], "part_columns": s.part[1], "run": depth * item}
    fields["value"] = _zero(graph, node) & 0xFF if item == 1 else 0
    lists = {"block": s.block, "before": tuple(edge[0] for edge in s.around)}
    text = ", ".join(
        [*(f".{n} = {v}" for n, v in fields.items()), *(f".{n} = {c_list(v)}" for n, v in lists.items())]
    )
    function = "ear_space_to_batch" if node.op == "SPACE_TO_BATCH_ND" else "ear_batch_to_space"
    return Call("space_to_batch", ("{in0}", "{out0}", f"(struct ear_blocks){{ {text} }}"), function=function)


OPS = (
    Op("SPACE_TO_BATCH_ND", range(1, 5), _check, _to_batch, _call, no_macs),
    Op("BATCH_TO_SPACE_ND", range(1, 5), _check, _to_space, _call, no_macs),
)
