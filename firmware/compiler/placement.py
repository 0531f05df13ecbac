"""Where blocks of memory go: each at an offset where it meets no other that lives at the same time.

A kernel that goes through its input in order may write its output, or its scratch memory, over input that it
has read already: such a pair may overlap as long as the writer starts far enough before the reader.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

ALIGN = 4  # bytes: kernels read whole words
WORK = 1 << 20  # block comparisons spent on shuffled orders, when the sorted ones miss the lower bound


@dataclass(frozen=True)
class Block:
    """Memory that is alive from node `first` to node `last`, both included; -1 is before the first node."""

    name: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Problem:
    """Blocks, and (writer, reader) → bytes by which the writer must start before the reader to overlap it."""

    blocks: Sequence[Block]
    over: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def part(self, chosen: Sequence[int]) -> Problem:
        """Return the problem of some of the blocks, in the order given."""
        at = {block: i for i, block in enumerate(chosen)}
        over = {(at[w], at[r]): n for (w, r), n in self.over.items() if w in at and r in at}
        return Problem([self.blocks[i] for i in chosen], over)

    def forbidden(self, block: int, rival: int, place: int) -> tuple[int, int]:
        """Return the offsets, ends excluded, where `block` meets a rival that lies at `place`."""
        own, other = self.blocks[block].bytes, self.blocks[rival].bytes
        if (block, rival) in self.over:
            return place - min(self.over[block, rival], own), place + other
        if (rival, block) in self.over:
            return place - own, place + min(self.over[rival, block], other)
        return place - own, place + other


def aligned(size: int) -> int:
    """Return the size rounded up to whole words; a negative one towards zero."""
    return -(-size // ALIGN) * ALIGN


def end(blocks: Sequence[Block], places: Sequence[int]) -> int:
    """Return the bytes up to the end of the last block."""
    return max((place + block.bytes for place, block in zip(places, blocks, strict=True)), default=0)


def crowd(blocks: Sequence[Block], nodes: int) -> tuple[int, int]:
    """Return (most blocks alive at once, pairs of them that meet plus nodes that each lives through)."""
    change = [0] * (nodes + 3)  # from the node before, starting before the first
    for block in blocks:
        change[block.first + 1] += 1
        change[block.last + 2] -= 1
    alive = list(itertools.accumulate(change))
    return max(alive), sum(alive) + sum(alive[block.first + 1] for block in blocks)


def bound(problem: Problem, nodes: int) -> int:
    """Return the bytes that must be there at the worst node, or before the first or after the last."""
    change = [0] * (nodes + 3)  # from the node before, starting before the first
    for block in problem.blocks:
        change[block.first + 1] += block.bytes
        change[block.last + 2] -= block.bytes
    for (writer, reader), behind in problem.over.items():
        w, r = problem.blocks[writer], problem.blocks[reader]
        together = max(r.bytes + behind, w.bytes, r.bytes)
        saved = max(w.bytes + r.bytes - together, 0)
        change[w.first + 1] -= saved
        change[w.first + 2] += saved
    return max(itertools.accumulate(change))


def best(problem: Problem, least: int) -> list[int]:
    """Return the offsets of the smallest arena found: blocks in several orders, then in shuffled ones."""
    blocks, rivals = problem.blocks, _rivals(problem.blocks)
    generator = random.Random(0)
    tries = min(400, WORK // (1 + sum(map(len, rivals))))
    found: list[int] = []
    for attempt in range(len(ORDERS) + tries):
        order = list(range(len(blocks)))
        if attempt < len(ORDERS):
            order.sort(key=lambda i: ORDERS[attempt](blocks[i]))
        elif attempt % 2:
            order.sort(key=lambda i: -blocks[i].bytes * generator.uniform(0.3, 1.0))
        else:  # backwards in time, more or less: outputs find their place below what they overwrite
            order.sort(key=lambda i: generator.uniform(0, 3) - blocks[i].first)
        places = _place(problem, order, rivals)
        if not found or end(blocks, places) < end(blocks, found):
            found = places
        if end(blocks, found) <= least:
            break
    return found


ORDERS: tuple[Callable[[Block], tuple[int, ...]], ...] = (
    lambda b: (-b.bytes, b.first),
    lambda b: (-b.first, -b.bytes),
    lambda b: (-(b.last - b.first), -b.bytes),
    lambda b: (-b.bytes * (b.last - b.first + 1), b.first),
    lambda b: (b.first, -b.bytes),
    lambda b: (-b.last, -b.bytes),
)


def fill(problem: Problem, order: Sequence[int], limit: int) -> dict[int, int]:
    """Return the offsets of those blocks that, each in turn, still found a place below the limit."""
    places = [-1] * len(problem.blocks)
    rivals = _rivals(problem.blocks)
    for i in order:
        at = _lowest(problem, i, rivals[i], places)
        if at + problem.blocks[i].bytes <= limit:
            places[i] = at
    return {i: place for i, place in enumerate(places) if place >= 0}


def _rivals(blocks: Sequence[Block]) -> list[list[int]]:
    """Return, for each block, those that are alive at a same node."""
    rivals: list[list[int]] = [[] for _ in blocks]
    alive: list[int] = []
    for i in sorted(range(len(blocks)), key=lambda i: blocks[i].first):
        alive = [j for j in alive if blocks[j].last >= blocks[i].first]
        for j in alive:
            rivals[i].append(j)
            rivals[j].append(i)
        alive.append(i)
    return rivals


def _place(problem: Problem, order: Sequence[int], rivals: Sequence[Sequence[int]]) -> list[int]:
    """Return the offsets when each block in turn takes the lowest place that its rivals leave free."""
    places = [-1] * len(problem.blocks)
    for i in order:
        places[i] = _lowest(problem, i, rivals[i], places)
    return places


def _lowest(problem: Problem, block: int, rivals: Sequence[int], places: Sequence[int]) -> int:
    at = 0
    for low, high in sorted(problem.forbidden(block, j, places[j]) for j in rivals if places[j] >= 0):
        if at <= low:
            break
        at = max(at, high)
    return at
