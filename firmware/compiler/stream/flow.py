"""What flows through a streaming model: rows of time, a few new ones in each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from firmware.compiler.graph import Array, Graph, Node, State, Tensor
from firmware.compiler.passes.rewrite import links


class BlockedError(Exception):
    """The node cannot take rows as they come; the text says why."""


@dataclass(frozen=True)
class Flow:
    """Time in a tensor: which axis, how many rows the whole window has and how many each step brings.

    `filled` means that from a fresh start on every row is one of the window; else the first ones came from
    filters that had not seen enough rows yet.

    `lead` rows in front are padding with the zero-point, which no step brings. `ahead` rows at the end look
    past the end of the window, so that no step can bring them yet.
    """

    axis: int
    rows: int
    step: int
    filled: bool = True
    lead: int = 0
    ahead: int = 0


@dataclass
class Builder:
    """The streaming graph while it is made: tensors and nodes so far, and where each old tensor went."""

    graph: Graph
    tensors: list[Tensor] = field(init=False)
    nodes: list[Node] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    fresh: dict[int, int] = field(default_factory=dict)  # old tensor → its new rows
    flows: dict[int, Flow] = field(default_factory=dict)  # of the old tensors that flow
    whole: dict[int, int] = field(default_factory=dict)  # old tensor → all its rows
    windows: dict[tuple[int, int], int] = field(default_factory=dict)  # (old tensor, rows) → its last rows
    remembers: bool = False  # the stream looks further back than a window does

    def __post_init__(self) -> None:
        self.tensors = list(self.graph.tensors)
        self.writers = links(self.graph).writers

    def tensor(self, like: Tensor, shape: Sequence[int], name: str = "") -> int:
        """Add a run-time tensor like another, of another shape, and return its index."""
        self.tensors.append(replace(like, shape=tuple(shape), name=name or like.name, data=None))
        return len(self.tensors) - 1

    def constant(self, like: Tensor, data: Array) -> int:
        """Add a constant like another and return its index."""
        self.tensors.append(replace(like, shape=data.shape, data=data))
        return len(self.tensors) - 1

    def window(self, old: int, rows: int) -> int:
        """Return the last `rows` rows of a tensor that flows: new ones behind those remembered."""
        flow, new = self.flows[old], self.fresh[old]
        if rows == flow.step:
            return new
        if (old, rows) in self.windows:
            return self.windows[old, rows]
        like = self.graph.tensors[old]
        shape = [rows if i == flow.axis else n for i, n in enumerate(like.shape)]
        kept, moved = (self.tensor(like, shape, f"{like.name} {word}") for word in ("kept", "window"))
        zero = 0 if like.quantisation is None else int(like.quantisation.zero_point[0])
        self.states.append(State(kept, moved, zero))
        self.nodes.append(
            Node("EAR_SHIFT", (kept, new), (moved,), {"axis": flow.axis}, 1, f"{like.name} window")
        )
        self.windows[old, rows] = moved
        return moved

    def cut(self, source: int, axis: int, begin: int, count: int) -> int:
        """Return `count` rows of a new tensor, from `begin` on."""
        like = self.tensors[source]
        if (begin, count) == (0, like.shape[axis]):
            return source
        shape = [count if i == axis else n for i, n in enumerate(like.shape)]
        made = self.tensor(like, shape, f"{like.name} rows")
        first = self.integers([begin if i == axis else 0 for i in range(len(shape))])
        inputs = (source, first, self.integers(shape))
        self.nodes.append(Node("SLICE", inputs, (made,), {}, 1, f"{like.name} rows"))
        return made

    def integers(self, values: Sequence[int]) -> int:
        """Add a constant of int32 and return its index."""
        data = np.array(values, np.int32)
        self.tensors.append(Tensor(f"numbers {len(self.tensors)}", data.shape, "int32", data=data))
        return len(self.tensors) - 1

    def materialise(self, old: int) -> int:
        """Return the whole window of a tensor, remembered where it flows."""
        if old in self.flows and old not in self.whole:
            flow = self.flows[old]
            if flow.lead or flow.ahead:  # no step brings all its rows: worked out anew
                self.add_whole(self.writers[old])
            else:
                self.whole[old] = self.window(old, flow.rows)
        return self.whole.get(old, old)

    def add(self, node: Node, inputs: Mapping[int, int], outputs: Sequence[Flow]) -> None:
        """Add a node for new rows: some inputs (by position) replaced, each output with its flow."""
        made = []
        for old, flow in zip(node.outputs, outputs, strict=True):
            like = self.graph.tensors[old]
            shape = [flow.step if i == flow.axis else n for i, n in enumerate(like.shape)]
            self.fresh[old] = self.tensor(like, shape)
            self.flows[old] = flow
            made.append(self.fresh[old])
        operands = tuple(inputs.get(i, t) for i, t in enumerate(node.inputs))
        self.nodes.append(replace(node, inputs=operands, outputs=tuple(made)))

    def add_whole(self, node: Node) -> None:
        """Add a node as it is, over whole windows."""
        inputs = tuple(i if i < 0 else self.materialise(i) for i in node.inputs)
        options = node.options
        if "chain" in options:  # steps that read the inputs themselves
            moved = dict(zip(node.inputs, inputs, strict=True))
            chain = (replace(s, inputs=tuple(moved.get(i, i) for i in s.inputs)) for s in options["chain"])
            options = {**options, "chain": tuple(chain)}
        self.nodes.append(replace(node, inputs=inputs, options=options))
        self.whole.update((old, old) for old in node.outputs)


Rule = Callable[[Builder, Node, Mapping[int, Flow]], None]  # flows of the inputs by position


def only(flows: Mapping[int, Flow], position: int, *, lead: bool = False, ahead: bool = False) -> Flow:
    """Return the flow of an input; BlockedError when it has none, or borders that the op cannot take."""
    if position not in flows:
        raise BlockedError("time enters it through a parameter")
    flow = flows[position]
    if flow.lead and not lead:
        raise BlockedError("the time axis is padded in front of it")
    if flow.ahead and not ahead:
        raise BlockedError(f"the last {flow.ahead} rows look past the end of the window: cut them off")
    return flow


def fresh(b: Builder, node: Node, flows: Mapping[int, Flow]) -> dict[int, int]:
    """Return the new rows of every input that flows, by position."""
    return {position: b.fresh[node.inputs[position]] for position in flows}


def located(flow: Flow, x: tuple[int, ...], y: tuple[int, ...]) -> Flow:
    """Return the flow in a reshaped tensor: the axis of as many rows behind as many elements."""
    for axis, size in enumerate(y):
        if size == flow.rows and math.prod(y[:axis]) == math.prod(x[: flow.axis]):
            return replace(flow, axis=axis)
    raise BlockedError("it merges the time axis with others")


def regrouped(flow: Flow, x: tuple[int, ...], y: tuple[int, ...]) -> Flow:
    """Return the flow where rows become chunks of rows, or chunks become rows; else as `located`.

    Chunks fill the window, and each step brings whole ones.
    """
    before = math.prod(x[: flow.axis])
    for axis, size in enumerate(y[:-1]):
        apart = size != flow.rows and size > 1 and math.prod(y[:axis]) == before
        even = max(size, flow.rows) % min(size, flow.rows) == 0
        if apart and even and not flow.lead and not flow.ahead:
            step, rest = divmod(flow.step * size, flow.rows)
            if rest:
                raise BlockedError(
                    f"its chunks of {flow.rows // size} do not divide the {flow.step} new rows"
                )
            return replace(flow, axis=axis, rows=size, step=step)
    return located(flow, x, y)


def values(graph: Graph, node: Node, position: int) -> list[int]:
    """Return the integers of a constant input; BlockedError when they are computed."""
    data = graph.tensors[node.inputs[position]].data
    if data is None:
        raise BlockedError("its parameters are computed")
    return [int(n) for n in np.asarray(data).reshape(-1)]
