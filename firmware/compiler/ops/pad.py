"""PAD and PADV2: constant values around a tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.ops import (
    Call,
    Op,
    literal,
    no_macs,
    optional,
    output,
    per_tensor,
    refuse,
    require_constant,
    require_dtype,
    tensor,
)

RANK = 4


def check(graph: Graph, node: Node) -> None:
    """Raise ModelError unless the paddings are constant, of rank 4 or less, and give the output's shape."""
    x, y, paddings = tensor(graph, node, 0), output(graph, node), tensor(graph, node, 1)
    for value in (x, y):
        require_dtype(graph, node, value, "int8")
    require_dtype(graph, node, paddings, "int32", "int64")
    amounts = require_constant(graph, node, paddings)
    if (
        amounts.shape != (len(x.shape), 2)
        or len(x.shape) > RANK
        or (amounts < 0).any()
        or (amounts > 1 << 20).any()
    ):
        raise refuse(graph, node, f"paddings {amounts.shape} of {x.shape}", f"use at most {RANK} axes")
    if y.shape != tuple(int(n + sum(p)) for n, p in zip(x.shape, amounts, strict=True)):
        raise refuse(graph, node, f"shapes {x.shape} → {y.shape}", "the file is damaged; export it again")
    if per_tensor(graph, node, x) != per_tensor(graph, node, y):
        raise refuse(graph, node, "input and output have different scales", "give both the same range")
    value_tensor = optional(graph, node, 2)
    if value_tensor is not None:
        require_dtype(graph, node, value_tensor, "int8")
        require_constant(graph, node, value_tensor)


def amounts(graph: Graph, node: Node) -> list[tuple[int, int]]:
    """Return (before, after) of each axis."""
    return [(int(a), int(b)) for a, b in require_constant(graph, node, tensor(graph, node, 1))]


def fill(graph: Graph, node: Node) -> int:
    """Return the padding value: the third input, or the zero-point."""
    value = optional(graph, node, 2)
    if value is not None:
        return int(require_constant(graph, node, value).reshape(-1)[0])
    return per_tensor(graph, node, output(graph, node))[1]


def meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Return inputs[0] with the padding around it."""
    return [np.pad(inputs[0], amounts(graph, node), constant_values=fill(graph, node))]


def call(graph: Graph, node: Node) -> Call:
    """Return the kernel call on four axes."""
    x = tensor(graph, node, 0)
    missing = RANK - len(x.shape)
    sizes = (1,) * missing + x.shape
    around = [(0, 0)] * missing + amounts(graph, node)
    fields = {f"size{i}": size for i, size in enumerate(sizes)}
    fields |= {f"before{i}": before for i, (before, _) in enumerate(around)}
    fields |= {f"after{i}": after for i, (_, after) in enumerate(around)}
    return Call("pad", (literal("ear_pad", **fields, value=fill(graph, node)), "{in0}", "{out0}"))


def _op(name: str) -> Op:
    return Op(name, range(1, 5), check, meaning, call, no_macs)


OPS = (_op("PAD"), _op("PADV2"))
