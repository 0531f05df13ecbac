"""Puts the nodes in the order that needs the least memory: a beam search over topological orders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from firmware.compiler.graph import Graph
from firmware.compiler.ops import OPS, lowered

WORK = 4096  # nodes times orders that are followed at once: bounds the time on large graphs
MAX_BEAM = 32
MAX_READY = 64  # nodes that are tried next, of all that could be


@dataclass(frozen=True)
class _Costs:
    """What each node needs and changes, nodes and memory by index; sets of nodes are bits of an integer."""

    needs: tuple[int, ...]  # per node: the nodes that come before it
    users: tuple[tuple[int, ...], ...]  # per node: the nodes that read what it writes
    bytes: Mapping[int, int]  # memory → bytes
    readers: Mapping[int, int]  # memory → nodes that read it, and one bit more if it outlives the run
    touches: tuple[tuple[int, ...], ...]  # per node: memory that may die when it has run
    makes: tuple[tuple[int, ...], ...]  # per node: memory that begins to live with it
    scratch: tuple[int, ...]  # per node: bytes
    over: tuple[int, ...]  # per node: memory that its output may overwrite, -1 for none


@dataclass(frozen=True)
class _Prefix:
    """The first nodes of an order: `done` as bits, bytes alive now and at worst, the `last` of them."""

    done: int
    alive: int
    peak: int
    last: int
    before: _Prefix | None


def order(graph: Graph) -> Graph:
    """Return the graph with its nodes in the order of least peak memory that was found, or as it is."""
    if not 3 <= len(graph.nodes) <= WORK:
        return graph
    costs = _costs(graph)
    first = given = _first(graph, costs)
    for node in range(len(graph.nodes)):
        given = _next(costs, given, node)
    beam = [(first, tuple(i for i, needs in enumerate(costs.needs) if not needs))]
    width = max(1, min(MAX_BEAM, WORK // len(graph.nodes)))
    for _ in graph.nodes:
        reached: dict[int, tuple[_Prefix, tuple[int, ...]]] = {}
        for prefix, ready in beam:
            for node in ready[-MAX_READY:]:
                made = _next(costs, prefix, node)
                rival = reached.get(made.done)
                if made.peak < given.peak and (rival is None or _cost(made) < _cost(rival[0])):
                    reached[made.done] = made, ready
        best = sorted(reached.values(), key=lambda found: _cost(found[0]))[:width]
        beam = [(made, _ready(costs, made, ready)) for made, ready in best]
    return replace(graph, nodes=tuple(graph.nodes[i] for i in _path(beam[0][0]))) if beam else graph


def _ready(costs: _Costs, prefix: _Prefix, before: tuple[int, ...]) -> tuple[int, ...]:
    """Return the nodes that can come next: those that could before the prefix's last, and those it frees."""
    freed = (i for i in costs.users[prefix.last] if not costs.needs[i] & ~prefix.done)
    return (*(i for i in before if i != prefix.last), *freed)


def _cost(prefix: _Prefix) -> tuple[int, int, int]:
    return prefix.peak, prefix.alive, prefix.last


def _path(prefix: _Prefix) -> list[int]:
    found: list[int] = []
    step: _Prefix | None = prefix
    while step is not None and step.before is not None:
        found.append(step.last)
        step = step.before
    return found[::-1]


def _first(graph: Graph, costs: _Costs) -> _Prefix:
    alive = sum(costs.bytes[i] for i in graph.inputs)
    return _Prefix(0, alive, alive, -1, None)


def _next(costs: _Costs, prefix: _Prefix, node: int) -> _Prefix:
    done = prefix.done | 1 << node
    dead = [m for m in costs.touches[node] if not costs.readers[m] & ~done]
    made = sum(costs.bytes[m] for m in costs.makes[node])
    over = costs.over[node]
    shared = made if over in dead and costs.bytes[over] == made else 0
    peak = max(prefix.peak, prefix.alive + made - shared + costs.scratch[node])
    alive = prefix.alive + made - sum(costs.bytes[m] for m in dead)
    return _Prefix(done, alive, peak, node, prefix)


def _costs(graph: Graph) -> _Costs:
    root = _roots(graph)
    writer = {tensor: i for i, node in enumerate(graph.nodes) for tensor in node.outputs}
    forever = 1 << len(graph.nodes)
    size: dict[int, int] = {}
    readers: dict[int, int] = {}
    for tensor, memory in root.items():
        size[memory] = max(size.get(memory, 0), graph.tensors[tensor].bytes)
        readers.setdefault(memory, 0)
    needs, users = [], [set[int]() for _ in graph.nodes]
    for i, node in enumerate(graph.nodes):
        before = {writer[t] for t in node.inputs if t in writer}
        needs.append(sum(1 << j for j in before))
        for j in before:
            users[j].add(i)
        for tensor in (*node.inputs, *node.outputs):  # what nobody reads dies with its writer
            if tensor in root:
                readers[root[tensor]] |= 1 << i
    for tensor in (*graph.outputs, *(state.written for state in graph.states)):
        if tensor in root:
            readers[root[tensor]] |= forever
    return _Costs(
        needs=tuple(needs),
        users=tuple(tuple(sorted(some)) for some in users),
        bytes=size,
        readers=readers,
        touches=tuple(
            tuple(sorted({root[t] for t in (*node.inputs, *node.outputs) if t in root}))
            for node in graph.nodes
        ),
        makes=tuple(tuple(t for t in node.outputs if root.get(t) == t) for node in graph.nodes),
        scratch=tuple(0 if OPS[n.op].alias else lowered(graph, n).scratch for n in graph.nodes),
        over=tuple(root.get(n.inputs[0], -1) if n.inputs and OPS[n.op].in_place else -1 for n in graph.nodes),
    )


def _roots(graph: Graph) -> dict[int, int]:
    """Return run-time tensor → tensor whose memory it is, looking through reshapes; states live elsewhere."""
    root = {i: i for i in graph.inputs}
    states = {state.read for state in graph.states}
    for node in graph.nodes:
        for tensor in node.outputs:
            source = node.inputs[0] if node.inputs else -1
            if not OPS[node.op].alias:
                root[tensor] = tensor
            elif source in root:
                root[tensor] = root[source]
            elif source in states:
                states.add(tensor)
    return root
