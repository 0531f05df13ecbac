"""UNIDIRECTIONAL_SEQUENCE_LSTM: int8 or int16 with a cell of int16; states live from run to run, as in TFLM.

TFLM and LiteRT differ: LiteRT requantises the gates by the scales of five intermediate tensors, TFLM keeps
every gate in Q3.12 and its own saturations. TFLM is followed. It knows the plain layer that Keras has: no
peepholes, projection or layer normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firmware.compiler import convolution
from firmware.compiler.fixed_point import (
    RANGES,
    multiply_by_quantised_multiplier,
    multiply_wide,
    quantise_multiplier,
    reduced,
    saturate,
    saturate_int16,
)
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.int16_functions import sigmoid, sigmoid_points
from firmware.compiler.operands import c_list
from firmware.compiler.ops import (
    Call,
    Op,
    optional,
    output,
    per_tensor,
    refuse,
    require_constant,
    require_dtype,
    tensor,
)
from firmware.compiler.ops.quantize import factor

GATES = (2, 1, 3, 4)  # positions of the input weights: forget, input, candidate, output
HIDDEN_GATES = (6, 5, 7, 8)
BIASES = (13, 12, 14, 15)
EXTRAS = {9: "peepholes", 10: "peepholes", 11: "peepholes", 16: "a projection", 17: "a projection",
          **dict.fromkeys(range(20, 24), "layer normalisation")}  # fmt: skip
HIDDEN, CELL = 18, 19
GATE_SCALE = 2.0**-12
GATE_TABLE = (3, 0)  # from a gate to steps of 1 / 12288
ONE = 2.0**-15  # scale of a gate behind its function
CURE = "export the layer as the Keras LSTM that TensorFlow's converter quantises to int8"


@dataclass(frozen=True)
class _Sizes:
    batches: int
    steps: int
    inputs: int
    units: int
    time_major: bool


def _sizes(graph: Graph, node: Node) -> _Sizes:
    shape, major = tensor(graph, node, 0).shape, node.options["time_major"]
    batches, steps = (shape[1], shape[0]) if major else (shape[0], shape[1])
    return _Sizes(batches, steps, shape[2], tensor(graph, node, GATES[0]).shape[0], major)


def _check(graph: Graph, node: Node) -> None:
    if len(node.inputs) not in (20, 24) or len(node.outputs) != 3:
        raise refuse(graph, node, f"{len(node.inputs)} inputs, no variables as its states", CURE)
    for position, what in EXTRAS.items():
        if optional(graph, node, position) is not None:
            raise refuse(graph, node, f"it has {what}", CURE)
    if node.options["fused_activation_function"] != "TANH":
        what = f"its activation is {node.options['fused_activation_function']}, not TANH"
        raise refuse(graph, node, what, CURE)
    _check_types(graph, node)
    _check_shapes(graph, node)
    _cell_table(graph, node)
    _factors(graph, node)


def _check_types(graph: Graph, node: Node) -> None:
    kind = tensor(graph, node, 0).dtype
    for value in (tensor(graph, node, 0), tensor(graph, node, HIDDEN), output(graph, node)):
        require_dtype(graph, node, value, "int8", "int16")
        require_dtype(graph, node, value, kind)
        convolution.check_zero_point(graph, node, value)
    require_dtype(graph, node, tensor(graph, node, CELL), "int16")
    for position in (*GATES, *HIDDEN_GATES, *BIASES):
        value = tensor(graph, node, position)
        bias = "int32" if kind == "int8" else "int64"
        require_dtype(graph, node, value, bias if position in BIASES else "int8")
        require_constant(graph, node, value)
        if position not in BIASES and per_tensor(graph, node, value)[1]:
            raise refuse(graph, node, f"{value.name!r} has a zero-point", "quantise weights symmetrically")


def _check_shapes(graph: Graph, node: Node) -> None:
    x, y = tensor(graph, node, 0).shape, output(graph, node).shape
    matrix = tensor(graph, node, GATES[0]).shape
    if len(x) != 3 or len(matrix) != 2:
        raise refuse(graph, node, f"input {x}, weights {matrix}", "the file is damaged; export it again")
    s = _sizes(graph, node)
    wanted = {
        **dict.fromkeys(GATES, (s.units, s.inputs)),
        **dict.fromkeys(HIDDEN_GATES, (s.units, s.units)),
        **dict.fromkeys(BIASES, (s.units,)),
    }
    wrong = [tensor(graph, node, i) for i, shape in wanted.items() if tensor(graph, node, i).shape != shape]
    states = [tensor(graph, node, i) for i in (HIDDEN, CELL)]
    wrong += [value for value in states if value.elements != s.batches * s.units]
    if wrong or y != (*x[:2], s.units):
        value = (*wrong, output(graph, node))[0]
        raise refuse(graph, node, f"{value.name!r} is {value.shape}", "the file is damaged; export it again")
    if max(s.inputs, s.units) * 255 * 128 >= 1 << 31:
        raise refuse(graph, node, f"{s.inputs} inputs, {s.units} units overflow 32 bits", "split the layer")


def _cell_table(graph: Graph, node: Node) -> tuple[int, int]:
    """Return (multiplier, shift) from the cell to the table of tanh: its scale counts as a power of two."""
    power = round(math.log2(per_tensor(graph, node, tensor(graph, node, CELL))[0]))
    if not -30 <= power <= 0:
        raise refuse(graph, node, f"its cell has a scale of 2**{power}", CURE)
    left = 15 + power - 3
    return (3 << left, 0) if left >= 0 else (3, -left)


def _clip(graph: Graph, node: Node) -> int:
    """Return the largest cell, -1 for no limit."""
    limit = float(node.options["cell_clip"])
    if not limit > 0:
        return -1
    return int(min(limit / per_tensor(graph, node, tensor(graph, node, CELL))[0], 32767.0))


def _factors(graph: Graph, node: Node) -> dict[str, list[tuple[int, int]]]:
    """Return the (multiplier, shift) of every requantisation; those of gates come from float32 products."""

    def scale(position: int) -> float:
        return per_tensor(graph, node, tensor(graph, node, position))[0]

    def gates(x: int, weights: Sequence[int]) -> list[tuple[int, int]]:
        products = (float(np.float32(scale(x)) * np.float32(scale(w))) for w in weights)
        found = [factor(graph, node, product / GATE_SCALE) for product in products]
        if not {shift for _, shift in found} <= set(convolution.WIDE_SHIFTS):
            cure = "calibrate on data that reaches this tensor"
            raise refuse(graph, node, "its scales are out of proportion", cure)
        return found

    cell = scale(CELL)
    return {
        "input": gates(0, GATES),
        "hidden": gates(HIDDEN, HIDDEN_GATES),
        "keep": [quantise_multiplier(ONE * cell / cell)],
        "enter": [factor(graph, node, ONE * ONE / cell)],
        "leave": [factor(graph, node, ONE * ONE / scale(HIDDEN))],
    }


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    s, factors = _sizes(graph, node), _factors(graph, node)
    x = inputs[0] if s.time_major else inputs[0].swapaxes(0, 1)
    zero_in, zero = (per_tensor(graph, node, tensor(graph, node, i))[1] for i in (0, HIDDEN))
    table, clip = _cell_table(graph, node), _clip(graph, node)
    hidden, kind = inputs[HIDDEN].reshape(s.batches, s.units), str(x.dtype)
    cell = inputs[CELL].reshape(s.batches, s.units).astype(np.int64)
    made = []
    for row in x:
        first = _gates(row.astype(np.int64) - zero_in, inputs, GATES, BIASES, factors["input"])
        second = _gates(hidden.astype(np.int64) - zero, inputs, HIDDEN_GATES, (), factors["hidden"])
        sums = [saturate_int16(a + b) for a, b in zip(first, second, strict=True)]
        forget, enter, out = (sigmoid(sums[i], GATE_TABLE, hyperbolic=False) for i in (0, 1, 3))
        candidate = sigmoid(sums[2], GATE_TABLE, hyperbolic=True)
        kept = saturate_int16(multiply_by_quantised_multiplier(forget * cell, *factors["keep"][0]))
        new = saturate_int16(multiply_by_quantised_multiplier(enter * candidate, *factors["enter"][0]))
        cell = saturate_int16(kept.astype(np.int64) + new).astype(np.int64)
        cell = np.clip(cell, -clip, clip) if clip >= 0 else cell
        seen = sigmoid(cell, table, hyperbolic=True)
        hidden = saturate(multiply_by_quantised_multiplier(seen * out, *factors["leave"][0]) + zero, kind)
        made.append(hidden)
    y = np.stack(made, axis=0 if s.time_major else 1)
    shapes = inputs[HIDDEN].shape, inputs[CELL].shape
    return [y, hidden.reshape(shapes[0]), cell.astype(np.int16).reshape(shapes[1])]


def _gates(
    x: Array,
    inputs: Sequence[Array],
    weights: Sequence[int],
    biases: Sequence[int],
    factors: Sequence[tuple[int, int]],
) -> list[Array]:
    """Return the four sums over x, in Q3.12 of 16 bits, int64."""
    sums = [x @ inputs[position].astype(np.int64).T for position in weights]
    for i, position in enumerate(biases):
        sums[i] = sums[i] + inputs[position]
    scale = multiply_by_quantised_multiplier if inputs[0].dtype == np.int8 else multiply_wide
    scaled = (scale(a, *f) for a, f in zip(sums, factors, strict=True))
    return [saturate_int16(a).astype(np.int64) for a in scaled]


def _side_by_side(graph: Graph, node: Node, positions: Sequence[int]) -> Array:
    """Return the weights of four gates unit after unit, word by word side by side; padded with zeros."""
    rows = np.stack([require_constant(graph, node, tensor(graph, node, i)) for i in positions])
    padded = np.pad(rows, ((0, 0), (0, 0), (0, -rows.shape[2] % 4)))
    words = padded.reshape(4, rows.shape[1], -1, 4)
    return np.ascontiguousarray(words.transpose(1, 2, 0, 3)).reshape(rows.shape[1], -1)


def _folded(graph: Graph, node: Node) -> Array:
    """Return the eight biases of each unit, (units, 8), of the type of sums: the zero-points are in them."""
    columns = []
    for x, weights, biases in ((0, GATES, BIASES), (HIDDEN, HIDDEN_GATES, (None,) * 4)):
        zero = per_tensor(graph, node, tensor(graph, node, x))[1]
        for position, bias in zip(weights, biases, strict=True):
            rows = require_constant(graph, node, tensor(graph, node, position)).astype(np.int64)
            own = 0 if bias is None else require_constant(graph, node, tensor(graph, node, bias))
            columns.append(own - zero * rows.sum(axis=1))
    return np.stack(columns, axis=1).astype(np.int32 if tensor(graph, node, 0).dtype == "int8" else np.int64)


def _call(graph: Graph, node: Node) -> Call:
    s, factors, kind = _sizes(graph, node), _factors(graph, node), tensor(graph, node, 0).dtype
    if kind == "int16":
        for name in ("input", "hidden"):
            factors[name] = [(int(reduced(np.array(m))), 15 - shift) for m, shift in factors[name]]
    pairs = {name: [c_list(pair) for pair in found] for name, found in factors.items()}
    multiplier, shift = _cell_table(graph, node)
    fields = {
        "batches": s.batches,
        "steps": s.steps,
        "inputs": s.inputs,
        "units": s.units,
        "batch_stride": 1 if s.time_major else s.steps,
        "step_stride": s.batches if s.time_major else 1,
        "input": f"{{ {', '.join(pairs['input'])} }}",
        "hidden": f"{{ {', '.join(pairs['hidden'])} }}",
        **{name: pairs[name][0] for name in ("keep", "enter", "leave")},
        "cell_multiplier": multiplier,
        "cell_shift": shift,
        "clip": _clip(graph, node),
        "zero": per_tensor(graph, node, tensor(graph, node, HIDDEN))[1],
        "low": RANGES[kind][0],
        "high": RANGES[kind][1],
    }
    shape = f"(struct ear_lstm){{ {', '.join(f'.{name} = {value}' for name, value in fields.items())} }}"
    constants = {
        "input_weights": _side_by_side(graph, node, GATES),
        "hidden_weights": _side_by_side(graph, node, HIDDEN_GATES),
        "biases": _folded(graph, node),
        "points": sigmoid_points(),
    }
    names = (*constants, f"in{HIDDEN}", f"in{CELL}", "out1", "out2", "out0")
    pointers = (f"{{{name}}}" for name in names)
    return Call("lstm", (shape, "{in0}", *pointers), constants, function=f"ear_lstm_{kind}")


def _macs(graph: Graph, node: Node) -> int:
    """Return the products of the four gates."""
    s = _sizes(graph, node)
    return 4 * s.batches * s.steps * s.units * (s.inputs + s.units)


OP = Op(
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    range(1, 6),
    _check,
    _meaning,
    _call,
    _macs,
    updates={HIDDEN: 1, CELL: 2},
)
