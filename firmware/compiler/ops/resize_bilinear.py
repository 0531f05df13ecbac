"""RESIZE_BILINEAR of int8, int16 and float32, as TFLM; int16, which TFLM lacks, as LiteRT.

The integer weights are of 10 bits. Scales must not change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, literal, output, refuse, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output
from firmware.compiler.ops.transpose import damaged, integers, moves_bytes

UNIT = 1 << 10
Neighbours = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Array]  # first, second, share of the second


def _whole(size: int, target: int, aligned: bool, half: bool) -> Neighbours:
    """Return the neighbours of each place along one axis with shares in 1/1024."""
    spans = (size - 1, target - 1) if aligned and target > 1 else (size, target)
    scale = (UNIT * spans[0] + spans[1] // 2) // spans[1]
    place = np.arange(target, dtype=np.int64) * scale + (scale // 2 - UNIT // 2 if half else 0)
    first = np.maximum(np.trunc(place / UNIT).astype(np.int64), 0)
    second = np.minimum(np.trunc((place + UNIT - 1) / UNIT).astype(np.int64), size - 1)
    return first.astype(np.int32), second.astype(np.int32), (place - UNIT * first).astype(np.int32)


def _real(size: int, target: int, aligned: bool, half: bool) -> Neighbours:
    """Return the neighbours of each place along one axis with shares in float32."""
    spans = (size - 1, target - 1) if aligned and target > 1 else (size, target)
    scale = np.float32(spans[0]) / np.float32(spans[1])
    shift = np.float32(0.5 if half else 0)
    place = (np.arange(target, dtype=np.float32) + shift) * scale - shift
    first = np.maximum(np.floor(place), 0).astype(np.int32)
    second = np.minimum(np.ceil(place), size - 1).astype(np.int32)
    return first, second, place - first.astype(np.float32)


def _axes(graph: Graph, node: Node) -> tuple[Neighbours, Neighbours]:
    """Return the neighbours of the rows and of the columns."""
    x, y = tensor(graph, node, 0), output(graph, node)
    flags = [bool(node.options.get(name, False)) for name in ("align_corners", "half_pixel_centers")]
    along = _real if x.dtype == "float32" else _whole
    rows, columns = (along(x.shape[i], y.shape[i], *flags) for i in (1, 2))
    return rows, columns


def _check(graph: Graph, node: Node) -> None:
    x, y = tensor(graph, node, 0), only_output(graph, node)
    require_dtype(graph, node, x, "int8", "int16", "float32")
    moves_bytes(graph, node, x, y)
    target = tuple(integers(graph, node, 1, 2))
    if len(x.shape) != 4 or y.shape != (x.shape[0], *target, x.shape[3]):
        raise damaged(graph, node, f"{x.shape} resized to {target} is not {y.shape}")
    if max(*x.shape[1:3], *target) > 1 << 16:
        raise refuse(graph, node, f"{x.shape} is longer than 65536", "resize in parts")
    if node.options.get("align_corners", False) and node.options.get("half_pixel_centers", False):
        raise damaged(graph, node, "align_corners and half_pixel_centers exclude each other")


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    (top, bottom, down), (left, right, across) = _axes(graph, node)
    down, across = down[:, None, None], across[:, None]
    x = inputs[0]
    if x.dtype == np.float32:
        one = np.float32(1)
        real: Array = x[:, top][:, :, left] * (one - down) * (one - across)
        real = real + x[:, bottom][:, :, left] * down * (one - across)
        real = real + x[:, top][:, :, right] * (one - down) * across
        return [real + x[:, bottom][:, :, right] * down * across]
    wide = x.astype(np.int64)
    total = (wide[:, top][:, :, left] * (UNIT - down) + wide[:, bottom][:, :, left] * down) * (UNIT - across)
    total += (wide[:, top][:, :, right] * (UNIT - down) + wide[:, bottom][:, :, right] * down) * across
    rounded = total + np.where(total > 0, 1 << 19, -(1 << 19))
    return [(np.sign(rounded) * (np.abs(rounded) >> 20)).astype(x.dtype)]


def _call(graph: Graph, node: Node) -> Call:
    x, y = tensor(graph, node, 0), output(graph, node)
    constants = {}
    for name, step, (first, second, share) in zip(
        ("rows", "columns"), (x.shape[2], 1), _axes(graph, node), strict=True
    ):
        constants[name] = np.stack([first, second], axis=1) * np.int32(step)
        whole = x.dtype != "float32"
        constants[f"{name}_weights"] = np.stack([UNIT - share, share], axis=1) if whole else share
    sizes = literal(
        "ear_bilinear",
        images=x.shape[0],
        height=x.shape[1],
        width=x.shape[2],
        out_height=y.shape[1],
        out_width=y.shape[2],
        depth=x.shape[3],
    )
    names = ("{rows}", "{rows_weights}", "{columns}", "{columns_weights}")
    function = f"ear_resize_bilinear_{x.dtype}"
    return Call("resize_bilinear", ("{in0}", "{out0}", *names, sizes), constants, function=function)


def _macs(graph: Graph, node: Node) -> int:
    return 4 * output(graph, node).elements


OP = Op("RESIZE_BILINEAR", range(1, 5), _check, _meaning, _call, _macs, batch=True)
