"""Arena offsets: who lives where, and how much RAM that is."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from firmware.compiler.graph import Graph, Node
from firmware.compiler.ops import OPS

ALIGN = 4  # bytes: kernels read whole words
WORK = 1 << 20  # block comparisons spent on shuffled orders, when the sorted ones miss the lower bound


@dataclass(frozen=True)
class Plan:
    """Where the run-time tensors live, in bytes: in the arena, or in the memory of the states."""

    offsets: Mapping[int, int]  # tensor index → offset in the arena; reshapes and in-place results share one
    states: Mapping[
        int, int
    ]  # tensor index → offset in the state memory: states as read, and updated in place
    scratch: tuple[int | None, ...]  # per node: offset of its scratch memory
    arena: int  # bytes
    state: int  # bytes that live from run to run
    lower_bound: int  # bytes that are alive at once at the worst node: no plan can need less
    lifetimes: tuple[tuple[tuple[str, int, int], ...], ...]  # per node: (name, offset, bytes) alive during it


@dataclass(frozen=True)
class _Block:
    """Memory that is alive from node `first` to node `last`, both included; -1 is before the first node."""

    name: str
    bytes: int
    first: int
    last: int

    def meets(self, other: _Block) -> bool:
        return self.first <= other.last and other.first <= self.last


def plan(graph: Graph) -> Plan:
    """Return the smallest arena found: greedy placement in several orders, then in shuffled ones."""
    storage = _storage(graph)
    kept, state_bytes = _states(graph)
    states = {index: kept[root] for index, root in storage.items() if root in kept}
    storage = {index: root for index, root in storage.items() if root not in kept}
    blocks = _blocks(graph, storage)
    keys = list(blocks)
    items = [blocks[key] for key in keys]
    bound = max(
        sum(b.bytes for b in items if b.first <= i <= b.last) for i in range(-1, len(graph.nodes) + 1)
    )
    places = _best(items, bound)
    where = dict(zip(keys, places, strict=True))
    return Plan(
        offsets={index: where["tensor", root] for index, root in storage.items()},
        states=states,
        scratch=tuple(where.get(("scratch", i)) for i in range(len(graph.nodes))),
        arena=max(place + item.bytes for place, item in zip(places, items, strict=True)),
        state=state_bytes,
        lower_bound=bound,
        lifetimes=tuple(
            tuple(
                (b.name, p, b.bytes)
                for p, b in sorted(zip(places, items, strict=True), key=_by_place)
                if _alive(b, i)
            )
            for i in range(len(graph.nodes))
        ),
    )


def _states(graph: Graph) -> tuple[dict[int, int], int]:
    """Return (tensor that a state is read from → its offset, bytes of all states)."""
    offsets, total = {}, 0
    for state in graph.states:
        offsets[state.read] = total
        total += _aligned(graph.tensors[state.read].bytes)
    return offsets, total


def _by_place(pair: tuple[int, _Block]) -> tuple[int, int]:
    return pair[0], pair[1].first


def _alive(block: _Block, node: int) -> bool:
    return block.first <= node <= block.last


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


def _blocks(graph: Graph, storage: Mapping[int, int]) -> dict[tuple[str, int], _Block]:
    last, born = _last_reads(graph), dict.fromkeys(graph.inputs, -1)
    for step, node in enumerate(graph.nodes):
        born.update(dict.fromkeys(node.outputs, step))
    blocks: dict[tuple[str, int], _Block] = {}
    for index, root in storage.items():
        known = blocks.get(("tensor", root))
        tensor = graph.tensors[index]
        size, first, end = _aligned(tensor.bytes), born[index], last[index]
        if known is not None:
            size, first, end = max(size, known.bytes), min(first, known.first), max(end, known.last)
        blocks["tensor", root] = _Block(known.name if known else tensor.name.split(";")[0], size, first, end)
    for step, node in enumerate(graph.nodes):
        scratch = 0 if OPS[node.op].alias else OPS[node.op].call(graph, node).scratch
        if scratch:
            blocks["scratch", step] = _Block(f"scratch of {node.name}", _aligned(scratch), step, step)
    return blocks


def _aligned(size: int) -> int:
    return -(-size // ALIGN) * ALIGN


def _best(items: Sequence[_Block], bound: int) -> list[int]:
    orders: tuple[Callable[[_Block], tuple[int, ...]], ...] = (
        lambda b: (-b.bytes, b.first),
        lambda b: (-(b.last - b.first), -b.bytes),
        lambda b: (-b.bytes * (b.last - b.first + 1), b.first),
        lambda b: (b.first, -b.bytes),
        lambda b: (-b.last, -b.bytes),
    )
    best: list[int] = []
    size = 0
    generator = random.Random(0)
    rivals = [
        [j for j, other in enumerate(items) if j != i and item.meets(other)] for i, item in enumerate(items)
    ]
    tries = min(400, WORK // (1 + sum(map(len, rivals))))
    for attempt in range(len(orders) + tries):
        order = list(range(len(items)))
        if attempt < len(orders):
            order.sort(key=lambda i: orders[attempt](items[i]))
        else:
            order.sort(key=lambda i: -items[i].bytes * generator.uniform(0.3, 1.0))
        places = _place(items, order, rivals)
        total = max(place + item.bytes for place, item in zip(places, items, strict=True))
        if not best or total < size:
            best, size = places, total
        if size == bound:
            break
    return best


def _place(items: Sequence[_Block], order: Sequence[int], rivals: Sequence[Sequence[int]]) -> list[int]:
    """Return the offsets when each block in turn takes the lowest place that its rivals leave free."""
    places = [-1] * len(items)
    for i in order:
        taken = sorted((places[j], places[j] + items[j].bytes) for j in rivals[i] if places[j] >= 0)
        at = 0
        for start, stop in taken:
            if at + items[i].bytes <= start:
                break
            at = max(at, stop)
        places[i] = at
    return places
