"""QUANTIZE: int8 to int8 with another scale (a table of 256), float to int8 at the edge of the graph.

As TFLM: x' = requantise(x - zero_in) + zero_out with double rounding; from float, round(x / scale) + zero in
float32. A NaN gives -128.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler.fixed_point import multiply_by_quantised_multiplier, quantise_multiplier, saturate_int8
from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.ops import Call, Op, no_macs, output, per_tensor, refuse, require_dtype, tensor

MAX_SHIFT = 30


def int8_of(graph: Graph, node: Node, value: Tensor) -> tuple[float, int]:
    """Return (scale, zero_point) of an int8 tensor quantised as a whole; ModelError when it is not one."""
    require_dtype(graph, node, value, "int8")
    scale, zero = per_tensor(graph, node, value)
    if not -128 <= zero <= 127:
        what = f"tensor {value.name!r} is int8 with zero-point {zero}"
        raise refuse(graph, node, what, "the file is damaged; quantise the model again")
    return scale, zero


def factor(graph: Graph, node: Node, real: float) -> tuple[int, int]:
    """Return the (multiplier, shift) of a factor between scales; ModelError when 32 bits cannot hold it."""
    multiplier, shift = quantise_multiplier(real)
    if shift > MAX_SHIFT:
        what = f"its scales are out of proportion (factor {real:.3g}, at most {2.0**MAX_SHIFT:.3g})"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    return multiplier, shift


def requantise(graph: Graph, node: Node, source: Tensor, target: Tensor) -> npt.NDArray[np.int8]:
    """Return what each of the values -128..127 of `source` becomes in `target`."""
    scale_in, zero_in = int8_of(graph, node, source)
    scale_out, zero_out = int8_of(graph, node, target)
    x = np.arange(-128, 128) - zero_in
    return saturate_int8(
        multiply_by_quantised_multiplier(x, *factor(graph, node, scale_in / scale_out)) + zero_out
    )


def by_byte(values: Array) -> Array:
    """Return the table for -128..127 in the order of the unsigned byte, as the kernel `table` indexes it."""
    return np.roll(values, -128)


def only_output(graph: Graph, node: Node) -> Tensor:
    """Return the output of a node that has one; ModelError when it has another number."""
    if len(node.outputs) != 1:
        raise refuse(graph, node, f"{len(node.outputs)} outputs", "the file is damaged; export it again")
    return output(graph, node)


def same_shape(graph: Graph, node: Node) -> None:
    """Raise ModelError unless the output has the shape of input 0."""
    x, y = tensor(graph, node, 0), only_output(graph, node)
    if x.shape != y.shape:
        what = f"its output {y.name!r} has shape {y.shape}, its input {x.shape}"
        raise refuse(graph, node, what, "the file is damaged; export it again")


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    x, y = tensor(graph, node, 0), output(graph, node)
    int8_of(graph, node, y)
    require_dtype(graph, node, x, "int8", "float32")
    if x.dtype == "int8":
        requantise(graph, node, x, y)
    elif node.inputs[0] not in graph.inputs:
        what = f"tensor {x.name!r} is float32 in the middle of the model"
        raise refuse(
            graph, node, what, "keep the op before it in int8: quantise it, or write it with ops that can be"
        )


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, y = tensor(graph, node, 0), output(graph, node)
    if x.dtype == "int8":
        return [by_byte(requantise(graph, node, x, y))[inputs[0].view(np.uint8)]]
    scale, zero = per_tensor(graph, node, y)
    steps = np.nan_to_num(inputs[0] / np.float32(scale), nan=-1024.0, posinf=1024.0, neginf=-1024.0)
    steps = np.clip(steps, -1024, 1024)
    whole = np.trunc(steps)
    whole += (steps - whole >= 0.5).astype(np.float32) - (steps - whole <= -0.5).astype(np.float32)
    return [saturate_int8(whole.astype(np.int32) + zero)]


def _call(graph: Graph, node: Node) -> Call:
    x, y = tensor(graph, node, 0), output(graph, node)
    if x.dtype == "int8":
        arguments = ("{in0}", "{out0}", str(x.elements), "{table}")
        return Call("table", arguments, {"table": by_byte(requantise(graph, node, x, y))})
    scale, zero = per_tensor(graph, node, y)
    return Call("quantize", ("{in0}", "{out0}", str(x.elements), f"{float(scale).hex()}f", str(zero)))


OP = Op("QUANTIZE", range(1, 4), _check, _meaning, _call, no_macs, in_place=True, batch=True)
