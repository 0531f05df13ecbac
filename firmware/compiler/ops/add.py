"""ADD and SUB with broadcasting, and the rules that every op of two int8 or two int16 inputs keeps.

As TFLM: both inputs are brought to twice the larger scale with 20 more bits (int16: 15), added, and brought
to the scale of the output, with factors worked out in double.

ADD, SUB, MUL, MAXIMUM and MINIMUM also take int32 without a scale, such as indices. Sums and products wrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from firmware.compiler.fixed_point import (
    activation_range,
    multiply_by_quantised_multiplier,
    quantise_multiplier,
    saturate,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import (
    MAX_AXES,
    broadcast_strides,
    by_clip,
    c_list,
    lead,
    merge,
    spans,
    stacked,
)
from firmware.compiler.ops import Call, Op, literal, no_macs, output, refuse, require_dtype, tensor
from firmware.compiler.ops.quantize import only_output, quantised, same_dtype

LEFT_SHIFT = {"int8": 20, "int16": 15}
INTEGERS: Mapping[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
}


def check_pair(graph: Graph, node: Node) -> None:
    """Raise ModelError unless two inputs of a type broadcast to an output of it in at most MAX_AXES loops."""
    same_dtype(graph, node, tensor(graph, node, 0), tensor(graph, node, 1), only_output(graph, node))
    check_broadcast(graph, node)


def check_broadcast(graph: Graph, node: Node) -> None:
    """Raise ModelError unless two inputs broadcast to the output in at most MAX_AXES loops."""
    a, b, y = tensor(graph, node, 0), tensor(graph, node, 1), only_output(graph, node)
    if not spans(y.shape, a.shape, b.shape):
        what = f"shapes {a.shape} and {b.shape} do not give {y.shape}"
        raise refuse(graph, node, what, "reshape one of them so that each axis is equal or 1")
    if len(_loops(graph, node)[0]) > MAX_AXES:
        what = f"broadcasting {a.shape} with {b.shape} takes more than {MAX_AXES} loops"
        raise refuse(graph, node, what, "reshape both to fewer axes")


def clamp(graph: Graph, node: Node) -> tuple[int, int]:
    """Return the (low, high) clamp of the fused activation; ModelError for one that is not a clamp."""
    activation = node.options.get("fused_activation_function", "NONE")
    try:
        y = output(graph, node)
        return activation_range(activation, *quantised(graph, node, y), y.dtype)
    except KeyError:
        raise refuse(
            graph, node, f"the fused activation {activation} is not a clamp", "make it an op"
        ) from None


def pair(graph: Graph, node: Node, inputs: Sequence[Array]) -> tuple[Array, Array]:
    """Return both inputs without their zero-points as int64 (clips, ...), ready for numpy to broadcast."""
    rank = len(output(graph, node).shape)
    values = (tensor(graph, node, 0), tensor(graph, node, 1))
    a, b = (
        by_clip(x, value, rank).astype(np.int64) - quantised(graph, node, value)[1]
        for x, value in zip(inputs, values, strict=True)
    )
    return a, b


def call_pair(graph: Graph, node: Node, kernel: str, parameters: str) -> Call:
    """Return the call of an elementwise kernel with two inputs."""
    sizes, a, b = _loops(graph, node)
    loops = ", ".join(
        f".{name} = {c_list(lead(values, MAX_AXES, filler))}"
        for name, values, filler in (("size", sizes, 1), ("a", a, 0), ("b", b, 0))
    )
    return Call(kernel, ("{in0}", "{in1}", "{out0}", f"(struct ear_broadcast){{ {loops} }}", parameters))


def _loops(graph: Graph, node: Node) -> tuple[tuple[int, ...], ...]:
    a, b, y = tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node)
    return merge(y.shape, broadcast_strides(a.shape, y.shape), broadcast_strides(b.shape, y.shape))


def twice_the_larger(graph: Graph, node: Node) -> float:
    """Return the scale to which both inputs are brought."""
    return 2.0 * max(quantised(graph, node, tensor(graph, node, index))[0] for index in (0, 1))


def factors_of_pair(
    graph: Graph, node: Node, left: int, y: tuple[int, int], limits: tuple[int, int]
) -> dict[str, int]:
    """Return what a kernel needs to bring both inputs to twice the larger scale with `left` more bits.

    `y` is the multiplier and shift that bring what it makes of them to the output, `limits` the clamp there.
    """
    values = (tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node))
    (scale_a, zero_a), (scale_b, zero_b), (_, zero_y) = (quantised(graph, node, v) for v in values)
    twice = twice_the_larger(graph, node)
    a, b = quantise_multiplier(scale_a / twice), quantise_multiplier(scale_b / twice)
    return {
        "zero_a": zero_a,
        "zero_b": zero_b,
        "zero_y": zero_y,
        "multiplier_a": a[0],
        "shift_a": a[1],
        "multiplier_b": b[0],
        "shift_b": b[1],
        "multiplier_y": y[0],
        "shift_y": y[1],
        "width": np.dtype(values[0].dtype).itemsize,
        "left": left,
        "low": limits[0],
        "high": limits[1],
    }


def brought(
    graph: Graph, node: Node, inputs: Sequence[Array], factors: Mapping[str, int]
) -> tuple[Array, Array]:
    """Return both inputs at twice the larger scale, as int64 (clips, ...)."""
    a, b = (
        multiply_by_quantised_multiplier(
            x << factors["left"], factors[f"multiplier_{name}"], factors[f"shift_{name}"]
        )
        for x, name in zip(pair(graph, node, inputs), "ab", strict=True)
    )
    return a, b


def _factors(graph: Graph, node: Node) -> dict[str, int]:
    y, left = output(graph, node), LEFT_SHIFT[output(graph, node).dtype]
    twice, (scale, _) = twice_the_larger(graph, node), quantised(graph, node, y)
    multiplier, shift = quantise_multiplier(twice / ((1 << left) * scale))
    if shift > 0:
        a, b = (quantised(graph, node, tensor(graph, node, index))[0] for index in (0, 1))
        what = f"the output's scale {scale:.3g} is too fine for inputs of {a:.3g} and {b:.3g}"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    found = factors_of_pair(graph, node, left, (multiplier, shift), clamp(graph, node))
    return {**found, "minus": int(node.op == "SUB")}


def _check(graph: Graph, node: Node) -> None:
    check_pair(graph, node)
    _factors(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    p = _factors(graph, node)
    a, b = brought(graph, node, inputs, p)
    total = a - b if p["minus"] else a + b
    scaled = multiply_by_quantised_multiplier(total, p["multiplier_y"], p["shift_y"])
    y = output(graph, node)
    return [stacked(saturate(scaled + p["zero_y"], y.dtype, p["low"], p["high"]), y)]


def _call(graph: Graph, node: Node) -> Call:
    return call_pair(graph, node, "add", literal("ear_add", **_factors(graph, node)))


def or_integers(op: Op) -> Op:
    """Return the op of quantised values, for int32 without a scale as well."""

    def check(graph: Graph, node: Node) -> None:
        (_check_integers if _counts(graph, node) else op.check)(graph, node)

    def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
        return (_integers if _counts(graph, node) else op.meaning)(graph, node, inputs)

    def call(graph: Graph, node: Node) -> Call:
        return (_call_integers if _counts(graph, node) else op.call)(graph, node)

    return replace(op, check=check, meaning=meaning, call=call)


def _counts(graph: Graph, node: Node) -> bool:
    return tensor(graph, node, 0).dtype == "int32"


def _check_integers(graph: Graph, node: Node) -> None:
    for value in (tensor(graph, node, 0), tensor(graph, node, 1), only_output(graph, node)):
        require_dtype(graph, node, value, "int32")
        if value.quantisation is not None:
            what = f"tensor {value.name!r} is int32 with a scale"
            raise refuse(graph, node, what, "quantise the activations to int8 or int16")
    activation = node.options.get("fused_activation_function", "NONE")
    if activation != "NONE":
        raise refuse(graph, node, f"the fused activation {activation} of int32", "make it an op")
    check_broadcast(graph, node)


def _integers(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    y = output(graph, node)
    a, b = (by_clip(x, tensor(graph, node, i), len(y.shape)) for i, x in enumerate(inputs))
    with np.errstate(over="ignore"):
        return [stacked(INTEGERS[node.op](a, b), y)]


def _call_integers(graph: Graph, node: Node) -> Call:
    return call_pair(graph, node, "integers", f"EAR_{node.op}")


OPS = tuple(
    or_integers(Op(name, versions, _check, _meaning, _call, no_macs, in_place=True, batch=True))
    for name, versions in (("ADD", range(1, 5)), ("SUB", range(1, 6)))
)
