"""Small edits of a frozen graph that the passes share, and an index of who reads and writes what."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from firmware.compiler.graph import Graph, Node, Tensor


@dataclass(frozen=True)
class Links:
    """Who reads and who writes each tensor of one graph, looked up in one step."""

    readers: Mapping[int, tuple[Node, ...]]
    writers: Mapping[int, Node]
    kept: frozenset[int]  # read from outside: outputs, and what states become
    followed: dict[tuple[int, bool], Any] = field(default_factory=dict)  # by passes.factors, each once

    def read(self, tensor: int) -> tuple[Node, ...]:
        """Return the nodes that read a tensor, in order, each once."""
        return self.readers.get(tensor, ())

    def only(self, tensor: int, op: str = "") -> Node | None:
        """Return the one node (of this op) that reads a tensor, None when there is another reader."""
        found = self.read(tensor)
        single = len(found) == 1 and tensor not in self.kept
        return found[0] if single and op in ("", found[0].op) else None

    def writer(self, tensor: int, *ops: str) -> Node | None:
        """Return the node (of one of these ops) that writes a tensor, None for an input or a constant."""
        found = self.writers.get(tensor)
        return found if found is not None and (not ops or found.op in ops) else None


def links(graph: Graph) -> Links:
    """Return the index of a graph."""
    readers: dict[int, list[Node]] = {}
    writers: dict[int, Node] = {}
    for node in graph.nodes:
        for index in dict.fromkeys(node.inputs):
            readers.setdefault(index, []).append(node)
        writers.update(dict.fromkeys(node.outputs, node))
    return Links({index: tuple(nodes) for index, nodes in readers.items()}, writers, kept(graph))


def kept(graph: Graph) -> frozenset[int]:
    """Return the tensors that are read after a run: outputs, and what states become."""
    return frozenset(graph.outputs) | {state.written for state in graph.states}


def add_tensors(graph: Graph, new: Iterable[Tensor]) -> Graph:
    """Return the graph with tensors put behind the others."""
    return replace(graph, tensors=(*graph.tensors, *new))


def redirect(graph: Graph, instead: Mapping[int, int]) -> Graph:
    """Return the graph with every read of a key of `instead` reading its value; chains are followed."""

    def final(tensor: int) -> int:
        while tensor in instead:
            tensor = instead[tensor]
        return tensor

    nodes = tuple(replace(node, inputs=tuple(map(final, node.inputs))) for node in graph.nodes)
    return replace(graph, nodes=nodes, outputs=tuple(map(final, graph.outputs)))


def in_order(nodes: Sequence[Node]) -> tuple[Node, ...] | None:
    """Return the nodes, each after what it reads and else as given; None when they go round in circles."""
    writer = {index: i for i, node in enumerate(nodes) for index in node.outputs}
    after: list[list[int]] = [[] for _ in nodes]
    waiting = []
    for i, node in enumerate(nodes):
        needed = {writer[index] for index in node.inputs if index in writer}
        waiting.append(len(needed))
        for other in needed:
            after[other].append(i)
    ready = [i for i, count in enumerate(waiting) if not count]
    made = []
    while ready:
        i = heapq.heappop(ready)
        made.append(nodes[i])
        for other in after[i]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, other)
    return tuple(made) if len(made) == len(nodes) else None


def drop_unused(graph: Graph) -> Graph:
    """Return the graph without nodes whose outputs nobody reads."""
    needed = set(kept(graph))
    remaining: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            remaining.append(node)
    return replace(graph, nodes=tuple(reversed(remaining)))
