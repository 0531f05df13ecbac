"""Finds unrolled recurrences: the same small subgraph for every row, each taking what the one before made.

Every tensor gets the latest row that it depends on. Then a tensor of the last step is laid over one of the
step before, op by op down to the rows: when all steps from the second on lie over each other, they are one
step repeated. The first may differ, because its state was a known zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from firmware.compiler.graph import Graph, Node, Quantisation
from firmware.compiler.operands import strides
from firmware.compiler.ops import slice as slices
from firmware.compiler.passes.rewrite import links
from firmware.compiler.stream.flow import Flow
from firmware.compiler.stream.shapes import split_axis

FEWEST = 4  # steps that count as repeated
WEIGHTED = ("BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
JOINS = ("PACK", "CONCATENATION")


@dataclass(frozen=True)
class Row:
    """One row of a tensor, perhaps some of its channels: what a STRIDED_SLICE takes."""

    source: int
    row: int
    begin: tuple[int, ...]
    move: tuple[int, ...]
    count: tuple[int, ...]
    shape: tuple[int, ...]  # of the result

    @property
    def kind(self) -> tuple[object, ...]:
        """Return all but the row."""
        return self.source, self.begin, self.move, self.count, self.shape


@dataclass(frozen=True)
class Repeat:
    """A step that is repeated for every row of some tensors that flow."""

    rows: Mapping[int, Row]  # tensors of the graph that are single rows
    step: tuple[Node, ...]  # the last step but one, in order
    first: tuple[Node, ...]  # the first, in order
    carried: Mapping[int, int]  # tensor of the step before that `step` reads → the same of `step`
    begins: Mapping[int, int]  # of the first step: tensor of `step` → the same in `first`
    joins: tuple[tuple[Node, int], ...]  # nodes that put results of all steps side by side, and that result
    last: Mapping[int, int]  # tensors of the last step that others read → the same of `step`
    covered: frozenset[int]  # tensors that the steps write

    @property
    def sources(self) -> set[int]:
        """Return the tensors whose rows are taken."""
        written = {index for node in (*self.step, *self.first) for index in node.outputs}
        read = {index for node in (*self.step, *self.first) for index in node.inputs}
        return {self.rows[index].source for index in (read - written) & set(self.rows)}


@dataclass(frozen=True)
class Unequal:
    """Steps that would be one but for their numbers; `why` tells the first difference."""

    why: str
    readers: frozenset[int]  # the rows' tensors


@dataclass
class Cover:
    """Tensors of each step laid over those of the step before."""

    before: dict[int, int] = field(default_factory=dict)
    after: dict[int, int] = field(default_factory=dict)
    differences: list[tuple[int, str]] = field(default_factory=list)


def find(graph: Graph, flows: Mapping[int, Flow], done: frozenset[int]) -> Repeat | Unequal | None:
    """Return the first repeated step over rows of tensors that flow, None when there is none.

    `done` are tensors of repeats that were found before.
    """
    found = Finder(graph, flows, done)
    return found.search() if found.count >= FEWEST else None


class Finder:
    """One search: the rows, the latest row of each tensor, and what lies over what."""

    def __init__(self, graph: Graph, flows: Mapping[int, Flow], done: frozenset[int]) -> None:
        self.graph, self.links, self.done = graph, links(graph), done
        self.rows = _complete(dict(_rows(graph, flows, done)), flows)
        rates = {i: (flows[row.source].rows, flows[row.source].step) for i, row in self.rows.items()}
        rate = max(rates.values(), default=(0, 0))
        self.rows = {i: row for i, row in self.rows.items() if rates[i] == rate}
        self.count = rate[0]
        self.latest = {index: row.row for index, row in self.rows.items()}
        for node in graph.nodes:
            seen = [self.latest[i] for i in node.inputs if i in self.latest]
            if seen and node.outputs[0] not in self.latest:
                self.latest.update(dict.fromkeys(node.outputs, max(seen)))

    def search(self) -> Repeat | Unequal | None:
        """Try results that are joined first, then whatever the last step makes."""
        last, cover = self.count - 1, Cover()
        joins = [(node, node.inputs) for node in self.graph.nodes if self._joins(node)]
        for _, results in joins:
            if not self._lay(cover, results[last], results[last - 1]):
                return None
        if not joins and not self._lay_any(cover):
            return None
        if cover.differences:
            step, why = min(cover.differences, key=lambda found: (found[0], not found[1].startswith("scale")))
            text = f"step {step} has another {why}: quantise with shared ranges"
            return Unequal(text, frozenset(self.rows))
        return self._repeat(cover, joins)

    def _joins(self, node: Node) -> bool:
        if node.op not in JOINS or self.done.intersection(node.outputs):
            return False
        shape = self.graph.tensors[node.outputs[0]].shape
        single = shape[int(node.options["axis"]) % len(shape)] == self.count
        return single and [self.latest.get(i, -1) for i in node.inputs] == list(range(self.count))

    def _lay_any(self, cover: Cover) -> bool:
        """Lay the latest tensor of the last step that fits over one of the step before."""
        last = self.count - 1
        tops = [n for n in reversed(self.graph.nodes) if self.latest.get(n.outputs[0]) == last]
        belows = [n for n in reversed(self.graph.nodes) if self.latest.get(n.outputs[0]) == last - 1]
        for top in tops:
            for below in belows:
                tried = Cover()
                if top.op != below.op or not self._lay(tried, top.outputs[0], below.outputs[0]):
                    continue
                if any(self.latest[i] == 0 for i in tried.before.values()):  # it goes back to the first step
                    cover.before, cover.after, cover.differences = (
                        tried.before,
                        tried.after,
                        tried.differences,
                    )
                    return True
        return False

    def _lay(self, cover: Cover, top: int, below: int) -> bool:
        """Lay two tensors over each other with all that they are made of; False when the ops differ."""
        open_ = [(top, below)]
        while open_:
            a, b = open_.pop()
            if cover.before.get(a, b) != b or cover.after.get(b, a) != a:
                return False
            if a in cover.before:
                continue
            if a not in self.latest or b not in self.latest or self.latest[a] != self.latest[b] + 1:
                return False
            if a in self.rows or b in self.rows:
                if a not in self.rows or b not in self.rows or self.rows[a].kind != self.rows[b].kind:
                    return False
                cover.before[a], cover.after[b] = b, a
                continue
            self._compare(cover, a, b)
            cover.before[a], cover.after[b] = b, a
            if self.latest[b] > 0:
                pairs = self._operands(cover, a, b)
                if pairs is None:
                    return False
                open_ += pairs
        return True

    def _operands(self, cover: Cover, a: int, b: int) -> list[tuple[int, int]] | None:
        """Return the operands of the nodes that write a and b, in pairs; None when the nodes differ."""
        over, under = self.links.writers[a], self.links.writers[b]
        same = (over.op, over.options, len(over.inputs)) == (under.op, under.options, len(under.inputs))
        if not same or over.outputs.index(a) != under.outputs.index(b):
            return None
        pairs = list(zip(over.outputs, under.outputs, strict=True))
        for x, y in zip(over.inputs, under.inputs, strict=True):
            if x in self.latest or y in self.latest:
                pairs.append((x, y))
            elif not self._constants(cover, over, x, y):
                return None
        return pairs

    def _constants(self, cover: Cover, node: Node, x: int, y: int) -> bool:
        """Tell whether two constants are alike; those that follow from scales are noted as a difference."""
        if x < 0 or y < 0:
            return x == y
        over, under = self.graph.tensors[x], self.graph.tensors[y]
        if over.data is None or under.data is None or over.shape != under.shape or over.dtype != under.dtype:
            return False
        step = self.latest[node.outputs[0]]
        if not np.array_equal(over.data, under.data):
            if node.op in WEIGHTED and len(over.shape) > 1:
                return False
            cover.differences.append((step, f"constant than step {step - 1} (tensor {over.name!r})"))
        elif not same_scale(over.quantisation, under.quantisation):
            cover.differences.append((step, f"scale than step {step - 1} (tensor {over.name!r})"))
        return True

    def _compare(self, cover: Cover, a: int, b: int) -> None:
        over, under, step = self.graph.tensors[a], self.graph.tensors[b], self.latest[a]
        if not same_scale(over.quantisation, under.quantisation):
            cover.differences.append((step, f"scale than step {step - 1} (tensor {over.name!r})"))
        elif (over.shape, over.dtype) != (under.shape, under.dtype):
            cover.differences.append((step, f"shape than step {step - 1} (tensor {over.name!r})"))

    def _repeat(self, cover: Cover, joins: Sequence[tuple[Node, tuple[int, ...]]]) -> Repeat | None:
        """Return the repeat that a whole cover means; None when something else reads its inside."""
        last, template = self.count - 1, self.count - 2
        inside = set(cover.before) | set(cover.after)
        written = inside - set(self.rows)
        top = [n for n in self.graph.nodes if written.intersection(n.outputs)]
        steps = {t: [n for n in top if self.latest[n.outputs[0]] == t] for t in (template, last)}
        read = {i for n in steps[template] for i in n.inputs if self.latest.get(i, template) < template}
        if any(self.latest[i] != template - 1 or i in self.rows for i in read):
            return None
        if not written or any(i not in cover.after for i in read):
            return None
        carried = {i: cover.after[i] for i in read}
        joined = {results[template] for _, results in joins}
        begins = {i: _down(cover, i) for i in {*carried.values(), *joined}}
        first = self._closure(begins.values())
        if not all(self._known(node) for node in (*steps[template], *first)):
            return None
        covered = written | {i for node in first for i in node.outputs}
        inner = covered | {i for node, _ in joins for i in node.outputs}
        reading = {i for n in self.graph.nodes if not inner.intersection(n.outputs) for i in n.inputs}
        seen = covered & (reading | set(self.links.kept))
        if any(self.latest[i] != last or i not in cover.before for i in seen):
            return None
        for _, results in joins:
            if any(cover.before.get(i) != j for i, j in zip(results[1:], results, strict=False)):
                return None
        return Repeat(
            rows=self.rows,
            step=tuple(steps[template]),
            first=tuple(first),
            carried=carried,
            begins=begins,
            joins=tuple((join, results[template]) for join, results in joins),
            last={i: cover.before[i] for i in seen},
            covered=frozenset(covered) | {i for i in self.rows if self._inner(i, inner)},
        )

    def _inner(self, row: int, inner: set[int]) -> bool:
        """Tell whether only the steps read a row."""
        readers = self.links.read(row)
        return row not in self.links.kept and all(inner.intersection(node.outputs) for node in readers)

    def _known(self, node: Node) -> bool:
        """Tell whether a node reads nothing but constants and what the rows make."""
        return all(i < 0 or i in self.latest or self.graph.tensors[i].constant for i in node.inputs)

    def _closure(self, wanted: Iterable[int]) -> list[Node]:
        """Return the nodes that the tensors of the first step are made by, in order."""
        needed = set(wanted)
        made = []
        for node in reversed(self.graph.nodes):
            if needed.intersection(node.outputs) and self.latest.get(node.outputs[0]) == 0:
                if node.outputs[0] in self.rows:
                    continue
                needed.update(node.inputs)
                made.append(node)
        return made[::-1]


def same_scale(a: Quantisation | None, b: Quantisation | None) -> bool:
    """Tell whether two quantisations are equal."""
    if a is None or b is None:
        return a is b
    return np.array_equal(a.scale, b.scale) and np.array_equal(a.zero_point, b.zero_point)


def _down(cover: Cover, index: int) -> int:
    """Return what lies at the bottom under a tensor: that of the first step."""
    while index in cover.before:
        index = cover.before[index]
    return index


def _rows(graph: Graph, flows: Mapping[int, Flow], done: frozenset[int]) -> Iterator[tuple[int, Row]]:
    """Give the tensors that are single rows of what flows from the start on."""
    for node in graph.nodes:
        position = 1 if node.op == "SPLIT" else 0
        source = node.inputs[position] if len(node.inputs) > position else -1
        flow = flows.get(source)
        if flow is None or not flow.filled or flow.lead or flow.ahead or done.intersection(node.outputs):
            continue
        if node.op in ("SLICE", "STRIDED_SLICE"):
            yield from _sliced(graph, node, flow)
        elif node.op in ("SPLIT", "SPLIT_V", "UNPACK"):
            yield from _split(graph, node, flow, source)


def _sliced(graph: Graph, node: Node, flow: Flow) -> Iterator[tuple[int, Row]]:
    x, view = graph.tensors[node.inputs[0]].shape, slices.view(graph, node)
    begin = [int(i) for i in np.unravel_index(view.start, x)]
    if view.shape[flow.axis] != 1:
        return
    move = tuple(int(step // own) for step, own in zip(view.steps, strides(x), strict=True))
    row, begin[flow.axis] = begin[flow.axis], 0
    shape = graph.tensors[node.outputs[0]].shape
    yield node.outputs[0], Row(node.inputs[0], row, tuple(begin), move, tuple(view.shape), shape)


def _split(graph: Graph, node: Node, flow: Flow, source: int) -> Iterator[tuple[int, Row]]:
    x = graph.tensors[source].shape
    if split_axis(graph, node) != flow.axis or len(node.outputs) != flow.rows:
        return
    count = tuple(1 if i == flow.axis else n for i, n in enumerate(x))
    for row, made in enumerate(node.outputs):
        yield made, Row(source, row, (0,) * len(x), (1,) * len(x), count, graph.tensors[made].shape)


def _complete(rows: Mapping[int, Row], flows: Mapping[int, Flow]) -> dict[int, Row]:
    """Return the rows of kinds that are taken at every time, but for the first."""
    times = Counter(kind for kind, row in {(row.kind, row.row) for row in rows.values()} if row)
    return {i: row for i, row in rows.items() if times[row.kind] == flows[row.source].rows - 1}
