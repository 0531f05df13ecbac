"""Joins the unrolled steps of a state-space model, h = a h + f, y = sum of c h, into one EAR_SCAN.

A step is an ADD of a MUL whose one operand is the state before; the other, a, is a function of one int8 value
that is never negative. Steps that read the same tensors at even distances are one loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from firmware.compiler.fixed_point import quantise_multiplier
from firmware.compiler.graph import Array, Graph, ModelError, Node, Quantisation, State, Tensor
from firmware.compiler.operands import product
from firmware.compiler.ops import OPS, ear_scan
from firmware.compiler.ops.ear_scan import LIMIT, Scan
from firmware.compiler.passes.factors import VIEWS, Factor, affine, factors, whole
from firmware.compiler.passes.rewrite import Links, drop_unused, in_order, links
from firmware.compiler.passes.scan_results import (
    Result,
    Step,
    named,
    packed,
    plain,
    results,
    scaled,
    together,
)
from firmware.compiler.products import PLAIN, WORD, Operand, downs, finest, tabled

HEADROOM = 8  # a state may grow to so many times what it was calibrated to
MAX_TABLE = 1 << 14  # bytes
MAX_UP = 6


def fuse_scans(graph: Graph) -> Graph:
    """Return the graph with each regular recurrence, of two steps or of a kept state, in one node."""
    adds = [node for node in graph.nodes if node.op in named("ADD") and plain(node)]
    found = links(graph) if adds else None
    if found is None:
        return graph
    steps = {step.h: step for node in adds if (step := _step(graph, found, node)) is not None}
    for chain in _chains(graph, found, steps):
        made = _joined(graph, found, chain)
        if made is not None:
            graph, found = made, links(made)
    return graph


def _step(graph: Graph, found: Links, node: Node) -> Step | None:
    """Return the step that ends in this ADD; of two ways to read it the one that goes on from an ADD."""
    read: list[Step] = []
    shape = graph.tensors[node.outputs[0]].shape
    for kept, fresh in (node.inputs, node.inputs[::-1]):
        mul = found.writer(kept, *named("MUL"))
        if mul is None or kept == fresh or not plain(mul) or found.only(kept) is not node:
            continue
        for a, before in (mul.inputs, mul.inputs[::-1]):
            if not _known(graph, found, before) or graph.tensors[before].shape != shape or not shape:
                continue
            decay, parts = _decay(graph, found, a, shape), factors(graph, found, fresh)
            if decay is not None and parts is not None:
                read.append(Step(node.outputs[0], before, decay, _spread(parts, shape)))
    read.sort(key=lambda step: found.writer(step.before, *named("MUL"), *VIEWS) is not None)
    return read[0] if read and graph.tensors[node.outputs[0]].dtype in ("int8", "float32") else None


def _known(graph: Graph, found: Links, tensor: int) -> bool:
    """Tell whether a tensor may be a state: a sum, the product at the start, or what a run keeps."""
    start = VIEWS if graph.tensors[tensor].dtype == "float32" else ()  # in an island, part of all products
    return found.writer(tensor, *named("ADD", "MUL"), *start) is not None or _kept(graph, tensor)


def _kept(graph: Graph, tensor: int) -> bool:
    return any(state.read == tensor for state in graph.states)


def _spread(parts: Sequence[Factor], shape: tuple[int, ...]) -> tuple[Factor, ...]:
    wide = [replace(part, at=np.broadcast_to(part.at, shape)) for part in parts]
    return tuple(sorted(wide, key=lambda part: (_by_state(part), part.base, not part.plain)))


def _by_state(part: Factor) -> bool:
    """Tell whether a factor differs among the states of a row, as the last axis is."""
    flat = part.at.reshape(-1, part.at.shape[-1])
    return part.values.ndim > 1 or bool((flat != flat[:, :1]).any())


def _decay(graph: Graph, found: Links, tensor: int, shape: tuple[int, ...]) -> Factor | None:
    parts = factors(graph, found, tensor, single=True)
    if parts is None or len(parts) > 1:
        parts = whole(graph, tensor)
    if parts is None or parts[0].sign is not None or parts[0].values.min() < 0:
        return None
    if parts[0].values.size * 2 > MAX_TABLE or parts[0].values.max() >= 1 << MAX_UP:
        return None
    return replace(parts[0], at=np.broadcast_to(parts[0].at, shape))


def _chains(graph: Graph, found: Links, steps: Mapping[int, Step]) -> list[list[Step]]:
    """Return the runs of steps, each from its start: a product before its first step, or a state."""
    after = {step.before: step for step in steps.values()}
    chains = []
    for step in steps.values():
        if step.before in steps:
            continue
        chain = [step]
        while chain[-1].h in after and after[chain[-1].h] is not chain[0]:
            chain.append(after[chain[-1].h])
        if not _kept(graph, step.before):
            start = factors(graph, found, _without_zero(graph, found, step.before))
            shape = graph.tensors[step.h].shape
            if start is None or len(chain) < 2:
                continue
            chain.insert(0, Step(step.before, -1, None, _spread(start, shape)))
        chains.append(chain)
    return chains


def _without_zero(graph: Graph, found: Links, tensor: int) -> int:
    """Return what a constant of zeros is added to in this tensor, or the tensor itself."""
    node = found.writer(tensor, *named("ADD"))
    for one, other in () if node is None else (node.inputs, node.inputs[::-1]):
        value = graph.tensors[other]
        zero = value.quantisation.zero_point[0] if value.quantisation is not None else 0
        if value.data is not None and (value.data == zero).all():
            return one
    return tensor


def _joined(graph: Graph, found: Links, chain: Sequence[Step]) -> Graph | None:
    """Return the graph with the chain in one node, None when its steps are not alike."""
    joint = together(graph, found, chain)
    read = results(graph, found, chain) if joint is None else joint[0]
    if any(graph.tensors[result.y].dtype != "int8" for result in read if result.y >= 0):
        return None
    scan, inputs = _scan(graph, chain, read)
    on = _kept(graph, chain[0].before)
    if scan is None or (on and not _turns_wide(graph, found, chain)):
        return None
    ys = [result.y for result in read if result.y >= 0]
    every = joint[1] if joint is not None else None
    if every is None and len(ys) == len(chain) and len(set(scan.ends)) == 1:
        every = packed(graph, found, ys, scan.sizes[1])
    if every is not None:
        scan = replace(scan, outputs=(), first=every.first, places=every.places, ends=scan.ends[:1])
        ys = [every.y]
    nodes = [node for node in graph.nodes if not set(ys).intersection(node.outputs)]
    name, first = found.writers[chain[-1].h].name, len(graph.tensors)
    if on:
        made = Node(ear_scan.ON, (first, *inputs), (first + 1, *ys), {"scan": scan}, 1, name)
        graph = _widened(graph, chain, scan)
    else:
        made = Node("EAR_SCAN", (-1, *inputs), tuple(ys), {"scan": scan}, 1, name)
    ordered = in_order([*nodes, made])
    if ordered is None or not _holds(graph, made):
        return None
    return drop_unused(replace(graph, nodes=ordered))


def _holds(graph: Graph, node: Node) -> bool:
    try:
        OPS[node.op].check(graph, node)
    except ModelError:
        return False
    return True


def _widened(graph: Graph, chain: Sequence[Step], scan: Scan) -> Graph:
    """Return the graph with the wide state before and after in the place of the int8 state."""
    last, first = graph.tensors[chain[-1].h], len(graph.tensors)
    scale = Quantisation(np.array([scan.unit], np.float32), np.zeros(1, np.int32))
    wide = [Tensor(f"{last.name} {when}", scan.sizes[1:], "int32", scale) for when in ("before", "after")]
    states = tuple(
        State(first, first + 1) if state.read == chain[0].before else state for state in graph.states
    )
    return replace(graph, tensors=(*graph.tensors, *wide), states=states)


def _turns_wide(graph: Graph, found: Links, chain: Sequence[Step]) -> bool:
    """Tell whether the last state is what is kept, and starts from zero, read by the recurrence only."""
    state = next(s for s in graph.states if s.read == chain[0].before)
    q = graph.tensors[state.read].quantisation
    zero = q is not None and np.array_equal(np.unique(state.initial), q.zero_point)
    return state.written == chain[-1].h and zero and len(found.read(state.read)) == 1


def _scan(graph: Graph, chain: Sequence[Step], read: Sequence[Result]) -> tuple[Scan | None, list[int]]:
    """Return the numbers of the kernel, and the tensors that its operands are read from."""
    shape = graph.tensors[chain[0].h].shape
    sizes = len(chain), product(shape[:-1]), shape[-1]
    if len({len(step.fresh) for step in chain}) > 1:
        return None, []
    lines = [[step.decay for step in chain], *map(list, zip(*(step.fresh for step in chain), strict=True))]
    weights = [result.weight for result in read]
    weighed = any(weights)
    operands = []
    for position, parts in enumerate([*lines, *([weights] if weighed else [])], 1):
        operand = _operand(graph, parts, sizes, position, fraction=position == 1)
        if operand is None:
            return None, []
        operands.append(operand)
    decay, *fresh = operands[: len(lines)]
    weight = operands[-1] if weighed else None
    inputs = [next(part.base for part in parts if part) for parts in (*lines, weights) if any(parts)]
    lost = downs(fresh)
    grain = math.prod(operand.scale for operand in fresh) * 2.0 ** sum(lost)
    power = math.ceil(math.log2(_unit(graph, chain, fresh) / grain))
    unit = grain * 2.0**power
    narrow = max(0, 23 + PLAIN + (sizes[2] - 1).bit_length() - WORD) if weighed else 0
    gain = unit * 2**narrow * (weight.scale if weight else 1.0)
    ends = [(0, 0, 0) if r.y < 0 else _end(gain, *scaled(graph, r.y)) for r in read]
    outputs = tuple(t for t, result in enumerate(read) if result.y >= 0)
    up = round(math.log2(decay.scale)) + 15
    places = (0, 1, 0) if weighed else (0, sizes[2], 1)
    return Scan(
        sizes, decay, up, tuple(fresh), lost, power, weight, narrow, unit, tuple(ends), 0, places, outputs
    ), inputs


def _end(gain: float, scale: float, zero: int) -> tuple[int, int, int]:
    return *quantise_multiplier(gain / scale), zero


def _unit(graph: Graph, chain: Sequence[Step], fresh: Sequence[Operand]) -> float:
    """Return the least real number for a unit of the state: as fine as what it may grow to allows."""
    most = math.prod(2.0**operand.bits * operand.scale for operand in fresh)
    if graph.tensors[chain[0].h].dtype == "float32":
        largest = _bound(chain[-1])
    else:
        ranges = [(128 + abs(zero)) * scale for scale, zero in (scaled(graph, step.h) for step in chain)]
        largest = max(ranges) * HEADROOM
    return max(largest / LIMIT, most / 2.0 ** (WORD - 1))


def _bound(step: Step) -> float:
    """Return what no state of an island exceeds: with |f| <= (1 - a) K in every step, |h| <= K.

    The factor that is read where the decay is, as the step size of a state-space model, counts with it.
    """
    assert step.decay is not None
    left = np.maximum(1 - step.decay.values.reshape(256, -1), 2.0**-15)
    bound, others = 1 / left, 1.0
    for part in step.fresh:
        values = np.abs(part.values.reshape(256, -1))
        if part.base == step.decay.base and np.array_equal(part.at, step.decay.at):
            bound = bound * values
        else:
            others *= float(values.max())
    return max(float(bound.max()) * others, 1e-30)


def _operand(
    graph: Graph,
    parts: Sequence[Factor | None],
    sizes: tuple[int, int, int],
    position: int,
    *,
    fraction: bool,
) -> Operand | None:
    """Return the operand that reads a factor of every step, None when they are not evenly apart."""
    present = [(t, part) for t, part in enumerate(parts) if part is not None]
    model = present[0][1]
    places = []
    for t, part in present:
        even = affine(part.at.reshape(sizes[1:]))
        same = part.base == model.base and np.array_equal(part.values, model.values)
        if even is None or not same or part.sign is not None or part.values.size * 2 > MAX_TABLE:
            return None
        places.append((t, *even))
    t, first, steps = places[0]
    apart = (places[-1][1] - first) // (places[-1][0] - t) if len(places) > 1 else 0
    if any(p[2] != steps or p[1] != first + (p[0] - t) * apart for p in places):
        return None
    start, along = first - t * apart, (apart, *steps)
    if model.plain and not fraction:
        scale, zero = scaled(graph, model.base)
        return Operand(position, start, along, zero, scale)
    scale = _fraction(model.values) if fraction else finest(model.values)
    return Operand(position, start, along, 0, scale, tabled(model.values, scale))


def _fraction(values: Array) -> float:
    """Return the least power of two, 2**-15 or more, at which the largest value fits a table."""
    return 2.0 ** max(-15, math.ceil(math.log2(max(float(values.max()), 1e-9) / 32767.5)))
