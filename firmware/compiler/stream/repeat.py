"""Streams a repeated step: one copy for each new row, what goes from step to step kept from hop to hop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from firmware.compiler.graph import Array, Node, State, Tensor
from firmware.compiler.stream.flow import Builder, Flow
from firmware.compiler.stream.steps import Repeat, Row, same_scale


@dataclass
class Copies:
    """The copies of a step under construction."""

    b: Builder
    repeat: Repeat
    flow: Flow
    taken: dict[tuple[object, int], int] = field(default_factory=dict)  # (kind of row, row) → its tensor

    def row(self, row: Row, new: int) -> int:
        """Return one new row, taken once."""
        key = row.kind, new
        if key not in self.taken:
            axis = self.b.flows[row.source].axis
            begin = [new if i == axis else first for i, first in enumerate(row.begin)]
            end = [
                first + move * count for first, move, count in zip(begin, row.move, row.count, strict=True)
            ]
            mask = sum(1 << i for i, last in enumerate(end) if last < 0)
            like = self.b.graph.tensors[row.source]
            made = self.b.tensor(like, row.count, f"{like.name} row")
            numbers = (self.b.integers(values) for values in (begin, end, row.move))
            inputs = (self.b.fresh[row.source], *numbers)
            name = f"{like.name} row"
            self.b.nodes.append(Node("STRIDED_SLICE", inputs, (made,), {"end_mask": mask}, 1, name))
            if row.shape != row.count:
                flat = self.b.tensor(like, row.shape, name)
                self.b.nodes.append(Node("RESHAPE", (made,), (flat,), {}, 1, name))
                made = flat
            self.taken[key] = made
        return self.taken[key]

    def copy(self, nodes: tuple[Node, ...], new: int, before: Mapping[int, int]) -> dict[int, int]:
        """Add nodes for a new row, reading `before` of the last step; return where each tensor went."""
        made = dict(before)
        for node in nodes:
            for index in node.inputs:
                if index in self.repeat.rows:
                    made[index] = self.row(self.repeat.rows[index], new)
            for index in node.outputs:
                made[index] = self.b.tensor(self.b.graph.tensors[index], self.b.graph.tensors[index].shape)
            inputs = tuple(made.get(index, index) for index in node.inputs)
            outputs = tuple(made[index] for index in node.outputs)
            self.b.nodes.append(replace(node, inputs=inputs, outputs=outputs))
        return made


def add(b: Builder, repeat: Repeat) -> None:
    """Add a copy of the step for each new row, their joined results, and what the last one made."""
    flow = b.flows[next(iter(repeat.sources))]
    copies = Copies(b, repeat, flow)
    known = _initial(b, repeat)
    b.remembers |= bool(repeat.carried)
    kept = {}
    for old, new in repeat.carried.items():
        like = b.graph.tensors[new]
        kept[old] = b.tensor(like, like.shape, f"{like.name} before")
    results, before = [], dict(kept)
    for row in range(flow.step):
        made = copies.copy(repeat.step, row, before)
        if row == 0 and known is None:
            _begin(copies, made)
        before = {old: made[new] for old, new in repeat.carried.items()}
        results.append(made)
    for old, new in repeat.carried.items():
        like = b.graph.tensors[new]
        zero = 0 if like.quantisation is None else int(like.quantisation.zero_point[0])
        value: int | Array = zero if known is None else known[new]
        b.states.append(State(kept[old], results[-1][new], value))
    for join, result in repeat.joins:
        shape = b.graph.tensors[join.outputs[0]].shape
        axis = int(join.options["axis"]) % len(shape)
        parts = tuple(made[result] for made in results)
        out = b.tensor(
            b.graph.tensors[join.outputs[0]], [flow.step if i == axis else n for i, n in enumerate(shape)]
        )
        options = {**join.options, **({"values_count": len(parts)} if join.op == "PACK" else {})}
        b.nodes.append(replace(join, inputs=parts, outputs=(out,), options=options))
        b.fresh[join.outputs[0]], b.flows[join.outputs[0]] = out, Flow(axis, flow.rows, flow.step)
    b.whole.update((last, results[-1][new]) for last, new in repeat.last.items())


def _begin(copies: Copies, made: dict[int, int]) -> None:
    """Let the first row of the stream take what the window's first step makes, which has a known state."""
    b = copies.b
    first = copies.copy(copies.repeat.first, 0, {})
    b.tensors.append(Tensor("true", (1,), "bool", data=np.array([True])))
    true = len(b.tensors) - 1
    started, goes_on = (b.tensor(b.tensors[true], (1,), name) for name in ("started", "goes on"))
    b.nodes.append(Node("EAR_COPY", (true,), (goes_on,), {}, 1, "goes on"))
    b.states.append(State(started, goes_on, 0))
    for new, old in copies.repeat.begins.items():
        begun = copies.row(copies.repeat.rows[old], 0) if old in copies.repeat.rows else first[old]
        like = b.graph.tensors[new]
        chosen = b.tensor(like, like.shape, f"{like.name} begun")
        b.nodes.append(Node("SELECT_V2", (started, made[new], begun), (chosen,), {}, 1, f"{like.name} begun"))
        made[new] = chosen


def _initial(b: Builder, repeat: Repeat) -> dict[int, Array] | None:
    """Return the carried values that make the step the first one, None when it is made of other ops."""
    known: dict[int, Array] = {}
    writers = {index: node for node in (*repeat.step, *repeat.first) for index in node.outputs}
    open_, seen = list(repeat.begins.items()), set()
    while open_:
        new, old = pair = open_.pop()
        if pair in seen or _equal(b, repeat, new, old):
            continue
        seen.add(pair)
        if new in repeat.carried:
            role, data = repeat.carried[new], b.graph.tensors[old].data
            if data is None or not _alike(b, role, old):
                return None
            if not np.array_equal(known.setdefault(role, data), data):
                return None
        elif new in writers and old in writers:
            over, under = writers[new], writers[old]
            same = (over.op, over.options, len(over.inputs)) == (under.op, under.options, len(under.inputs))
            if not same or over.outputs.index(new) != under.outputs.index(old) or not _alike(b, new, old):
                return None
            open_ += zip(over.inputs, under.inputs, strict=True)
        else:
            return None
    return known if set(known) == set(repeat.carried.values()) else None


def _alike(b: Builder, one: int, other: int) -> bool:
    """Tell whether two tensors have one form."""
    x, y = b.graph.tensors[one], b.graph.tensors[other]
    return (x.shape, x.dtype) == (y.shape, y.dtype) and same_scale(x.quantisation, y.quantisation)


def _equal(b: Builder, repeat: Repeat, new: int, old: int) -> bool:
    """Tell whether an operand is the same in the step and the first one: a kind of row, or a constant."""
    if new < 0 or old < 0 or new in repeat.carried:
        return new == old
    if new in repeat.rows and old in repeat.rows:
        return repeat.rows[new].kind == repeat.rows[old].kind
    one, other = b.graph.tensors[new].data, b.graph.tensors[old].data
    return one is not None and other is not None and _alike(b, new, old) and np.array_equal(one, other)
