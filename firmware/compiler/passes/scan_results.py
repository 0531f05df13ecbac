"""What is read of a scan's steps: each state, each sum of weighed states, or the sums of all at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from firmware.compiler.floats import PREFIX
from firmware.compiler.graph import Graph, Node
from firmware.compiler.passes.factors import VIEWS, Factor, affine, factors, whole
from firmware.compiler.passes.rewrite import Links


@dataclass(frozen=True)
class Step:
    """h = a * before + fresh, perhaps y = sum of weight * h over the last axis."""

    h: int
    before: int  # -1: from nothing
    decay: Factor | None
    fresh: tuple[Factor, ...]


@dataclass(frozen=True)
class Result:
    """What is read of a step: a tensor, and what h is weighed with before it is summed up."""

    y: int  # -1: nothing
    weight: Factor | None


@dataclass(frozen=True)
class Whole:
    """A tensor that holds what is read of all steps: its first element, and the ones from there on."""

    y: int
    first: int
    places: tuple[int, ...]  # elements from step to step, row to row and, without weights, state to state


def named(*ops: str) -> tuple[str, ...]:
    """Return the names of ops, and those that they have in a float island."""
    return (*ops, *(PREFIX + op for op in ops))


def plain(node: Node) -> bool:
    """Tell whether no activation is fused with the node."""
    return bool(node.options.get("fused_activation_function", "NONE") == "NONE")


def scaled(graph: Graph, tensor: int) -> tuple[float, int]:
    """Return scale and zero point of an int8 activation, or refuse to: it was checked to have them."""
    q = graph.tensors[tensor].quantisation
    assert q is not None  # int8 activations have a scale, or the op was refused
    return float(q.scale[0]), int(q.zero_point[0])


def results(graph: Graph, found: Links, chain: Sequence[Step]) -> list[Result]:
    """Return what is read of each step: states themselves when one is not only weighed and summed."""
    following = [*(step.h for step in chain[1:]), -1]
    weighed = [_weighed(graph, found, step, chain) for step in chain]
    if all(result is not None for result in weighed):
        return [result for result in weighed if result is not None]
    read = []
    for step, after in zip(chain, following, strict=True):
        inner = {id(n) for n in _recurrent(found, step, after)}
        outside = needed(graph, chain, step.h) or any(id(n) not in inner for n in found.read(step.h))
        read.append(Result(step.h if outside else -1, None))
    return read


def needed(graph: Graph, chain: Sequence[Step], tensor: int) -> bool:
    """Tell whether a tensor is read after a run, but for the state that the chain itself goes on from."""
    others = (state.written for state in graph.states if state.read != chain[0].before)
    return tensor in graph.outputs or tensor in others


def _recurrent(found: Links, step: Step, after: int) -> list[Node]:
    add = found.writer(after) if after >= 0 else None
    muls = [n for n in found.read(step.h) if n.op in named("MUL")]
    return [n for n in muls if add is not None and n.outputs[0] in add.inputs]


def _weighed(graph: Graph, found: Links, step: Step, chain: Sequence[Step]) -> Result | None:
    """Return the sum of weighed states that is all that is read of a step besides the recurrence."""
    others = _others(found, step, chain)
    if needed(graph, chain, step.h) or len(others) > 1:
        return None
    if not others:
        return Result(-1, None)
    summed = _summed(graph, found, others[0], step.h)
    return None if summed is None else Result(*summed)


def packed(graph: Graph, found: Links, ys: Sequence[int], rows: int) -> Whole | None:
    """Return the one PACK or CONCATENATION that puts all results evenly into a tensor."""
    joined = _joined(found, ys)
    if joined is None or scaled(graph, joined.outputs[0]) != scaled(graph, ys[0]):
        return None
    place = _places(graph, joined, rows)
    return None if place is None or place[0] else Whole(joined.outputs[0], *place)


def _joined(found: Links, ys: Sequence[int]) -> Node | None:
    """Return the node that puts these tensors, perhaps viewed otherwise, side by side in this order."""
    ends = {}
    for y in ys:
        reader = found.only(y)
        if reader is not None and reader.op in VIEWS:
            y = reader.outputs[0]
            reader = found.only(y)
        if reader is None or reader.op not in ("CONCATENATION", "PACK"):
            return None
        ends[y] = reader
    node = next(iter(ends.values()))
    alike = all(n is node for n in ends.values()) and tuple(ends) == tuple(node.inputs)
    return node if alike else None


def _places(graph: Graph, node: Node, rows: int) -> tuple[int, tuple[int, ...]] | None:
    """Return where what is put side by side ends up: first, and steps along inputs, rows and what is left."""
    shape, count = graph.tensors[node.inputs[0]].shape, len(node.inputs)
    parts = np.arange(count * math.prod(shape)).reshape(count, *shape)
    axis = int(node.options["axis"])
    mixed = np.stack(list(parts), axis) if node.op == "PACK" else np.concatenate(list(parts), axis)
    place = np.empty(mixed.size, np.int64)
    place[mixed.reshape(-1)] = np.arange(mixed.size)
    return affine(place.reshape(count, rows, -1))


def together(graph: Graph, found: Links, chain: Sequence[Step]) -> tuple[list[Result], Whole] | None:
    """Return what all steps are weighed with when their states are put side by side first, then summed up.

    The chain may run against the order in which they lie, as a scan from the end of time does.
    """
    shape, states = graph.tensors[chain[0].h].shape, [step.h for step in chain]
    pack = next((n for n in found.read(states[-1]) if n.op == "PACK"), None)
    if pack is None or any(needed(graph, chain, h) for h in states):
        return None
    ahead = tuple(pack.inputs) == tuple(states)
    read = [_others(found, step, chain) for step in chain]
    if not (ahead or tuple(pack.inputs) == tuple(states[::-1])) or any(n != [pack] for n in read):
        return None
    mul = found.only(pack.outputs[0])
    summed = None if mul is None else _summed(graph, found, mul, pack.outputs[0])
    axis, place = int(pack.options["axis"]), _places(graph, pack, math.prod(shape[:-1]))
    if summed is None or place is None or axis % (len(shape) + 1) == len(shape) or place[1][2] != 1:
        return None
    y, weight = summed
    quantised = found.only(y, "QUANTIZE") if graph.tensors[y].dtype == "float32" else None
    y = y if quantised is None else quantised.outputs[0]
    if graph.tensors[y].dtype != "int8":
        return None
    at = np.moveaxis(weight.at, axis, 0)
    first, (step, row, _) = place[0] // shape[-1], (n // shape[-1] for n in place[1])
    if not ahead:
        at, first, step = at[::-1], first + (len(chain) - 1) * step, -step
    return [Result(y, replace(weight, at=a)) for a in at], Whole(y, first, (step, row, 0))


def _others(found: Links, step: Step, chain: Sequence[Step]) -> list[Node]:
    """Return who reads a state besides the next step."""
    index = chain.index(step)
    inner = {id(n) for n in _recurrent(found, step, chain[index + 1].h if index + 1 < len(chain) else -1)}
    return [n for n in found.read(step.h) if id(n) not in inner]


def _summed(graph: Graph, found: Links, mul: Node, states: int) -> tuple[int, Factor] | None:
    """Return (sum over the last axis, weight) when `mul` weighs states that are then summed up."""
    total = found.only(mul.outputs[0]) if mul.op in named("MUL") and plain(mul) else None
    shape = graph.tensors[states].shape
    if total is None or total.op not in named("SUM") or graph.tensors[mul.outputs[0]].shape != shape:
        return None
    axes = graph.tensors[total.inputs[1]].data
    other = next((i for i in mul.inputs if i != states), -1)
    parts = factors(graph, found, other) if other >= 0 else None
    if axes is None or [int(a) % len(shape) for a in axes.reshape(-1)] != [len(shape) - 1] or parts is None:
        return None
    if len(parts) > 1 or not parts[0].plain or parts[0].sign is not None:
        parts = whole(graph, other)
    if parts is None:
        return None
    return total.outputs[0], replace(parts[0], at=np.broadcast_to(parts[0].at, shape))
