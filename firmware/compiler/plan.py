"""Arena offsets: who lives where, and how much RAM that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firmware.compiler.graph import Graph, ModelError, Node
from firmware.compiler.ops import OPS, lowered
from firmware.compiler.placement import Block, Problem, aligned, best, bound, crowd, end, fill

MAX_WORK = 1 << 22  # pairs of values that meet, and nodes that each lives through: some seconds


@dataclass(frozen=True)
class Plan:
    """Where the run-time tensors live, in bytes: in the arenas, or in the memory of the states.

    There is an arena in each region of RAM that is needed, the fastest first; offsets count through all.
    """

    offsets: Mapping[int, int]  # tensor index → offset; reshapes and in-place results share one
    states: Mapping[int, int]  # tensor index → offset among the states: as read, and updated in place
    scratch: tuple[int | None, ...]  # per node: offset of its scratch memory
    arenas: tuple[int, ...]  # bytes of each
    state: int  # bytes that live from run to run
    lower_bound: int  # bytes that are alive at once at the worst node: no plan can need less
    lifetimes: tuple[tuple[tuple[str, int, int], ...], ...]  # per node: (name, offset, bytes) alive during it

    @property
    def arena(self) -> int:
        """Return the bytes of all arenas."""
        return sum(self.arenas)

    def located(self, offset: int) -> tuple[int, int]:
        """Return (arena, offset in it)."""
        arena = 0
        while offset >= self.arenas[arena] and arena + 1 < len(self.arenas):
            offset -= self.arenas[arena]
            arena += 1
        return arena, offset


def plan(graph: Graph, regions: Sequence[int] = ()) -> Plan:
    """Return the smallest arena found: greedy placement in several orders, then in shuffled ones.

    `regions` are the bytes of RAM that arenas may take, the fastest first; none: one region without an end.
    What does not fit the first is split by heat, the work for each byte, hottest first; the last one may
    come out too large, which `fit.check_fits` refuses.
    """
    storage = _storage(graph)
    kept, state_bytes = _states(graph)
    states = {index: kept[root] for index, root in storage.items() if root in kept}
    storage = {index: root for index, root in storage.items() if root not in kept}
    blocks = _blocks(graph, storage)
    keys = list(blocks)
    items = [blocks[key] for key in keys]
    most, work = crowd(items, len(graph.nodes))
    if work > MAX_WORK:
        what = f"its {len(graph.nodes)} nodes keep up to {most} values alive at once"
        raise ModelError(f"{graph.name}: {what}: join values early, or split the model")
    problem = Problem(items, _overwriting(graph, storage, keys, blocks))
    least = bound(problem, len(graph.nodes))
    places, arenas = _regions(problem, least, regions, _heat(graph, storage, keys))
    where = dict(zip(keys, places, strict=True))
    return Plan(
        offsets={index: where["tensor", root] for index, root in storage.items()},
        states=states,
        scratch=tuple(where.get(("scratch", i)) for i in range(len(graph.nodes))),
        arenas=arenas,
        state=state_bytes,
        lower_bound=least,
        lifetimes=_lifetimes(items, places, len(graph.nodes)),
    )


def _regions(
    problem: Problem, least: int, regions: Sequence[int], heat: Sequence[float]
) -> tuple[list[int], tuple[int, ...]]:
    """Return (offsets through all arenas, bytes of each arena)."""
    items = problem.blocks
    places = best(problem, least)
    size = end(items, places)
    if len(regions) < 2 or size <= regions[0]:
        return places, (size,)
    hottest = sorted(range(len(items)), key=lambda i: (-heat[i], i))
    first = fill(problem, hottest, regions[0])
    rest = [i for i in range(len(items)) if i not in first]
    inner, arenas = _regions(problem.part(rest), 0, regions[1:], [heat[i] for i in rest])
    used = aligned(max((place + items[i].bytes for i, place in first.items()), default=0))
    for i, place in zip(rest, inner, strict=True):
        first[i] = used + place
    return [first[i] for i in range(len(items))], (used, *arenas)


def _overwriting(
    graph: Graph,
    storage: Mapping[int, int],
    keys: Sequence[tuple[str, int]],
    blocks: Mapping[tuple[str, int], Block],
) -> dict[tuple[int, int], int]:
    """Return which blocks may lie over the input of their node, as Problem.over: the input ends there."""
    number = {key: i for i, key in enumerate(keys)}
    found = {}
    for step, node in enumerate(graph.nodes):
        over = {} if OPS[node.op].alias else lowered(graph, node).over
        reader = "tensor", storage.get(node.inputs[0], -1)
        if not over or reader not in blocks or blocks[reader].last != step:
            continue
        for name, behind in over.items():
            writer = ("scratch", step) if name == "scratch" else ("tensor", storage[node.outputs[0]])
            if writer in blocks and writer != reader and blocks[writer].first == step:
                found[number[writer], number[reader]] = aligned(behind)
    return found


def _heat(graph: Graph, storage: Mapping[int, int], keys: Sequence[tuple[str, int]]) -> list[float]:
    """Return for each block the work of the nodes that touch it, for each of its bytes."""
    work: dict[tuple[str, int], int] = {}
    size: dict[tuple[str, int], int] = {}
    for step, node in enumerate(graph.nodes):
        if OPS[node.op].alias:
            continue
        macs = OPS[node.op].macs(graph, node)
        touched = {storage[i] for i in (*node.inputs, *node.outputs) if i in storage}
        for key in (*(("tensor", root) for root in touched), ("scratch", step)):
            work[key] = work.get(key, 0) + macs
    for index, root in storage.items():
        size["tensor", root] = max(size.get(("tensor", root), 1), graph.tensors[index].bytes)
    return [work.get(key, 0) / size.get(key, 1) for key in keys]


def _lifetimes(
    items: Sequence[Block], places: Sequence[int], nodes: int
) -> tuple[tuple[tuple[str, int, int], ...], ...]:
    alive: list[list[tuple[str, int, int]]] = [[] for _ in range(nodes)]
    for place, item in sorted(zip(places, items, strict=True), key=_by_place):
        for node in range(max(item.first, 0), min(item.last + 1, nodes)):
            alive[node].append((item.name, place, item.bytes))
    return tuple(map(tuple, alive))


def _states(graph: Graph) -> tuple[dict[int, int], int]:
    """Return (tensor that a state is read from → its offset, bytes of all states)."""
    offsets, total = {}, 0
    for state in graph.states:
        offsets[state.read] = total
        total += aligned(graph.tensors[state.read].bytes)
    return offsets, total


def _by_place(pair: tuple[int, Block]) -> tuple[int, int]:
    return pair[0], pair[1].first


def _storage(graph: Graph) -> dict[int, int]:
    """Return run-time tensor → tensor whose memory it uses: itself, or what it reshapes or overwrites."""
    last = _last_reads(graph)
    root = {i: i for i in graph.inputs}
    end = dict.fromkeys(graph.inputs, -1)  # root → last node that reads any tensor in its memory
    for i in graph.inputs:
        end[i] = last[i]
    for kept in graph.states:  # alive for ever: only an op that updates it may overwrite it
        root[kept.read], end[kept.read] = kept.read, len(graph.nodes)
    updated = {kept.written: kept.read for kept in graph.states}
    for step, node in enumerate(graph.nodes):
        first = node.inputs[0] if node.inputs else -1
        for position, index in enumerate(node.outputs):
            shared = root.get(first)
            state = updated.get(index, -1)
            if _updates(node, position, state) and _last_read(state, root, last) == step:
                root[index] = state
            elif shared is not None and _shares(graph, node, step, root, end):
                root[index] = shared
                end[shared] = max(end[shared], last[index])
            else:
                root[index] = index
                end[index] = last[index]
    return root


def _updates(node: Node, position: int, state: int) -> bool:
    """Tell whether the node rewrites the state in its place as its output `position`."""
    return state >= 0 and any(
        node.inputs[i] == state for i, o in OPS[node.op].updates.items() if o == position
    )


def _last_read(state: int, root: Mapping[int, int], last: Mapping[int, int]) -> int:
    """Return the last node that reads the state, or a reshape of it."""
    return max(last[index] for index, owner in root.items() if owner == state)


def _shares(graph: Graph, node: Node, step: int, root: Mapping[int, int], end: Mapping[int, int]) -> bool:
    """Tell whether the node's output may use the memory of its input 0."""
    op, first = OPS[node.op], node.inputs[0]
    if op.alias:
        return True
    if not op.in_place or len(node.outputs) != 1:
        return False
    same_size = graph.tensors[first].bytes == graph.tensors[node.outputs[0]].bytes
    others = [i for i in node.inputs[1:] if i != first]
    return same_size and end[root[first]] == step and all(root.get(i) != root[first] for i in others)


