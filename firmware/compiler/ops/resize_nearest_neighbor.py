"""RESIZE_NEAREST_NEIGHBOR: chosen rows, then chosen columns. Any type; scales must not change.

The nearest neighbour is worked out in float32 as TFLM does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import product
from firmware.compiler.ops import Call, Op, no_macs, output, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, integers, moves_bytes

Indices = npt.NDArray[np.int32]


def _nearest(size: int, target: int, align_corners: bool, half_pixel_centers: bool) -> Indices:
    """Return for each of `target` places the nearest of `size`."""
    spans = (size - 1, target - 1) if align_corners and target > 1 else (size, target)
    scale = np.float32(spans[0]) / np.float32(spans[1])
    place = (np.arange(target, dtype=np.float32) + np.float32(0.5 if half_pixel_centers else 0)) * scale
    whole = np.floor(place.astype(np.float64) + 0.5) if align_corners else np.floor(place)
    return np.clip(whole, 0, size - 1).astype(np.int32)


def _grid(graph: Graph, node: Node) -> tuple[Indices, Indices]:
    """Return the chosen rows and columns."""
    _, *sizes, _ = tensor(graph, node, 0).shape
    _, *targets, _ = output(graph, node).shape
    flags = [bool(node.options.get(name, False)) for name in ("align_corners", "half_pixel_centers")]
    rows, columns = (_nearest(size, target, *flags) for size, target in zip(sizes, targets, strict=True))
    return rows, columns


def _check(graph: Graph, node: Node) -> None:
    x, y = tensor(graph, node, 0), only_output(graph, node)
    moves_bytes(graph, node, x, y)
    target = tuple(integers(graph, node, 1, 2))
    if len(x.shape) != 4 or y.shape != (x.shape[0], *target, x.shape[3]):
        raise damaged(graph, node, f"{x.shape} resized to {target} is not {y.shape}")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    rows, columns = _grid(graph, node)
    return [np.ascontiguousarray(inputs[0][:, rows][:, :, columns])]


def _call(graph: Graph, node: Node) -> Call:
    x, (rows, columns) = tensor(graph, node, 0), _grid(graph, node)
    run = x.bytes // product(x.shape[:3])
    sizes = (x.shape[0], x.shape[1], x.shape[2], rows.size, columns.size, run)
    arguments = ("{in0}", "{out0}", "{rows}", "{columns}", *(str(size) for size in sizes))
    return Call("resize_nearest_neighbor", arguments, {"rows": rows, "columns": columns})


OP = Op("RESIZE_NEAREST_NEIGHBOR", range(1, 5), _check, _meaning, _call, no_macs, batch=True)
