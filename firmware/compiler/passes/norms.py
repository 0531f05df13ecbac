"""Finds layer, RMS, group and instance normalisation however it was written, and makes one EAR_NORM of it.

From each RSQRT (or division by SQRT) of a mean of squares the values around it are followed as polynomials in
x, its mean m and the root r. One that comes down to gamma r (x - m) + beta, or gamma r x + beta, is replaced.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firmware.compiler import reals
from firmware.compiler.floats import PREFIX
from firmware.compiler.graph import Array, Graph, ModelError, Node, Tensor
from firmware.compiler.operands import positive_axis, product
from firmware.compiler.ops import OPS
from firmware.compiler.passes.rewrite import Links, drop_unused, links

Form = dict[str, Array]  # polynomial: product of the letters x, m and r, sorted ("" is 1) → coefficient
SAME = ("DEQUANTIZE", "QUANTIZE")
DEGREE = 2  # of the products that are followed
TOLERANCE = 1e-6  # relative: gammas of x and of its mean that are the same
GREATEST_EPSILON = 1.0


@dataclass(frozen=True)
class Statistics:
    """A root of a mean of squares: of which tensor, less its mean or not, over which axes."""

    x: int  # int8
    mean: int  # tensor with the mean, -1 without
    root: int  # tensor with 1 / sqrt(...), or with sqrt(...)
    inverse: bool
    epsilon: float
    axes: frozenset[int]


def fuse_norms(graph: Graph) -> Graph:
    """Return the graph with every normalisation that the kernel can hold in one node."""
    found = links(graph)
    position = {id(node): i for i, node in enumerate(graph.nodes)}
    made: dict[int, Node] = {}
    tensors = list(graph.tensors)
    for node in graph.nodes:
        statistics = _statistics(graph, found, node) if _name(node) in ("RSQRT", "SQRT") else None
        if statistics is None:
            continue
        for output, form in _complete(graph, found, position, statistics).items():
            norm, constants = _norm(graph, statistics, output, form, len(tensors))
            if norm is not None and _holds(replace(graph, tensors=(*tensors, *constants)), norm):
                tensors += constants
                made[output] = norm
    if not made:
        return graph
    nodes = tuple(made.get(node.outputs[0], node) if node.outputs else node for node in graph.nodes)
    return drop_unused(replace(graph, tensors=tuple(tensors), nodes=nodes))


def _name(node: Node) -> str:
    return node.op.removeprefix(PREFIX)


def _writer(graph: Graph, found: Links, tensor: int, *names: str) -> Node | None:
    """Return the node (of one of these ops, int8 or float) that makes the tensor, conversions apart."""
    node = found.writer(tensor)
    while node is not None and node.op in SAME:
        node = found.writer(node.inputs[0])
    return node if node is not None and _name(node) in names else None


def _source(graph: Graph, found: Links, tensor: int) -> int:
    """Return the tensor itself, or the int8 one that a DEQUANTIZE made it from."""
    node = found.writer(tensor, "DEQUANTIZE")
    return tensor if node is None else node.inputs[0]


def _mean(graph: Graph, found: Links, tensor: int) -> tuple[int, frozenset[int]] | None:
    """Return (tensor, axes) of the mean that makes this tensor, axes kept."""
    node = _writer(graph, found, tensor, "MEAN")
    if node is None or graph.tensors[node.inputs[1]].data is None:
        return None
    shape = graph.tensors[node.inputs[0]].shape
    given = np.asarray(graph.tensors[node.inputs[1]].data).reshape(-1)
    axes = frozenset(positive_axis(int(axis), len(shape)) for axis in given)
    if None in axes or len(graph.tensors[node.outputs[0]].shape) != len(shape):
        return None
    return node.inputs[0], axes  # type: ignore[return-value]


def _scalar(graph: Graph, tensor: int) -> float | None:
    value = reals.constant(graph.tensors[tensor])
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None


def _statistics(graph: Graph, found: Links, node: Node) -> Statistics | None:
    """Return what the root is of, None when it is of something else."""
    epsilon, variance = 0.0, node.inputs[0]
    plus = _writer(graph, found, variance, "ADD")
    if plus is not None:
        for one, other in (plus.inputs[:2], plus.inputs[1::-1]):
            constant = _scalar(graph, other)
            if constant is not None:
                epsilon, variance = constant, one
    of = _mean(graph, found, variance)
    squared = of and _writer(graph, found, of[0], "MUL", "SQUARE", "SQUARED_DIFFERENCE")
    if of is None or not squared or not 0 <= epsilon <= GREATEST_EPSILON:
        return None
    pair = _squared(graph, found, squared, of[1])
    if pair is None or graph.tensors[pair[0]].dtype != "int8":
        return None
    return Statistics(*pair, node.outputs[0], _name(node) == "RSQRT", epsilon, of[1])


def _squared(graph: Graph, found: Links, node: Node, axes: frozenset[int]) -> tuple[int, int] | None:
    """Return (x, its mean over the axes or -1) of a node that squares x - mean, or x."""
    if _name(node) == "SQUARED_DIFFERENCE":
        return _difference(graph, found, node, axes)
    sources = {_source(graph, found, i) for i in node.inputs}
    if len(sources) != 1:
        return None
    x = sources.pop()
    minus = _writer(graph, found, x, "SUB")
    centred = minus and _difference(graph, found, minus, axes)
    return centred or (x, -1)


def _difference(graph: Graph, found: Links, node: Node, axes: frozenset[int]) -> tuple[int, int] | None:
    for x, mean in (node.inputs[:2], node.inputs[1::-1]):
        of = _mean(graph, found, mean)
        if of is not None and of[1] == axes and _source(graph, found, of[0]) == _source(graph, found, x):
            return _source(graph, found, x), mean
    return None


def _complete(
    graph: Graph, found: Links, position: Mapping[int, int], s: Statistics
) -> dict[int, tuple[Array, Array]]:
    """Return int8 tensor → (gamma, beta) of the normalised values that somebody outside needs."""
    one = np.ones(())
    forms: dict[int, Form] = {s.x: {"x": one}, s.root: {"r" if s.inverse else "s": one}}
    wide = [node.outputs[0] for node in found.read(s.x) if node.op == "DEQUANTIZE"]
    for x in (s.x, *wide):
        for reader in found.read(x):
            if _name(reader) == "MEAN" and _mean(graph, found, reader.outputs[0]) == (x, s.axes):
                forms[reader.outputs[0]] = {"m": one}
    waiting: list[tuple[int, int]] = []
    seen: set[int] = set()

    def wake(tensor: int) -> None:
        for reader in found.read(tensor):
            if id(reader) not in seen:
                seen.add(id(reader))
                heapq.heappush(waiting, (position[id(reader)], tensor))

    for tensor in list(forms):
        wake(tensor)
    while waiting:
        node = graph.nodes[heapq.heappop(waiting)[0]]
        if len(node.outputs) != 1 or node.outputs[0] in forms:
            continue
        form = _form(graph, node, forms)
        if form is not None:
            forms[node.outputs[0]] = form
            wake(node.outputs[0])
    return {
        tensor: ends
        for tensor, form in forms.items()
        if (ends := _ends(form, s.mean >= 0)) is not None and _needed(graph, found, forms, s, tensor)
    }


def _needed(graph: Graph, found: Links, forms: Mapping[int, Form], s: Statistics, tensor: int) -> bool:
    """Tell whether an int8 tensor is read by more than longer forms of the same normalisation."""
    if graph.tensors[tensor].dtype != "int8" or graph.tensors[tensor].shape != graph.tensors[s.x].shape:
        return False
    further = [
        reader.outputs[0] in forms and _ends(forms[reader.outputs[0]], s.mean >= 0) is not None
        for reader in found.read(tensor)
    ]
    return tensor in found.kept or not all(further)


def _form(graph: Graph, node: Node, forms: Mapping[int, Form]) -> Form | None:
    """Return the polynomial of a node whose inputs have one, None for another op or one too high."""
    operands: list[Form] = []
    if node.options.get("fused_activation_function", "NONE") != "NONE":
        return None
    for index in node.inputs:
        constant = reals.constant(graph.tensors[index]) if index >= 0 else None
        known = forms.get(index) if constant is None else {"": constant}
        if known is None:
            return None
        operands.append(known)
    name = _name(node)
    if name in SAME:
        return operands[0]
    if name == "NEG":
        return _scaled(operands[0], -1.0)
    if name in ("ADD", "SUB"):
        return _sum(operands[0], _scaled(operands[1], 1.0 if name == "ADD" else -1.0))
    if name == "MUL":
        return _product(*operands)
    if name == "DIV" and list(operands[1]) == ["s"]:
        return _product(operands[0], {"r": 1 / operands[1]["s"]})
    return None


def _scaled(form: Form, factor: float) -> Form:
    return {key: value * factor for key, value in form.items()}


def _sum(a: Form, b: Form) -> Form | None:
    try:
        return {key: a.get(key, np.zeros(())) + b.get(key, np.zeros(())) for key in a.keys() | b.keys()}
    except ValueError:
        return None


def _product(a: Form, b: Form) -> Form | None:
    made: Form = {}
    try:
        for one, of_a in a.items():
            for other, of_b in b.items():
                key = "".join(sorted(one + other))
                made[key] = made.get(key, np.zeros(())) + of_a * of_b
    except ValueError:
        return None
    return made if all(len(key) <= DEGREE for key in made) else None


def _ends(form: Form, centred: bool) -> tuple[Array, Array] | None:
    """Return (gamma, beta) when the polynomial is gamma r (x - m) + beta, or gamma r x + beta."""
    wanted = {"rx", "mr"} if centred else {"rx"}
    rest = {key for key, value in form.items() if np.any(value)} - {""}
    if rest != wanted:
        return None
    gamma = form["rx"]
    if centred:
        try:
            off = np.abs(gamma + form["mr"])
        except ValueError:
            return None
        if (off > _slack(gamma)).any():
            return None
    return gamma, form.get("", np.zeros(()))


def _slack(gamma: Array) -> float:
    return TOLERANCE * float(np.abs(gamma).max())


def _norm(
    graph: Graph, s: Statistics, output: int, ends: tuple[Array, Array], first: int
) -> tuple[Node | None, list[Tensor]]:
    """Return the node and its constants, whose indices start at `first`; None for axes that do not suit."""
    shape = graph.tensors[s.x].shape
    sizes = _sizes(shape, s.axes)
    if sizes is None:
        return None, []
    outer, rows, groups, depth, at = sizes
    name = graph.tensors[output].name
    constants = []
    for kind, values in zip(("gamma", "beta"), ends, strict=True):
        whole = np.broadcast_to(values, (1,) * at + shape[at:]) if _fits(values, shape, at) else None
        if whole is None:
            return None, []
        data = np.ascontiguousarray(whole.reshape(-1)[: groups * depth], np.float64).astype(np.float32)
        constants.append(Tensor(f"{name} {kind}", data.shape, "float32", data=data))
    options: dict[str, Any] = {"outer": outer, "rows": rows, "groups": groups, "depth": depth}
    options |= {"epsilon": s.epsilon, "centred": s.mean >= 0}
    return Node("EAR_NORM", (s.x, first, first + 1), (output,), options, 1, name), constants


def _fits(values: Array, shape: tuple[int, ...], at: int) -> bool:
    """Tell whether coefficients vary along the axes from `at` on only."""
    aligned = (1,) * (len(shape) - values.ndim) + values.shape
    return values.ndim <= len(shape) and all(size == 1 for size in aligned[:at])


def _sizes(shape: tuple[int, ...], axes: frozenset[int]) -> tuple[int, int, int, int, int] | None:
    """Return (outer, rows, groups, depth, first axis of the groups); None for axes that alternate more."""
    flags = [axis in axes if size > 1 else None for axis, size in enumerate(shape)]
    runs: list[tuple[bool, int, int]] = []  # reduced, size, first axis
    for axis, flag in enumerate(flags):
        if flag is not None and runs and runs[-1][0] == flag:
            runs[-1] = (flag, runs[-1][1] * shape[axis], runs[-1][2])
        elif flag is not None:
            runs.append((flag, shape[axis], axis))
    pattern = tuple(flag for flag, _, _ in runs)
    places = {
        (True,): (3,),
        (False, True): (0, 3),
        (True, False): (1, 2),
        (True, False, True): (1, 2, 3),
        (False, True, False): (0, 1, 2),
        (False, True, False, True): (0, 1, 2, 3),
    }.get(pattern)
    if places is None:
        return None
    found = [1, 1, 1, 1]
    for place, (_, size, _) in zip(places, runs, strict=True):
        found[place] = size
    inner = [first for place, (_, _, first) in zip(places, runs, strict=True) if place >= 2]
    return found[0], found[1], found[2], found[3], min(inner)


def _holds(graph: Graph, node: Node) -> bool:
    """Tell whether the kernel's integers can hold the scales."""
    try:
        OPS[node.op].check(graph, node)
    except ModelError:
        return False
    return product(graph.tensors[node.inputs[0]].shape) > 0
