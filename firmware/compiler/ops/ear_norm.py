"""EAR_NORM: layer, RMS, group and instance normalisation of int8 in one kernel, from whole sums.

y = (x - mean) / sqrt(variance + epsilon) * gamma + beta, or without the mean (RMS). x is (outer, rows,
groups, depth): statistics are over rows and depth, gamma and beta over groups and depth. With n values, S
their sum and Q the sum of their squares, d = n x - S and 1 / sqrt(n Q - S^2 + epsilon n^2) are worked out in
integers (the root to 26 bits), so that only the last step rounds to 8 bits. Made by passes.norms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firmware.compiler.fixed_point import saturate_int8
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import Call, Op, literal, output, refuse, require_constant, tensor
from firmware.compiler.ops.quantize import int8_of, same_shape

MAX_COUNT = 1 << 15  # values of one mean: 255 n stays below 2**23
FRACTION = 20  # bits behind the point of a normalised value, which is at most sqrt(n)
FINEST = 20  # bits behind the point of an output, at most
EXTRA = 16  # bits that a sum of squares may be shifted up for a finer epsilon
WIDEST = 61  # bits of the sum under the root

Wide = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Numbers:
    """The constants of the kernel."""

    zero: int
    count: int
    finer: int  # the sum under the root is shifted up by this, an even number
    epsilon: int  # in units of that sum
    gain: npt.NDArray[np.int32]  # per channel: round(gamma / output scale * 2**exponent)
    offset: npt.NDArray[np.int32]  # per channel: beta, zero-point and rounding, `down` bits up
    down: int


def _sizes(node: Node) -> tuple[int, int, int, int]:
    outer, rows, groups, depth = (int(node.options[name]) for name in ("outer", "rows", "groups", "depth"))
    return outer, rows, groups, depth


def _numbers(graph: Graph, node: Node) -> _Numbers:
    scale, zero = int8_of(graph, node, tensor(graph, node, 0))
    scale_y, zero_y = int8_of(graph, node, output(graph, node))
    _, rows, _, depth = _sizes(node)
    count = rows * depth
    epsilon = float(node.options["epsilon"]) * count**2 / scale**2
    most = count**2 * 255**2 + epsilon
    finer = min(EXTRA, max(0, WIDEST - math.frexp(most)[1])) & ~1
    gamma, beta = (require_constant(graph, node, tensor(graph, node, i)).astype(np.float64) for i in (1, 2))
    greatest = max(float(np.abs(gamma).max()) / scale_y, 1e-30)
    largest = float(np.abs(beta / scale_y + zero_y).max()) + 1
    exponent = min(30 - math.frexp(greatest)[1] + 1, FINEST + 31 - FRACTION)
    exponent = min(exponent, 31 - FRACTION + 29 - math.frexp(largest)[1])
    down = FRACTION + exponent - 31
    if down < 4 or most >= 2.0**WIDEST:
        what = f"its scales {scale:.3g} and {scale_y:.3g} are out of proportion"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    gain = np.clip(np.rint(gamma / scale_y * 2.0**exponent), -(2**31), 2**31 - 1).astype(np.int32)
    offset = np.rint((beta / scale_y + zero_y) * 2.0**down).astype(np.int64) + (1 << (down - 1))
    return _Numbers(zero, count, finer, round(epsilon * 2**finer), gain, offset.astype(np.int32), down)


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    outer, rows, groups, depth = _sizes(node)
    wrong = outer * rows * groups * depth != tensor(graph, node, 0).elements or rows * depth > MAX_COUNT
    if wrong or any(tensor(graph, node, i).elements != groups * depth for i in (1, 2)):
        what = f"means over {rows} x {depth} values of {tensor(graph, node, 0).shape}"
        raise refuse(graph, node, what, f"keep them to {MAX_COUNT} values")
    _numbers(graph, node)


def inverse_root(total: Wide) -> tuple[Wide, Wide]:
    """Return (X, e) with 1 / sqrt(total) = X * 2**e nearly, X in 2**30..2**31 - 1; total in 1..2**62."""
    bits = np.frexp(total.astype(np.float64))[1].astype(np.int64)  # of total, or one more if it rounds up
    bits -= total >> (bits - 1) == 0
    shift = (64 - bits) & ~1
    w = np.where(shift >= 32, total << np.maximum(shift - 32, 0), total >> np.maximum(32 - shift, 0))
    x = (np.int64(9) << 28) - (w >> 2) - (w >> 4)
    for _ in range(4):
        square = (((x * x) >> 32) * w) >> 32
        x = ((x * ((np.int64(3) << 28) - square)) >> 32) << 3
    return np.minimum(x, (1 << 31) - 1), -62 + (shift >> 1)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p = _numbers(graph, node)
    _, rows, groups, depth = _sizes(node)
    x = inputs[0].astype(np.int64).reshape(-1, rows, groups, depth) - p.zero
    total = x.sum(axis=(1, 3), keepdims=True) if node.options["centred"] else np.zeros_like(x[:, :1, :, :1])
    squares = np.square(x).sum(axis=(1, 3), keepdims=True)
    under = ((p.count * squares - total * total) << p.finer) + p.epsilon
    root, power = inverse_root(np.maximum(under, 1))
    away = -(power + p.finer // 2) - FRACTION
    normal = ((p.count * x - total) * root + (np.int64(1) << (away - 1))) >> away
    scaled = (2 * normal * p.gain.reshape(groups, depth) + (np.int64(1) << 31)) >> 32
    y = (scaled + p.offset.reshape(groups, depth)) >> p.down
    return [saturate_int8(y).reshape(inputs[0].shape)]


def _call(graph: Graph, node: Node) -> Call:
    p = _numbers(graph, node)
    outer, rows, groups, depth = _sizes(node)
    shape = literal("ear_norm", outer=outer, rows=rows, groups=groups, depth=depth, zero=p.zero,
                    centred=int(bool(node.options["centred"])), finer=p.finer, down=p.down)  # fmt: skip
    arguments = ("{in0}", "{out0}", "{gain}", "{offset}", shape, f"INT64_C({p.epsilon})")
    return Call("norm", arguments, {"gain": p.gain.reshape(-1), "offset": p.offset.reshape(-1)})


def _macs(graph: Graph, node: Node) -> int:
    return 3 * tensor(graph, node, 0).elements


OP = Op("EAR_NORM", range(1, 2), _check, _meaning, _call, _macs, in_place=True, batch=True)
