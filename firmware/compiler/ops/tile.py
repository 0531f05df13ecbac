"""BROADCAST_TO, TILE, FILL, REVERSE_V2, DEPTH_TO_SPACE and SPACE_TO_DEPTH: strides that repeat, turn, split.

Any type. TILE is not in TFLM: LiteRT is followed.
"""

from __future__ import annotations

from firmware.compiler.graph import Graph, Node
from firmware.compiler.operands import broadcast_strides, positive_axis, spans, strides
from firmware.compiler.ops import output, require_integers, tensor
from firmware.compiler.ops.transpose import View, damaged, integers, view_op


def _broadcast_to(graph: Graph, node: Node) -> View:
    x, y = tensor(graph, node, 0), output(graph, node)
    target = tuple(integers(graph, node, 1, len(y.shape)))
    if target != y.shape or not spans(target, x.shape, target):
        raise damaged(graph, node, f"{x.shape} broadcast to {target} is not {y.shape}")
    return View(0, target, broadcast_strides(x.shape, target))


def _fill(graph: Graph, node: Node) -> View:
    value, y = tensor(graph, node, 1), output(graph, node)
    sizes = tuple(integers(graph, node, 0, len(y.shape)))
    if value.elements != 1:
        raise damaged(graph, node, f"its value has shape {value.shape}")
    return View(0, sizes, (0,) * len(sizes))


def _tile(graph: Graph, node: Node) -> View:
    shape = tensor(graph, node, 0).shape
    times = integers(graph, node, 1, len(shape))
    if min(times, default=1) < 1:
        raise damaged(graph, node, f"it repeats {times} times")
    own = strides(shape)
    sizes = tuple(size for pair in zip(times, shape, strict=True) for size in pair)
    steps = tuple(step for inner in own for step in (0, inner))
    return View(0, sizes, steps, tuple(n * size for n, size in zip(times, shape, strict=True)))


def _reverse(graph: Graph, node: Node) -> View:
    shape = tensor(graph, node, 0).shape
    given = require_integers(graph, node, 1)
    axes = [positive_axis(axis, len(shape)) for axis in given]
    if None in axes or len(set(axes)) < len(axes):
        raise damaged(graph, node, f"axes {given} of {shape}")
    own = strides(shape)
    turned = tuple(-step if axis in axes else step for axis, step in enumerate(own))
    start = sum((shape[axis] - 1) * own[axis] for axis in axes if axis is not None)
    return View(start, shape, turned)


def _block(graph: Graph, node: Node) -> tuple[tuple[int, ...], int]:
    """Return (shape of the input, block size)."""
    shape, block = tensor(graph, node, 0).shape, int(node.options.get("block_size", 0))
    if len(shape) != 4 or not 1 <= block <= 1 << 12:
        raise damaged(graph, node, f"blocks of {block} of a tensor with shape {shape}")
    return shape, block


def _depth_to_space(graph: Graph, node: Node) -> View:
    (images, rows, columns, depth), block = _block(graph, node)
    if depth % (block * block):
        raise damaged(graph, node, f"{depth} channels are not blocks of {block} x {block}")
    inner = depth // (block * block)
    return View(
        0,
        (images * rows, block, columns, block, inner),
        (columns * depth, block * inner, depth, inner, 1),
        (images, rows * block, columns * block, inner),
    )


def _space_to_depth(graph: Graph, node: Node) -> View:
    (images, rows, columns, depth), block = _block(graph, node)
    if rows % block or columns % block:
        raise damaged(graph, node, f"{rows} x {columns} is not made of blocks of {block} x {block}")
    row = columns * depth
    return View(
        0,
        (images * rows // block, columns // block, block, block, depth),
        (block * row, block * depth, row, depth, 1),
        (images, rows // block, columns // block, block * block * depth),
    )


OPS = (
    view_op("BROADCAST_TO", 3, _broadcast_to),
    view_op("FILL", 4, _fill, source=1),
    view_op("TILE", 3, _tile),
    view_op("REVERSE_V2", 3, _reverse),
    view_op("DEPTH_TO_SPACE", 2, _depth_to_space),
    view_op("SPACE_TO_DEPTH", 2, _space_to_depth),
)
