"""Float32 FULLY_CONNECTED and BATCH_MATMUL: products added in order of depth, then the bias.

Constant weights that are quantised (a hybrid model) are brought to float when compiling; the activations stay
float, so the result is nearer to the float model than LiteRT's, which rounds them to int8 first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.floats import PREFIX, c_clamp, check_float, clamp, clamped
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import broadcast_strides, by_clip, c_list, lead, merge, product, stacked
from firmware.compiler.ops import Call, Op, literal, optional, output, refuse, require_dtype, tensor

LOOPS = 3


def real_weights(graph: Graph, node: Node) -> Array:
    """Return constant weights (input 1) as float32; ModelError when they are computed or of another type."""
    weights = tensor(graph, node, 1)
    require_dtype(graph, node, weights, "float32", "int8")
    if weights.data is None:
        what = f"weights {weights.name!r} are computed at run time"
        raise refuse(graph, node, what, "use a matrix product of activations (BATCH_MATMUL)")
    if weights.dtype == "float32":
        return weights.data
    q = weights.quantisation
    if q is None:
        raise refuse(graph, node, f"weights {weights.name!r} have no scale", "the file is damaged")
    shape = [q.scale.size if axis == q.axis else 1 for axis in range(len(weights.shape))]
    if q.scale.size == 1:
        shape = []
    steps = weights.data.astype(np.float32) - q.zero_point.reshape(shape).astype(np.float32)
    return (steps * q.scale.reshape(shape)).astype(np.float32)


def real_bias(graph: Graph, node: Node, outputs: int) -> Array:
    """Return the bias, zeros when it is absent; ModelError when it is not a constant of that many floats."""
    bias = optional(graph, node, 2)
    if bias is None:
        return np.zeros(outputs, np.float32)
    if bias.dtype != "float32" or bias.data is None or bias.elements != outputs:
        what = f"bias {bias.name!r} is {bias.dtype} {bias.shape}"
        raise refuse(graph, node, what, f"make it {outputs} float constants")
    return bias.data.reshape(-1)


def in_depth(a: Array, b: Array) -> Array:
    """Return a (…, rows, depth) @ b (…, depth, columns), each sum taken in order of depth."""
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    total = np.zeros(shape, np.float32)
    with np.errstate(all="ignore"):
        for k in range(a.shape[-1]):
            total = total + a[..., :, k, None] * b[..., k, None, :]
    return total


def _check_dense(graph: Graph, node: Node) -> None:
    check_float(graph, node, 1)
    clamp(graph, node)
    x, weights, y = tensor(graph, node, 0), real_weights(graph, node), output(graph, node)
    if weights.ndim != 2 or x.elements % weights.shape[1] or not y.shape:
        raise refuse(graph, node, f"shapes {x.shape}, {weights.shape}", "give it (outputs, inputs) weights")
    rows = x.elements // weights.shape[1]
    if y.elements != rows * weights.shape[0] or y.shape[-1] != weights.shape[0]:
        what = f"output {y.shape} of {x.shape} and {weights.shape}"
        raise refuse(graph, node, what, "the file is damaged; export it again")
    real_bias(graph, node, weights.shape[0])


def _dense(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    weights, y = real_weights(graph, node), output(graph, node)
    made = in_depth(inputs[0].reshape(-1, weights.shape[1]), weights.T)
    made = clamped(graph, node, made + real_bias(graph, node, len(weights)))
    clips = inputs[0].size // tensor(graph, node, 0).elements
    return [made.reshape(y.shape[0] * clips, *y.shape[1:])]


def _call_dense(graph: Graph, node: Node) -> Call:
    weights = real_weights(graph, node)
    outputs, depth = weights.shape
    sizes = literal("ear_float_matmul", rows=output(graph, node).elements // outputs, depth=depth,
                    columns=outputs, a_row=depth, a_step=1, b_column=depth, b_step=1)  # fmt: skip
    constants = {"weights": weights, "bias": real_bias(graph, node, outputs)}
    arguments = ("{in0}", "{weights}", "{bias}", "{out0}", sizes, c_clamp(graph, node))
    return Call("float_matmul", arguments, constants, function="ear_float_dense")


def _dense_macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements * tensor(graph, node, 1).shape[1]


def _adjoint(node: Node) -> tuple[bool, bool]:
    return bool(node.options.get("adj_x", False)), bool(node.options.get("adj_y", False))


def _matrices(graph: Graph, node: Node) -> tuple[int, int, int]:
    """Return (rows, depth, columns); ModelError when the matrices do not fit."""
    a, b, y = tensor(graph, node, 0).shape, tensor(graph, node, 1).shape, output(graph, node).shape
    adj_x, adj_y = _adjoint(node)
    try:
        rows, depth = a[-1:-3:-1] if adj_x else a[-2:]
        columns, other = b[-2:] if adj_y else b[-1:-3:-1]
        fits = depth == other and (*np.broadcast_shapes(a[:-2], b[:-2]), rows, columns) == y
    except ValueError:
        fits = False
    if not fits:
        raise refuse(graph, node, f"shapes {a} and {b} do not give {y}", "the file is damaged")
    return rows, depth, columns


def _stack(graph: Graph, node: Node) -> tuple[tuple[int, ...], ...]:
    a, b, y = (value.shape for value in (tensor(graph, node, 0), tensor(graph, node, 1), output(graph, node)))
    sizes, of_a, of_b = merge(y[:-2], broadcast_strides(a[:-2], y[:-2]), broadcast_strides(b[:-2], y[:-2]))
    return sizes, tuple(s * product(a[-2:]) for s in of_a), tuple(s * product(b[-2:]) for s in of_b)


def _check_matmul(graph: Graph, node: Node) -> None:
    check_float(graph, node, 2)
    _matrices(graph, node)
    if len(_stack(graph, node)[0]) > LOOPS:
        raise refuse(graph, node, f"the stacks take more than {LOOPS} loops", "reshape them to fewer axes")


def _matmul(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    y = output(graph, node)
    a, b = (by_clip(x, tensor(graph, node, i), len(y.shape)) for i, x in enumerate(inputs))
    adj_x, adj_y = _adjoint(node)
    return [stacked(in_depth(a.swapaxes(-1, -2) if adj_x else a, b.swapaxes(-1, -2) if adj_y else b), y)]


def _call_matmul(graph: Graph, node: Node) -> Call:
    rows, depth, columns = _matrices(graph, node)
    adj_x, adj_y = _adjoint(node)
    sizes, of_a, of_b = _stack(graph, node)
    loops = ", ".join(
        f".{name} = {c_list(lead(values, LOOPS, filler))}"
        for name, values, filler in (("batch", sizes, 1), ("a_step", of_a, 0), ("b_step", of_b, 0))
    )
    matrices = literal(
        "ear_float_matmul",
        rows=rows,
        depth=depth,
        columns=columns,
        a_row=1 if adj_x else depth,
        a_step=rows if adj_x else 1,
        b_column=depth if adj_y else 1,
        b_step=1 if adj_y else columns,
    )
    arguments = ("{in0}", "{in1}", "{out0}", f"(struct ear_float_stack){{ {loops} }}", matrices)
    return Call("float_matmul", arguments, function="ear_float_batch_matmul")


def _matmul_macs(graph: Graph, node: Node) -> int:
    return output(graph, node).elements * _matrices(graph, node)[1]


OPS = (
    Op(PREFIX + "FULLY_CONNECTED", range(1, 16), _check_dense, _dense, _call_dense, _dense_macs, batch=True),
    Op(PREFIX + "BATCH_MATMUL", range(1, 16), _check_matmul, _matmul, _call_matmul, _matmul_macs, batch=True),
)
