"""SVDF: int8 input and weights, a memory of int16 or int8 that lives from run to run, as TFLM.

TFLM works its two factors out in float32, ignores the fused activation (the range of int8 is the clamp), lets
sums over time wrap at 32 bits, and needs a bias; LiteRT agrees. Without a bias ours takes zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.fixed_point import (
    RANGES,
    multiply_by_quantised_multiplier,
    quantise_multiplier,
    saturate_int8,
    wrap_int32,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import (
    Call,
    Op,
    literal,
    optional,
    output,
    per_tensor,
    refuse,
    require_constant,
    require_dtype,
    tensor,
)
from firmware.compiler.ops.quantize import int8_of

MAX_SHIFT = 30
INPUT, FEATURES, WEIGHTS, BIAS, STATE = range(5)


def _check(graph: Graph, node: Node) -> None:
    if len(node.inputs) != 5 or len(node.outputs) != 2:
        what = f"{len(node.inputs)} inputs, its state is not a variable of the model"
        raise refuse(graph, node, what, "export it as TensorFlow's converter does")
    x, features, weights, state = (tensor(graph, node, i) for i in (INPUT, FEATURES, WEIGHTS, STATE))
    int8_of(graph, node, x)
    int8_of(graph, node, output(graph, node))
    require_dtype(graph, node, features, "int8")
    require_dtype(graph, node, state, "int16", "int8")
    require_dtype(graph, node, weights, state.dtype)
    require_constant(graph, node, features)
    require_constant(graph, node, weights)
    rank = node.options["rank"]
    shapes = [x.shape, features.shape, weights.shape, state.shape, output(graph, node).shape]
    if rank < 1 or any(len(shape) != 2 for shape in shapes) or not _fits(shapes, rank):
        what = f"shapes {', '.join(map(str, shapes))} with rank {rank}"
        raise refuse(graph, node, what, "the file is damaged; export it again")
    for value in (features, weights):
        if per_tensor(graph, node, value)[1]:
            raise refuse(graph, node, f"{value.name!r} has a zero-point", "quantise weights symmetrically")
    _check_state(graph, node)
    _check_bias(graph, node)
    if x.shape[1] * 255 * 128 >= 1 << 31:
        raise refuse(graph, node, f"{x.shape[1]} inputs overflow 32 bits", "split the layer")
    if max(shift for _, shift in _factors(graph, node)) > MAX_SHIFT:
        cure = "calibrate on data that reaches this tensor"
        raise refuse(graph, node, "its scales are out of proportion", cure)


def _fits(shapes: Sequence[Sequence[int]], rank: int) -> bool:
    (batches, inputs), (filters, depth), (rows, memory), state, made = shapes
    sizes = inputs == depth and filters == rows and filters % rank == 0
    return sizes and (*state, *made) == (batches, memory * filters, batches, filters // rank)


def _check_state(graph: Graph, node: Node) -> None:
    state = tensor(graph, node, STATE)
    _, zero = per_tensor(graph, node, state)
    if not -128 <= zero <= 127 or (zero and state.dtype == "int16"):
        what = f"its state {state.name!r} is {state.dtype} with zero-point {zero}"
        raise refuse(graph, node, what, "quantise the model with TensorFlow's converter")


def _check_bias(graph: Graph, node: Node) -> None:
    bias = optional(graph, node, BIAS)
    if bias is not None:
        require_dtype(graph, node, bias, "int32")
        require_constant(graph, node, bias)
        if bias.elements != output(graph, node).shape[1]:
            raise refuse(graph, node, f"bias {bias.shape}", "the file is damaged; export it again")


def _factors(graph: Graph, node: Node) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return (multiplier, shift) of what enters the memory and of what leaves it, made from float32."""
    named = [tensor(graph, node, i) for i in (INPUT, FEATURES, WEIGHTS, STATE)] + [output(graph, node)]
    x, features, weights, state, y = (np.float32(per_tensor(graph, node, value)[0]) for value in named)
    with np.errstate(over="ignore", under="ignore"):
        into, out = x * features / state, state * weights / y
    if not (np.isfinite(into) and np.isfinite(out)):
        cure = "calibrate on data that reaches this tensor"
        raise refuse(graph, node, "its scales are out of proportion", cure)
    return quantise_multiplier(float(into)), quantise_multiplier(float(out))


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    x, features, weights, bias, state = inputs
    into, out = _factors(graph, node)
    filters, memory = weights.shape
    zero_state = per_tensor(graph, node, tensor(graph, node, STATE))[1]
    zero_in = per_tensor(graph, node, tensor(graph, node, INPUT))[1]
    zero_out = per_tensor(graph, node, output(graph, node))[1]
    sums = (x.astype(np.int64) - zero_in) @ features.astype(np.int64).T
    low, high = RANGES[state.dtype.name]
    entered = np.clip(multiply_by_quantised_multiplier(sums, *into), low, high) + zero_state
    past = state.reshape(len(x), filters, memory)
    held = np.concatenate([past[:, :, 1:], entered.astype(state.dtype)[:, :, None]], axis=2)
    over_time = ((held.astype(np.int64) - zero_state) * weights.astype(np.int64)).sum(axis=2)
    by_unit = over_time.reshape(len(x), -1, node.options["rank"]).sum(axis=2)
    total = wrap_int32(by_unit + (0 if bias is None else bias.astype(np.int64)))
    y = saturate_int8(multiply_by_quantised_multiplier(total, *out) + zero_out)
    return [y, held.reshape(state.shape)]


def _call(graph: Graph, node: Node) -> Call:
    x, state, y = tensor(graph, node, INPUT), tensor(graph, node, STATE), output(graph, node)
    features = require_constant(graph, node, tensor(graph, node, FEATURES))
    weights = require_constant(graph, node, tensor(graph, node, WEIGHTS))
    bias = optional(graph, node, BIAS)
    own = np.zeros(y.shape[1], np.int64) if bias is None else require_constant(graph, node, bias)
    zero_in, zero_state = (per_tensor(graph, node, value)[1] for value in (x, state))
    by_unit = weights.astype(np.int64).reshape(y.shape[1], -1).sum(axis=1)
    into, out = _factors(graph, node)
    low, high = RANGES[state.dtype]
    shape = literal(
        "ear_svdf",
        batches=x.shape[0],
        inputs=x.shape[1],
        units=y.shape[1],
        rank=node.options["rank"],
        memory=weights.shape[1],
        feature_multiplier=into[0],
        feature_shift=into[1],
        state_zero=zero_state,
        low=low,
        high=high,
        multiplier=out[0],
        shift=out[1],
        zero=per_tensor(graph, node, y)[1],
    )
    constants = {
        "feature_bias": (-zero_in * features.astype(np.int64).sum(axis=1)).astype(np.int32),
        "bias": wrap_int32(own.astype(np.int64) - zero_state * by_unit).astype(np.int32),
    }
    pointers = ("{in0}", "{in1}", "{feature_bias}", "{in2}", "{bias}", "{in4}", "{out1}", "{out0}")
    return Call("svdf", (shape, *pointers), constants, function=f"ear_svdf_{state.dtype}")


def _macs(graph: Graph, node: Node) -> int:
    """Return the products of features and of time."""
    features, weights = tensor(graph, node, FEATURES), tensor(graph, node, WEIGHTS)
    return tensor(graph, node, INPUT).shape[0] * (features.elements + weights.elements)


OP = Op("SVDF", range(1, 5), _check, _meaning, _call, _macs, updates={STATE: 1})
