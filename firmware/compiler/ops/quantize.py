"""QUANTIZE: int8 to int8 with another scale (a table of 256), among int8, int16 and int32, and float to int8
or int16 behind a float island or at the edge of the graph.

As TFLM: x' = requantise(x - zero_in) + zero_out with double rounding; from float, round(x / scale) + zero in
float32. A NaN gives -128.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firmware.compiler.fixed_point import (
    RANGES,
    multiply_by_quantised_multiplier,
    quantise_multiplier,
    saturate,
    saturate_int8,
)
from firmware.compiler.graph import Array, Graph, Node, Tensor
from firmware.compiler.int16_unary import Piecewise
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


def quantised(graph: Graph, node: Node, value: Tensor) -> tuple[float, int]:
    """Return (scale, zero_point) of an int8 tensor, or of an int16 one, whose zero-point must be 0."""
    if value.dtype != "int16":
        require_dtype(graph, node, value, "int8", "int16")
        return int8_of(graph, node, value)
    scale, zero = per_tensor(graph, node, value)
    if zero:
        what = f"tensor {value.name!r} is int16 with zero-point {zero}"
        raise refuse(graph, node, what, "quantise int16 activations symmetrically")
    return scale, 0


def same_dtype(graph: Graph, node: Node, *values: Tensor) -> str:
    """Return the one type of several tensors, int8 or int16; ModelError when they differ."""
    for value in values:
        quantised(graph, node, value)
        require_dtype(graph, node, value, values[0].dtype)
    return values[0].dtype


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


# What QUANTIZE makes of each type.
TARGETS = {
    "float32": ("int8", "int16"),
    "int8": ("int8", "int16", "int32"),
    "int16": ("int8", "int16", "int32"),
    "int32": ("int8", "int16"),
}
STEPS = {"int8": 1024, "int16": 70000}  # from zero, beyond which a float saturates for any zero-point


def _requantiser(graph: Graph, node: Node, x: Tensor, y: Tensor) -> Piecewise:
    """Return the change of scale between two integer types."""
    (source, zero_in), (target, zero_out) = (
        per_tensor(graph, node, v) if v.dtype == "int32" else quantised(graph, node, v) for v in (x, y)
    )
    both = factor(graph, node, source / target)
    return Piecewise(both, both, *RANGES[y.dtype], zero_in=zero_in, zero_out=zero_out)


def _check(graph: Graph, node: Node) -> None:
    same_shape(graph, node)
    x, y = tensor(graph, node, 0), output(graph, node)
    require_dtype(graph, node, x, *TARGETS)
    require_dtype(graph, node, y, *TARGETS[x.dtype])
    if x.dtype == "float32":
        quantised(graph, node, y)
    else:
        _requantiser(graph, node, x, y)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, y = tensor(graph, node, 0), output(graph, node)
    if x.dtype == y.dtype == "int8":
        return [by_byte(requantise(graph, node, x, y))[inputs[0].view(np.uint8)]]
    if x.dtype != "float32":
        return [_requantiser(graph, node, x, y).meaning(inputs[0], y.dtype)]
    scale, zero = per_tensor(graph, node, y)
    most = STEPS[y.dtype]
    steps = np.nan_to_num(inputs[0] / np.float32(scale), nan=-most, posinf=most, neginf=-most)
    steps = np.clip(steps, -most, most)
    whole = np.trunc(steps)
    whole += (steps - whole >= 0.5).astype(np.float32) - (steps - whole <= -0.5).astype(np.float32)
    return [saturate(whole.astype(np.int32) + zero, y.dtype)]


def _call(graph: Graph, node: Node) -> Call:
    x, y = tensor(graph, node, 0), output(graph, node)
    if x.dtype == y.dtype == "int8":
        arguments = ("{in0}", "{out0}", str(x.elements), "{table}")
        return Call("table", arguments, {"table": by_byte(requantise(graph, node, x, y))})
    if x.dtype != "float32":
        return _requantiser(graph, node, x, y).call(x.elements, x.dtype, y.dtype)
    scale, zero = per_tensor(graph, node, y)
    width = np.dtype(y.dtype).itemsize
    places = (str(x.elements), f"{float(scale).hex()}f", str(zero), str(width))
    return Call("quantize", ("{in0}", "{out0}", *places))


OP = Op("QUANTIZE", range(1, 4), _check, _meaning, _call, no_macs, batch=True)
