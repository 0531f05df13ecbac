"""PAD and PADV2 (constant values around a tensor), MIRROR_PAD (its mirror image). Any type."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import by_clip, c_list, lead, stacked, strides
from firmware.compiler.ops import (
    Call,
    Op,
    no_macs,
    optional,
    output,
    refuse,
    require_constant,
    require_dtype,
    tensor,
)
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, moves_bytes

OUTER = 4  # axes around the innermost one that the kernels walk
Axis = tuple[int, int, int, int]  # (size, before, after, step), step in elements


def amounts(graph: Graph, node: Node) -> list[tuple[int, int]]:
    """Return (before, after) of each axis."""
    return [(int(a), int(b)) for a, b in require_constant(graph, node, tensor(graph, node, 1))]


def fill(graph: Graph, node: Node) -> int | float | bool:
    """Return the padding value: the third input, or the zero-point, or 0 of a type without one."""
    value, y = optional(graph, node, 2), output(graph, node)
    if value is not None:
        number: int | float | bool = require_constant(graph, node, value).reshape(-1)[0].item()
        return number
    return 0 if y.quantisation is None else int(y.quantisation.zero_point[0])


def _axes(graph: Graph, node: Node) -> list[Axis]:
    """Return the axes without those that are not padded: they belong to the one before them."""
    shape = tensor(graph, node, 0).shape
    axes: list[Axis] = []
    for size, step, around in zip(shape, strides(shape), amounts(graph, node), strict=True):
        if axes and around == (0, 0):
            whole, before, after, _ = axes[-1]
            axes[-1] = (whole * size, before * size, after * size, step)
        else:
            axes.append((size, *around, step))
    return axes


def _check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless the paddings are constant and give the output's shape."""
    x, y, paddings = tensor(graph, node, 0), only_output(graph, node), tensor(graph, node, 1)
    moves_bytes(graph, node, x, y)
    require_dtype(graph, node, paddings, "int32", "int64")
    around = require_constant(graph, node, paddings)
    if around.shape != (len(x.shape), 2) or (around < 0).any() or (around > 1 << 20).any():
        raise damaged(graph, node, f"paddings {around.tolist()} of {x.shape}")
    if y.shape != tuple(int(n + sum(p)) for n, p in zip(x.shape, around, strict=True)):
        raise damaged(graph, node, f"shapes {x.shape} → {y.shape}")
    if len(_axes(graph, node)) > OUTER + 1:
        raise refuse(graph, node, f"it pads more than {OUTER + 1} axes", "pad in two steps")
    value = optional(graph, node, 2)
    if value is not None:
        require_dtype(graph, node, value, x.dtype)
        if require_constant(graph, node, value).size != 1:
            raise damaged(graph, node, f"its value has shape {value.shape}")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x = by_clip(inputs[0], tensor(graph, node, 0))
    padded = np.pad(x, [(0, 0), *amounts(graph, node)], constant_values=fill(graph, node))
    return [stacked(padded, output(graph, node))]


def _call(graph: Graph, node: Node) -> Call:
    item = np.dtype(output(graph, node).dtype).itemsize
    *outer, (run, before, after, _) = _axes(graph, node) or [(1, 0, 0, 1)]
    value = np.array([fill(graph, node)], output(graph, node).dtype).view(np.uint8)
    words = np.concatenate([value, np.zeros(8 - value.size, np.uint8)]).view(np.uint32)
    loops = ", ".join(
        f".{name} = {c_list(lead((axis[i] for axis in outer), OUTER, filler))}"
        for i, (name, filler) in enumerate((("size", 1), ("before", 0), ("after", 0)))
    )
    inner = f".run = {run * item}, .run_before = {before * item}, .run_after = {after * item}"
    single = len(set(value.tolist())) == 1
    filled = f".value = {{ {words[0]}u, {words[1]}u }}, .item = {1 if single else item}"
    return Call("pad", (f"(struct ear_pad){{ {loops}, {inner}, {filled} }}", "{in0}", "{out0}"))


def _edge(node: Node) -> int:
    """Return 1 when the mirror image begins with the edge itself."""
    return int(node.options.get("mode", "REFLECT") == "SYMMETRIC")


def _mirror_axes(graph: Graph, node: Node) -> tuple[list[Axis], int]:
    """Return (axes with a padding, and what lies before the first of them; elements of one place)."""
    shape = tensor(graph, node, 0).shape
    axes: list[Axis] = []
    for size, step, around in zip(shape, strides(shape), amounts(graph, node), strict=True):
        unpadded = around == (0, 0)
        if axes and unpadded and axes[-1][1:3] == (0, 0):
            axes[-1] = (axes[-1][0] * size, 0, 0, step)
        else:
            axes.append((size, *around, step))
    run = 1
    if len(axes) > 1 and axes[-1][1:3] == (0, 0):
        run = axes.pop()[0]
    return axes or [(1, 0, 0, 1)], run


def _check_mirror(graph: Graph, node: Node) -> None:
    _check(graph, node)
    sizes = zip(tensor(graph, node, 0).shape, amounts(graph, node), strict=True)
    if any(max(around) > size - 1 + _edge(node) for size, around in sizes):
        raise damaged(graph, node, f"paddings {amounts(graph, node)} are longer than their mirror image")
    if len(_mirror_axes(graph, node)[0]) > OUTER:
        raise refuse(graph, node, f"it pads more than {OUTER} axes", "pad in two steps")


def _mirrored(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x = by_clip(inputs[0], tensor(graph, node, 0))
    mode = "symmetric" if _edge(node) else "reflect"
    return [stacked(np.pad(x, [(0, 0), *amounts(graph, node)], mode=mode), output(graph, node))]  # type: ignore[call-overload]


def _call_mirror(graph: Graph, node: Node) -> Call:
    item = np.dtype(output(graph, node).dtype).itemsize
    axes, run = _mirror_axes(graph, node)
    loops = ", ".join(
        f".{name} = {c_list(lead((axis[i] * scale for axis in axes), OUTER, filler))}"
        for i, (name, filler, scale) in enumerate(
            (("size", 1, 1), ("before", 0, 1), ("after", 0, 1), ("step", 0, item))
        )
    )
    parameters = f"(struct ear_mirror){{ {loops}, .run = {run * item}, .edge = {_edge(node)} }}"
    return Call("mirror_pad", ("{in0}", "{out0}", parameters))


OPS = (
    Op("PAD", range(1, 5), _check, _meaning, _call, no_macs, batch=True),
    Op("PADV2", range(1, 5), _check, _meaning, _call, no_macs, batch=True),
    Op("MIRROR_PAD", range(1, 4), _check_mirror, _mirrored, _call_mirror, no_macs, batch=True),
)
