"""Resolves what a .tflite says with several subgraphs and variables: calls, branches, counted loops, states.

CALL, IF with a condition known when compiling and WHILE with a number of rounds known when compiling become
the nodes of their subgraphs. VAR_HANDLE, READ_VARIABLE, ASSIGN_VARIABLE, CALL_ONCE and variable tensors
become states. As in TFLM, a variable starts as the zero-point of what is assigned to it, unless a CALL_ONCE
says otherwise, and an assignment is seen by every later read of the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from firmware.compiler.graph import Array, Graph, ModelError, Node, State, Tensor, same_scale
from firmware.compiler.ops import OPS, refuse
from firmware.compiler.passes.counting import fold

MAX_NODES = 4096  # of the graph that is made: a loop of more rounds is not for a microcontroller
MAX_VISITS = 1 << 16  # nodes and operands looked at, those of rounds that leave nothing behind included
MAX_DEPTH = 8  # of calls within calls
UNROLL = "export it with a fixed number of steps (unroll=True), or as one step with its state kept outside"
# Variable inputs that an op rewrites, in the order of the outputs that stand for their new values.
REWRITES: Mapping[str, tuple[int, ...]] = {
    "SVDF": (4,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (18, 19),
    "LSTM": (18, 19),
    "RNN": (4,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (4,),
    "BIDIRECTIONAL_SEQUENCE_LSTM": (35, 36, 37, 38),
    "BIDIRECTIONAL_SEQUENCE_RNN": (4, 8),
}


def inline(graph: Graph) -> Graph:
    """Return the graph without subgraphs and variables; the same graph when it has neither.

    Raises:
        ModelError: a condition or a number of rounds that depends on the input, a recursion, a variable
            that is used before it has a type.
    """
    special = set(_STEPS) & {node.op for node in graph.nodes}
    if not special and not any(tensor.variable for tensor in graph.tensors):
        return replace(graph, subgraphs=())
    return _Inliner(graph).whole()


@dataclass
class _Variable:
    """What is known of one variable while the graph is made."""

    read: int | None = None  # tensor that holds what the run before left
    now: int | None = None  # tensor that holds the newest value
    initial: Array | None = None  # from a CALL_ONCE, or a variable tensor's own


@dataclass
class _Inliner:
    """The graph that is being made; `within` are the subgraphs that are being walked."""

    source: Graph
    tensors: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    variables: dict[Hashable, _Variable] = field(default_factory=dict)
    constants: dict[tuple[int, int], int] = field(default_factory=dict)
    visits: int = 0
    within: list[int] = field(default_factory=list)

    def whole(self) -> Graph:
        """Return the main graph, resolved."""
        inputs = [self.new(self.source.tensors[i]) for i in self.source.inputs]
        outputs = self.walk(self.source, inputs, 0)
        states = tuple(self.states())
        reads = {state.read for state in states}
        outputs = [self.copy(i) if self.root(i) in reads else i for i in outputs]
        return replace(
            self.source,
            tensors=tuple(self.tensors),
            nodes=tuple(self.nodes),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            states=states,
            subgraphs=(),
        )

    def states(self) -> list[State]:
        """Return the states; a variable that keeps its first value becomes a constant."""
        made: list[State] = []
        roots: set[int] = set()
        for variable in self.variables.values():
            if variable.read is None or variable.now is None:
                continue
            value = self.tensors[variable.read]
            changed = variable.now != variable.read
            if variable.initial is None and not changed:
                what = f"variable {value.name!r} is read, never assigned"
                raise ModelError(f"{self.source.name}: {what}: {UNROLL}")
            initial = variable.initial
            if initial is None:
                initial = _blank(self.tensors[variable.now])
            if changed:
                made.append(State(variable.read, self.own(variable.now, roots), _filling(initial, value)))
            else:
                self.tensors[variable.read] = replace(value, data=initial)
        return made

    def own(self, index: int, roots: set[int]) -> int:
        """Return a tensor with this value that a node writes, into memory that is not yet in `roots`."""
        root = self.root(index)
        if root not in roots and any(root in node.outputs for node in self.nodes):
            roots.add(root)
            return index
        return self.copy(index)

    def root(self, index: int) -> int:
        """Return the tensor whose memory this one shares: itself, or what it reshapes."""
        writers = {i: node for node in self.nodes for i in node.outputs}
        while index in writers and writers[index].op in OPS and OPS[writers[index].op].alias:
            index = writers[index].inputs[0]
        return index

    def copy(self, index: int) -> int:
        """Return a tensor with the same value in memory of its own."""
        copy = self.new(replace(self.tensors[index], data=None))
        self.nodes.append(Node("EAR_COPY", (index,), (copy,), {}, name=self.tensors[index].name))
        return copy

    def walk(self, graph: Graph, arguments: Sequence[int], number: int) -> list[int]:
        """Add the nodes of subgraph `number`; return its outputs."""
        known = dict(zip(graph.inputs, arguments, strict=True))
        scope = _Scope(self, graph, number, known, {})
        for node in graph.nodes:
            self.visits += 1 + len(node.inputs) + len(node.outputs)
            if self.visits > MAX_VISITS or len(self.nodes) > MAX_NODES:
                raise refuse(graph, node, f"its loops unroll to more than {MAX_NODES} nodes", UNROLL)
            _STEPS.get(node.op, _Scope.plain)(scope, node)
        return [scope.value(i) for i in graph.outputs]

    def new(self, tensor: Tensor) -> int:
        """Return the index of a new tensor."""
        self.tensors.append(replace(tensor, variable=False))
        return len(self.tensors) - 1

    def subgraph(self, graph: Graph, node: Node, number: int, arguments: int) -> Graph:
        """Return a subgraph that the node names, its number and its inputs checked."""
        subgraphs = self.source.subgraphs
        if not 0 < number <= len(subgraphs):
            what = f"it names subgraph {number} of {len(subgraphs) + 1}"
            raise refuse(graph, node, what, "the file is damaged; export it again")
        if number in self.within or len(self.within) >= MAX_DEPTH:
            raise refuse(graph, node, "its subgraph calls itself", UNROLL)
        found = subgraphs[number - 1]
        if len(found.inputs) != arguments:
            what = f"it gives {arguments} values to a subgraph of {len(found.inputs)}"
            raise refuse(graph, node, what, "the file is damaged; export it again")
        return found

    def call(self, graph: Graph, node: Node, number: int, arguments: Sequence[int]) -> list[int]:
        """Add the nodes of a subgraph that the node names; return its outputs."""
        found = self.subgraph(graph, node, number, len(arguments))
        self.within.append(number)
        outputs = self.walk(found, arguments, number)
        self.within.pop()
        return outputs


@dataclass
class _Scope:
    """One walk through one subgraph: its tensors' new indices, its resources' names."""

    made: _Inliner
    graph: Graph
    number: int
    known: dict[int, int]
    handles: dict[int, Hashable]

    def value(self, index: int) -> int:
        """Return the new index of a tensor: computed before, a constant or a variable."""
        if index < 0:
            return -1
        tensor = self.graph.tensors[index]
        if tensor.variable:
            variable = self.made.variables.setdefault(("tensor", self.number, index), _Variable())
            if variable.initial is None:
                variable.initial = _blank(tensor)
            return self.newest(variable, tensor)
        if index not in self.known:
            if tensor.dtype == "resource":
                raise ModelError(f"{self.graph.name}: the resource {tensor.name!r} leaves its op: {UNROLL}")
            self.known[index] = self.constant(index) if tensor.constant else self.made.new(tensor)
        return self.known[index]

    def constant(self, index: int) -> int:
        """Return the new index of a constant, the same one in every round."""
        key = self.number, index
        if key not in self.made.constants:
            self.made.constants[key] = self.made.new(self.graph.tensors[index])
        return self.made.constants[key]

    def newest(self, variable: _Variable, like: Tensor) -> int:
        """Return the tensor with the variable's newest value, read as the type of `like`."""
        if variable.now is None:
            variable.read = variable.now = self.made.new(replace(like, data=None))
        held = self.made.tensors[variable.now]
        seen: tuple[Tensor | Array | None, ...] = (held, variable.initial)
        for value in seen:
            if value is None or (value.shape, str(value.dtype)) == (like.shape, like.dtype):
                continue
            text = f"{value.dtype} {value.shape}, then {like.dtype} {like.shape}"
            cure = "keep it one type and size"
            raise ModelError(f"{self.graph.name}: variable {like.name!r} is {text}: {cure}")
        if same_scale(held, like):
            return variable.now
        again = self.made.new(replace(like, data=None))
        self.made.nodes.append(Node("RESHAPE", (variable.now,), (again,), {}, name=like.name))
        return again

    def plain(self, node: Node) -> None:
        """Add a node; one of few known values is worked out instead."""
        inputs = tuple(self.value(i) for i in node.inputs)
        rewritten = [i for i in REWRITES.get(node.op, ()) if i < len(node.inputs)]
        outputs = list(node.outputs)
        values = fold(self.graph, replace(node, inputs=inputs), self.made.tensors)
        for position, index in enumerate(outputs):
            if self.graph.tensors[index].dtype == "resource":
                raise refuse(self.graph, node, "it makes a resource", UNROLL)
            data = None if values is None else values[position]
            self.known[index] = self.made.new(replace(self.graph.tensors[index], data=data))
        new = [self.known[index] for index in outputs]
        for position in rewritten:
            tensor = self.graph.tensors[node.inputs[position]]
            if not tensor.variable:
                what = f"its state {tensor.name!r} is not a variable"
                raise refuse(self.graph, node, what, "the file is damaged; export it again")
            new.append(self.made.new(tensor))
            self.made.variables["tensor", self.number, node.inputs[position]].now = new[-1]
        if values is None:
            self.made.nodes.append(replace(node, inputs=inputs, outputs=tuple(new)))

    def bind(self, node: Node, values: Sequence[int]) -> None:
        """Give the node's outputs these values."""
        if len(values) != len(node.outputs):
            what = f"its subgraph has {len(values)} outputs, it has {len(node.outputs)}"
            raise refuse(self.graph, node, what, "the file is damaged; export it again")
        self.known.update(zip(node.outputs, values, strict=True))

    def handle(self, node: Node) -> None:
        """Note the variable that a VAR_HANDLE stands for."""
        name = node.options["container"], node.options["shared_name"]
        self.handles.update(dict.fromkeys(node.outputs, ("resource", *name)))

    def variable(self, node: Node) -> _Variable:
        """Return the variable that input 0 of a node stands for."""
        key = self.handles.get(node.inputs[0]) if node.inputs else None
        if key is None:
            raise refuse(self.graph, node, "its variable comes from no VAR_HANDLE of its subgraph", UNROLL)
        return self.made.variables.setdefault(key, _Variable())

    def read(self, node: Node) -> None:
        """Resolve a READ_VARIABLE."""
        self.bind(node, [self.newest(self.variable(node), self.graph.tensors[node.outputs[0]])])

    def assign(self, node: Node) -> None:
        """Resolve an ASSIGN_VARIABLE."""
        variable = self.variable(node)
        if len(node.inputs) != 2:
            what = f"{len(node.inputs)} inputs"
            raise refuse(self.graph, node, what, "the file is damaged; export it again")
        index = self.value(node.inputs[1])
        self.newest(variable, self.made.tensors[index])
        variable.now = index

    def once(self, node: Node) -> None:
        """Resolve a CALL_ONCE: work out what its subgraph assigns."""
        before = {key: variable.now for key, variable in self.made.variables.items()}
        length = len(self.made.nodes)
        self.made.call(self.graph, node, node.options["init_subgraph_index"], ())
        if len(self.made.nodes) > length:
            left = self.made.nodes[length]
            what = f"its subgraph cannot be worked out when compiling ({left.op} {left.name!r})"
            raise refuse(self.graph, node, what, "initialise the variables with constants")
        for key, variable in self.made.variables.items():
            if variable.now == before.get(key):
                continue
            data = None if variable.now is None else self.made.tensors[variable.now].data
            if data is None or before.get(key) is not None:
                raise refuse(self.graph, node, "it is not the first to use a variable", "call it first")
            variable.initial, variable.read, variable.now = data, None, None

    def branch(self, node: Node) -> None:
        """Resolve an IF whose condition is known."""
        condition = self.truth(node, self.value(node.inputs[0]) if node.inputs else -1)
        number = node.options["then_subgraph_index" if condition else "else_subgraph_index"]
        self.bind(node, self.made.call(self.graph, node, number, [self.value(i) for i in node.inputs[1:]]))

    def invoke(self, node: Node) -> None:
        """Resolve a CALL."""
        arguments = [self.value(i) for i in node.inputs]
        self.bind(node, self.made.call(self.graph, node, node.options["subgraph"], arguments))

    def loop(self, node: Node) -> None:
        """Resolve a WHILE: round after round, as long as its condition is known and holds."""
        values = [self.value(i) for i in node.inputs]
        while True:
            self.made.visits += 1 + len(values)
            length = len(self.made.nodes)
            found = self.made.call(self.graph, node, node.options["cond_subgraph_index"], values)
            going_on = self.truth(node, found[0] if len(found) == 1 else -1)
            del self.made.nodes[length:]
            if not going_on:
                break
            made = self.made.call(self.graph, node, node.options["body_subgraph_index"], values)
            if len(made) != len(values):
                what = f"its body makes {len(made)} values of {len(values)}"
                raise refuse(self.graph, node, what, "the file is damaged; export it again")
            values = made
        self.bind(node, values)

    def truth(self, node: Node, index: int) -> bool:
        """Return the condition of a node; ModelError unless it is one known value."""
        tensor = self.made.tensors[index] if index >= 0 else None
        if tensor is None or tensor.data is None or tensor.elements != 1:
            name = repr(tensor.name) if tensor else "missing"
            raise refuse(self.graph, node, f"its condition {name} depends on the input", UNROLL)
        return bool(tensor.data.reshape(-1)[0])


_STEPS: Mapping[str, Callable[[_Scope, Node], None]] = {
    "VAR_HANDLE": _Scope.handle,
    "READ_VARIABLE": _Scope.read,
    "ASSIGN_VARIABLE": _Scope.assign,
    "CALL_ONCE": _Scope.once,
    "CALL": _Scope.invoke,
    "IF": _Scope.branch,
    "WHILE": _Scope.loop,
}


def _blank(tensor: Tensor) -> Array:
    """Return what TFLM puts into a variable first, bytes of the zero-point; the array takes no memory."""
    q = None if tensor.dtype == "float32" else tensor.quantisation
    zero_point = 0 if q is None else int(q.zero_point[0])
    one = np.full(np.dtype(tensor.dtype).itemsize, zero_point & 0xFF, np.uint8).view(tensor.dtype)
    return np.broadcast_to(one.reshape(()), tensor.shape)


def _filling(initial: Array, value: Tensor) -> Any:
    first = initial.flat[0]
    same = not any(initial.strides) or bool((initial == first).all())
    return int(first) if same and (value.dtype != "float32" or first == 0) else initial.reshape(value.shape)
