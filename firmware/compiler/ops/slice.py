"""SLICE and STRIDED_SLICE with all its masks. Any type; the ranges are constants.

TFLM has neither ellipsis, new axis nor offset: LiteRT is followed there, but for an ellipsis that stands for
no axis, which LiteRT takes for a range.
"""

from __future__ import annotations

from firmware.compiler.graph import Graph, Node
from firmware.compiler.operands import strides
from firmware.compiler.ops import refuse, require_constant, tensor
from firmware.compiler.ops.transpose import View, damaged, integers, view_op

MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")


def _slice(graph: Graph, node: Node) -> View:
    shape = tensor(graph, node, 0).shape
    begin, size = (integers(graph, node, position, len(shape)) for position in (1, 2))
    size = [
        whole - first if count == -1 else count
        for first, count, whole in zip(begin, size, shape, strict=True)
    ]
    for first, count, whole in zip(begin, size, shape, strict=True):
        if not (first >= 0 and 0 < count <= whole - first):
            raise damaged(graph, node, f"it takes {size} from {begin} of a tensor with shape {shape}")
    own = strides(shape)
    return View(sum(b * s for b, s in zip(begin, own, strict=True)), tuple(size), own)


def _entries(graph: Graph, node: Node) -> list[int | None]:
    """Return each axis' entry of begin, end and stride, None for all of the axis, below 0 for a new one.

    An ellipsis stands for the axes that the other entries leave over; axes after the last entry are whole.
    """
    rank = len(tensor(graph, node, 0).shape)
    count = require_constant(graph, node, tensor(graph, node, 1)).size
    whole, new = (int(node.options.get(f"{name}_mask", 0)) for name in ("ellipsis", "new_axis"))
    if node.options.get("offset", False) and whole | new:
        raise refuse(graph, node, "offset with an ellipsis or a new axis", "write one range for each axis")
    dots = [i for i in range(count) if whole >> i & 1]
    used = sum(not (whole | new) >> i & 1 for i in range(count))
    if len(dots) > 1 or used > rank:
        raise damaged(graph, node, f"{used} ranges and {len(dots)} ellipses of a tensor of rank {rank}")
    entries: list[int | None] = []
    for i in range(count):
        if i in dots:
            entries += [None] * (rank - used)
        else:
            entries.append(-1 - i if new >> i & 1 else i)
    return entries if dots else entries + [None] * (rank - used)


def _indices(graph: Graph, node: Node, entry: int, size: int) -> range:
    """Return the indices that an entry takes of an axis of this size."""
    count = require_constant(graph, node, tensor(graph, node, 1)).size
    first, last, step = (integers(graph, node, position, count)[entry] for position in (1, 2, 3))
    opened = {name: bool(int(node.options.get(f"{name}_mask", 0)) >> entry & 1) for name in MASKS}
    if step == 0 or (opened["shrink_axis"] and step < 0):
        raise damaged(graph, node, f"stride {step} of range {entry}")
    if opened["shrink_axis"]:
        first = 0 if opened["begin"] else first
        indices = range(first % size, first % size + 1) if -size <= first < size else range(0)
    elif node.options.get("offset", False):  # `last` counts from `first`, and its mask says nothing
        first = 0 if opened["begin"] else first % size
        indices = range(size)[first : first + last : step]
    else:
        indices = range(size)[
            slice(None if opened["begin"] else first, None if opened["end"] else last, step)
        ]
    if not indices:
        raise damaged(graph, node, f"range {entry} takes nothing of {size} in {tensor(graph, node, 0).shape}")
    return indices


def _strided_slice(graph: Graph, node: Node) -> View:
    shape = tensor(graph, node, 0).shape
    shrink = int(node.options.get("shrink_axis_mask", 0))
    taken: list[range] = []
    result: list[int] = []
    for entry in _entries(graph, node):
        if entry is not None and entry < 0:
            result.append(1)
            continue
        size = shape[len(taken)]
        taken.append(range(size) if entry is None else _indices(graph, node, entry, size))
        if entry is None or not shrink >> entry & 1:
            result.append(len(taken[-1]))
    own = strides(shape)
    return View(
        sum(indices.start * step for indices, step in zip(taken, own, strict=True)),
        tuple(len(indices) for indices in taken),
        tuple(indices.step * step for indices, step in zip(taken, own, strict=True)),
        tuple(result),
    )


def view(graph: Graph, node: Node) -> View:
    """Return what a SLICE or STRIDED_SLICE takes of its input, axis by axis."""
    return (_slice if node.op == "SLICE" else _strided_slice)(graph, node)


OPS = (view_op("SLICE", 6, _slice), view_op("STRIDED_SLICE", 8, _strided_slice))
