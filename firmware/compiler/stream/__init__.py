"""The streaming pass: a model of a whole window becomes steps of a few new rows, with memory of the rest.

Every op that takes rows as they come does so, and remembers what its next outputs need again (convolutions
and pools the rows under their filter). From the first op that cannot (attention over the window, a mean over
all rows, padding behind the last one) its input's rows are remembered whole and the rest runs as before. So
the stream equals the window model always; what it saves depends on how far the rows flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from firmware.compiler import interp
from firmware.compiler.graph import Array, Graph, ModelError, Node
from firmware.compiler.ops import OPS
from firmware.compiler.stream.flow import BlockedError, Builder, Flow
from firmware.compiler.stream.repeat import add as add_repeat
from firmware.compiler.stream.rules import REASONS, RULES
from firmware.compiler.stream.steps import Repeat, Unequal, find

AXIS = 1  # of the model's input: time


@dataclass(frozen=True)
class Streamed:
    """A streaming model: what each step takes and makes, and how far its rows flow."""

    graph: Graph  # one step; the input has `rows` rows
    rows: int  # new in each step
    window: int  # rows of the window model
    outputs: int  # rows that each step gives, 0 when it gives what a window gives
    remembers: bool  # causal padding or states: equals the window only while it started with the stream
    stopped_by: str  # the first node that needs its window whole, and why; "" when all rows flow
    macs: int  # of a step
    window_macs: int  # of a window

    def record(self) -> dict[str, Any]:
        """Return all but the graph, for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "graph"}


def stream(graph: Graph, rows: int) -> Streamed:
    """Return the streaming form of a graph after passes, for `rows` new rows of its input in each step.

    Raises:
        ModelError: it has several inputs or no time axis, or not one weighted op can take rows as they come.
    """
    window = _window(graph, rows)
    repeats: list[Repeat] = []
    while True:
        b, stopped = _passed(graph, window, rows, repeats)
        done = frozenset(i for repeat in repeats for i in (*repeat.covered, *repeat.rows))
        found = find(graph, b.flows, done)
        if not isinstance(found, Repeat):
            break
        repeats.append(found)
    why = _explained(stopped[0], found) if stopped else ""
    made = _finish(b)
    weighted = [node for node in graph.nodes if OPS[node.op].macs(graph, node)]
    flowing = set(b.flows).union(*(repeat.covered for repeat in repeats))
    if weighted and not any(node.outputs[0] in flowing for node in weighted):
        cure = "train it with causal or valid padding, or compile it without --hop"
        raise ModelError(f"{graph.name} cannot be streamed: {why}: {cure}")
    end = b.flows.get(graph.outputs[0])
    if b.remembers and window % rows:
        raise ModelError(
            f"{graph.name}: a window of {window} rows is no multiple of {rows} new ones: use another --hop"
        )
    outputs = 0 if end is None or end.ahead else end.step
    return Streamed(made, rows, window, outputs, b.remembers, why, _macs(made), _macs(graph))


def _passed(
    graph: Graph, window: int, rows: int, repeats: Sequence[Repeat]
) -> tuple[Builder, list[tuple[Node, str]]]:
    """Return the stream with the repeats known so far, and the nodes that need whole windows, with why."""
    b = Builder(graph)
    first = graph.inputs[0]
    b.flows[first] = Flow(AXIS, window, rows)
    shape = graph.tensors[first].shape
    b.fresh[first] = b.tensor(graph.tensors[first], (*shape[:AXIS], rows, *shape[AXIS + 1 :]))
    stopped: list[tuple[Node, str]] = []
    for part in _in_order(graph, repeats):
        if isinstance(part, Repeat):
            add_repeat(b, part)
        elif why := _step(b, part):
            stopped.append((part, why))
    return b, stopped


def _explained(stopped: tuple[Node, str], found: Unequal | None) -> str:
    """Return the text of the first node that needs its window whole: rows are taken apart for a reason."""
    node, why = stopped
    if found is not None and found.readers.intersection(node.outputs):
        why = found.why
    return f"{node.op} {node.name!r}: {why}"


def _in_order(graph: Graph, repeats: Sequence[Repeat]) -> list[Node | Repeat]:
    """Return the nodes with each repeat in the place of its own: behind all that does not depend on it."""
    parts: list[Node | Repeat] = list(graph.nodes)
    for repeat in repeats:
        made = {*repeat.covered, *(join.outputs[0] for join, _ in repeat.joins)}
        after = set(made)
        before: list[Node | Repeat] = []
        behind: list[Node | Repeat] = []
        for part in parts:
            if isinstance(part, Repeat):
                before.append(part)
            elif made.issuperset(part.outputs):
                continue
            elif after.intersection(part.inputs):
                after.update(part.outputs)
                behind.append(part)
            else:
                before.append(part)
        parts = [*before, repeat, *behind]
    return parts