def _last_reads(graph: Graph) -> dict[int, int]:
    """Return tensor → last node that reads it; outputs live past the end, unread ones to their node."""
    last: dict[int, int] = dict.fromkeys((*graph.inputs, *(state.read for state in graph.states)), -1)
    for step, node in enumerate(graph.nodes):
        last.update(dict.fromkeys(node.outputs, step))
        last.update({i: step for i in node.inputs if i >= 0})
    ends = (*graph.outputs, *(state.written for state in graph.states))
    return {**last, **dict.fromkeys(ends, len(graph.nodes))}


def _blocks(graph: Graph, storage: Mapping[int, int]) -> dict[tuple[str, int], Block]:
    last, born = _last_reads(graph), dict.fromkeys(graph.inputs, -1)
    for step, node in enumerate(graph.nodes):
        born.update(dict.fromkeys(node.outputs, step))
    blocks: dict[tuple[str, int], Block] = {}
    for index, root in storage.items():
        known = blocks.get(("tensor", root))
        tensor = graph.tensors[index]
        size, first, end = aligned(tensor.bytes), born[index], last[index]
        if known is not None:
            size, first, end = max(size, known.bytes), min(first, known.first), max(end, known.last)
        blocks["tensor", root] = Block(known.name if known else tensor.name.split(";")[0], size, first, end)
    for step, node in enumerate(graph.nodes):
        scratch = 0 if OPS[node.op].alias else lowered(graph, node).scratch
        if scratch:
            blocks["scratch", step] = Block(f"scratch of {node.name}", aligned(scratch), step, step)
    return blocks