def _macs(graph: Graph) -> int:
    return sum(OPS[node.op].macs(graph, node) for node in graph.nodes)


def _window(graph: Graph, rows: int) -> int:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        ends = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise ModelError(f"{graph.name} has {ends}: a stream has one of each")
    shape = graph.tensors[graph.inputs[0]].shape
    if len(shape) < 2 or shape[0] != 1:
        raise ModelError(f"{graph.name} takes {shape}: a stream needs (1, rows, …)")
    if not 0 < rows < shape[AXIS]:
        raise ModelError(
            f"{graph.name}: a hop of {rows} rows must be shorter than the window of {shape[AXIS]}"
        )
    return shape[AXIS]


def _step(b: Builder, node: Node) -> str:
    """Add the node to the stream; return why it needs its window whole, "" when it does not."""
    flows = {position: b.flows[t] for position, t in enumerate(node.inputs) if t in b.flows}
    known = {state.read for state in b.graph.states}
    if not flows:
        _add_whole(b, node, "its input is a whole window")
        return ""
    try:
        for position, tensor in enumerate(node.inputs):
            run_time = tensor >= 0 and not b.graph.tensors[tensor].constant and tensor not in known
            if run_time and position not in flows:
                raise BlockedError("it mixes rows with what stands for the whole window")
        if node.op not in RULES:
            raise BlockedError(REASONS[node.op])
        RULES[node.op](b, node, flows)
    except BlockedError as why:
        _add_whole(b, node, str(why))
        return str(why)
    return ""


def _add_whole(b: Builder, node: Node, why: str) -> None:
    states = {state.read for state in b.graph.states}
    if states.intersection(node.inputs):
        what = f"{node.op} {node.name!r} keeps a state while windows overlap: {why}"
        raise ModelError(f"{b.graph.name} cannot be streamed: {what}: compile it without --hop")
    b.add_whole(node)


def _finish(b: Builder) -> Graph:
    outputs = tuple(
        b.fresh[i] if i in b.flows and not b.flows[i].ahead else b.materialise(i) for i in b.graph.outputs
    )
    made = replace(
        b.graph,
        tensors=tuple(b.tensors),
        nodes=tuple(b.nodes),
        inputs=(b.fresh[b.graph.inputs[0]],),
        outputs=outputs,
        states=(*b.graph.states, *b.states),
    )
    return _used(made).verify()


def _used(graph: Graph) -> Graph:
    """Return the graph without nodes and states that no output depends on."""
    needed, count = set(graph.outputs), 0
    while count != len(needed):
        count = len(needed)
        needed.update(state.written for state in graph.states if state.read in needed)
        for node in reversed(graph.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
    nodes = tuple(node for node in graph.nodes if needed.intersection(node.outputs))
    return replace(graph, nodes=nodes, states=tuple(s for s in graph.states if s.read in needed))


def prove(whole: Graph, made: Streamed, signal: Array) -> int:
    """Compare the stream with the window model on a signal (rows, …); return how many windows were compared.

    Raises:
        AssertionError: they differ, which is a bug of the pass.
        ModelError: the signal is shorter than a window.
    """
    if len(signal) < made.window:
        raise ModelError(f"{whole.name}: a proof needs {made.window} rows of signal, got {len(signal)}")
    steps = (made.window if made.remembers else len(signal)) // made.rows
    states, compared = interp.initial_states(made.graph), 0
    for step in range(steps):
        end = (step + 1) * made.rows
        outputs, states = interp.step(made.graph, [signal[None, end - made.rows : end]], states)
        if end < made.window:
            continue
        wanted = interp.run(whole, [signal[None, end - made.window : end]])[0]
        if made.outputs:
            wanted = _last_rows(wanted, outputs[0])
        if not np.array_equal(outputs[0], wanted):
            raise AssertionError(f"{whole.name}: the stream differs from the window that ends at row {end}")
        compared += 1
    return compared


def _last_rows(wanted: Array, made: Array) -> Array:
    """Return the end of `wanted` along the one axis in which the shapes differ."""
    axis = next((i for i, (a, b) in enumerate(zip(wanted.shape, made.shape, strict=True)) if a != b), 0)
    return np.split(wanted, [wanted.shape[axis] - made.shape[axis]], axis)[1]
