"""Variables, calls, branches and loops of a .tflite against TFLM, run after run, and what is refused."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tflite_writer as tfl
from tflite_micro.python.tflite_micro import runtime

from firmware.compiler import build, interp, passes, read_tflite
from firmware.compiler.graph import Array, Graph, ModelError
from firmware.compiler.plan import plan

Q = (0.1, 3)
SHAPE = (1, 6)
RUNS = 5
SECONDS = 10.0


def value(name: str, shape: Sequence[int] = SHAPE) -> tfl.Value:
    return tfl.Value(name, tuple(shape), "int8", *Q)


def handle(name: str) -> tfl.Op:
    made = tfl.Value(f"{name}/handle", (1,), "resource")
    return tfl.Op("VAR_HANDLE", [], [made], {"container": "", "shared_name": name})


def read(source: tfl.Op, out: tfl.Value) -> tfl.Op:
    return tfl.Op("READ_VARIABLE", [source.outputs[0]], [out])


def assign(target: tfl.Op, made: tfl.Value) -> tfl.Op:
    return tfl.Op("ASSIGN_VARIABLE", [target.outputs[0], made], [])


def add(one: tfl.Value, other: tfl.Value, out: str) -> tfl.Op:
    return tfl.Op("ADD", [one, other], [value(out, one.shape)])


def once(name: str, data: Array) -> tuple[tfl.Op, tfl.Part]:
    """Return a CALL_ONCE of subgraph 1, and this subgraph: it puts data into a variable."""
    v = handle(name)
    part = tfl.Part([], [v, assign(v, tfl.constant("first", data, "int8", *Q))], [])
    return tfl.Op("CALL_ONCE", [], [], {"init_subgraph_index": 1}), part


def accumulator() -> bytes:
    x, v = value("x"), handle("sum")
    r = value("r")
    more = add(x, r, "y")
    nodes = [v, read(v, r), more, assign(v, more.outputs[0])]
    return tfl.model([x], nodes, [], more.outputs)


def initialised() -> bytes:
    x, v, r = value("x"), handle("sum"), value("r")
    first, part = once("sum", np.array([[-100, -3, 0, 3, 50, 127]], np.int8))
    more = add(x, r, "y")
    nodes = [first, v, read(v, r), more, assign(v, more.outputs[0])]
    return tfl.model([x], nodes, [], more.outputs, [part])


def untouched() -> bytes:
    """A variable that only its first value is ever read of: a constant."""
    x, v, r = value("x"), handle("weights"), value("r")
    first, part = once("weights", np.array([[-100, -3, 0, 3, 50, 127]], np.int8))
    more = add(x, r, "y")
    return tfl.model([x], [first, v, read(v, r), more], [], more.outputs, [part])


def shift_register() -> bytes:
    """Three inputs of the past: each variable takes what another held, or the input itself."""
    x, a, b, c = (value(n) for n in "xabc")
    va, vb, vc = handle("a"), handle("b"), handle("c")
    y = value("y", (1, 24))
    join = tfl.Op("CONCATENATION", [x, a, b, c], [y], {"axis": 1})
    nodes = [va, vb, vc, read(va, a), read(vb, b), read(vc, c), join]
    return tfl.model([x], [*nodes, assign(vc, b), assign(vb, a), assign(va, x)], [], [y])


def exchange() -> bytes:
    """Two variables that change places each run, one of them reshaped on its way; a third holds the same."""
    x, a, b, f, g = value("x"), value("a"), value("b", (6,)), value("f"), value("g", (6,))
    va, vb, vc = handle("a"), handle("b"), handle("c")
    first, second = add(a, x, "s"), tfl.Value("c", (6,), "int8", *Q)
    nodes = [
        *(va, vb, vc, read(va, a), read(vb, b), read(vc, second)),
        tfl.Op("RESHAPE", [b, tfl.constant("f6", [1, 6])], [f]),
        tfl.Op("RESHAPE", [a, tfl.constant("g6", [6])], [g]),
        *(first, assign(va, f), assign(vb, g), assign(vc, g)),
    ]
    return tfl.model([x], nodes, [], [first.outputs[0], f, second])


def twice() -> bytes:
    """Assignments are seen by later reads of the same run."""
    x, v = value("x"), handle("sum")
    a, b, c = value("a"), value("b"), value("c")
    one = add(a, x, "one")
    two = add(b, b, "two")
    three = add(c, x, "y")
    nodes = [v, read(v, a), one, assign(v, one.outputs[0]), read(v, b), two, assign(v, two.outputs[0])]
    return tfl.model([x], [*nodes, read(v, c), three], [], three.outputs)


def counter(name: str) -> tfl.Value:
    return tfl.Value(name, (1,), "int32")


def condition(limit: int) -> tfl.Part:
    i, acc, more = counter("i"), value("acc"), tfl.Value("more", (1,), "bool")
    return tfl.Part([i, acc], [tfl.Op("LESS", [i, tfl.constant("limit", [limit])], [more])], [more])


def loop(limit: int) -> bytes:
    x, y, start, end = value("x"), value("y"), tfl.constant("zero", [0]), counter("end")
    i, acc, j, s = counter("i"), value("acc"), counter("j"), value("s")
    steps = [tfl.Op("ADD", [i, tfl.constant("one", [1])], [j]), tfl.Op("ADD", [acc, acc], [s])]
    body = tfl.Part([i, acc], steps, [j, s])
    turn = tfl.Op("WHILE", [start, x], [end, y], {"cond_subgraph_index": 1, "body_subgraph_index": 2})
    return tfl.model([x], [turn], [], [y], [condition(limit), body])


def branch(taken: bool) -> bytes:
    x, y, z = value("x"), value("y"), value("z")
    flag = tfl.constant("flag", [taken], "bool")
    p, q = value("p"), value("q")
    parts = [tfl.Part([p], [tfl.Op("RELU", [p], [q])], [q]), tfl.Part([p], [tfl.Op("ADD", [p, p], [q])], [q])]
    choose = tfl.Op("IF", [flag, x], [y], {"then_subgraph_index": 1, "else_subgraph_index": 2})
    return tfl.model([x], [choose, tfl.Op("ADD", [x, y], [z])], [], [z], parts)


def tensor_state() -> bytes:
    """A loop of no rounds and a variable inside of one: both leave only what they should."""
    x, v = value("x"), handle("sum")
    y, start, end = value("y"), tfl.constant("zero", [0]), counter("end")
    i, acc, j, r = counter("i"), value("acc"), counter("j"), value("r")
    more = add(acc, r, "s")
    one = tfl.Op("ADD", [i, tfl.constant("one", [1])], [j])
    body = tfl.Part([i, acc], [one, v, read(v, r), more, assign(v, more.outputs[0])], [j, more.outputs[0]])
    turn = tfl.Op("WHILE", [start, x], [end, y], {"cond_subgraph_index": 1, "body_subgraph_index": 2})
    return tfl.model([x], [turn], [], [y], [condition(3), body])


MODELS = {
    "accumulator": accumulator(),
    "initialised": initialised(),
    "untouched": untouched(),
    "shift register": shift_register(),
    "exchange": exchange(),
    "twice": twice(),
    "loop of 5": loop(5),
    "loop of 1": loop(1),
    "then": branch(taken=True),
    "else": branch(taken=False),
    "variable in a loop": tensor_state(),
}


def inputs_of(graph: Graph) -> list[list[Array]]:
    rng = np.random.default_rng(7)
    shapes = [graph.tensors[i].shape for i in graph.inputs]
    return [[rng.integers(-40, 41, shape).astype(np.int8) for shape in shapes] for _ in range(RUNS)]


def tflm_runs(model: bytes, runs: Sequence[Sequence[Array]], outputs: int) -> list[list[Array]]:
    """Return the outputs of TFLM, whose variables live on from run to run."""
    interpreter = runtime.Interpreter.from_bytes(model, arena_size=1 << 20)
    made = []
    for inputs in runs:
        for position, array in enumerate(inputs):
            interpreter.set_input(array, position)
        interpreter.invoke()
        made.append([np.array(interpreter.get_output(i)) for i in range(outputs)])
    return made


def our_runs(graph: Graph, runs: Sequence[Sequence[Array]]) -> list[list[Array]]:
    states, made = interp.initial_states(graph), []
    for inputs in runs:
        outputs, states = interp.step(graph, inputs, states)
        made.append(outputs)
    return made


def same(made: Sequence[Sequence[Array]], wanted: Sequence[Sequence[Array]]) -> None:
    for one, other in zip(made, wanted, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_tflm_run_after_run(name: str) -> None:
    graph = passes.run(read_tflite.read(MODELS[name], name))
    assert not {node.op for node in graph.nodes} & {"VAR_HANDLE", "WHILE", "IF", "CALL_ONCE"}
    runs = inputs_of(graph)
    same(our_runs(graph, runs), tflm_runs(MODELS[name], runs, len(graph.outputs)))


@pytest.mark.parametrize("name", MODELS)
def test_c_agrees_run_after_run_and_after_a_reset(name: str, tmp_path: Path) -> None:
    graph = passes.run(read_tflite.read(MODELS[name], name))
    runs = inputs_of(graph)
    wanted = our_runs(graph, runs)
    model = build.host_library(graph, plan(graph), tmp_path)
    for _ in range(2):
        same([model(inputs) for inputs in runs], wanted)
        model.reset()


def endless() -> bytes:
    """A loop whose condition looks at the input."""
    x, y, i, more = value("x"), value("y"), value("i"), tfl.Value("more", (1,), "bool")
    first = tfl.Value("first", (1,), "int8", *Q)
    cut = tfl.Op("SLICE", [i, tfl.constant("b", [0, 0]), tfl.constant("n", [1, 1])], [first])
    parts = [
        tfl.Part([i], [cut, tfl.Op("LESS", [first, tfl.constant("k", [5], "int8", *Q)], [more])], [more]),
        tfl.Part([i], [tfl.Op("ADD", [i, i], [value("j")])], [value("j")]),
    ]
    turn = tfl.Op("WHILE", [x], [y], {"cond_subgraph_index": 1, "body_subgraph_index": 2})
    return tfl.model([x], [turn], [], [y], parts)


def recursive(depth: int) -> bytes:
    """Calls that lead back to the first one, `depth` subgraphs later."""
    x, y, p, q = value("x"), value("y"), value("p"), value("q")
    parts = [
        tfl.Part([p], [tfl.Op("CALL", [p], [q], {"subgraph": 1 + (i + 1) % depth})], [q])
        for i in range(depth)
    ]
    return tfl.model([x], [tfl.Op("CALL", [x], [y], {"subgraph": 1})], [], [y], parts)


def explosion(depth: int) -> bytes:
    """Each subgraph calls the next one 60 times."""
    x, y, p = value("x"), value("y"), value("p")
    parts = []
    for i in range(depth):
        values = [p, *(value(f"q{k}") for k in range(60))]
        op, options = ("CALL", {"subgraph": i + 2}) if i + 1 < depth else ("RELU", {})
        steps = [tfl.Op(op, [a], [b], options) for a, b in itertools.pairwise(values)]
        parts.append(tfl.Part([p], steps, [values[-1]]))
    return tfl.model([x], [tfl.Op("CALL", [x], [y], {"subgraph": 1})], [], [y], parts)


def call(**options: int) -> bytes:
    x, y, p, q = value("x"), value("y"), value("p"), value("q")
    part = tfl.Part([p], [tfl.Op("RELU", [p], [q])], [q])
    return tfl.model([x], [tfl.Op("CALL", [x], [y], options)], [], [y], [part])


def unassigned() -> bytes:
    x, v, r = value("x"), handle("never"), value("r")
    more = add(x, r, "y")
    return tfl.model([x], [v, read(v, r), more], [], more.outputs)


def two_sizes() -> bytes:
    x, v, r = value("x"), handle("v"), value("r")
    other = tfl.constant("other", np.zeros((1, 3)), "int8", *Q)
    more = add(x, r, "y")
    return tfl.model([x], [v, read(v, r), more, assign(v, other)], [], more.outputs)


def late() -> bytes:
    """A CALL_ONCE behind the first use of its variable."""
    x, v, r = value("x"), handle("sum"), value("r")
    first, part = once("sum", np.zeros((1, 6), np.int8))
    more = add(x, r, "y")
    nodes = [v, read(v, r), more, first, assign(v, more.outputs[0])]
    return tfl.model([x], nodes, [], more.outputs, [part])


REFUSED = {
    "a condition of the input": (endless(), "its condition 'more' depends on the input: export it with"),
    "recursion": (recursive(1), "its subgraph calls itself"),
    "a longer recursion": (recursive(3), "its subgraph calls itself"),
    "deep calls": (recursive(40), "its subgraph calls itself"),
    "an explosion": (explosion(5), "unroll to more than 4096 nodes"),
    "a long loop": (loop(100_000), "unroll to more than 4096 nodes"),
    "an endless loop": (loop(1 << 30), "unroll to more than 4096 nodes"),
    "no such subgraph": (call(subgraph=7), "it names subgraph 7 of 2"),
    "the main graph": (call(subgraph=0), "it names subgraph 0 of 2"),
    "never assigned": (unassigned(), "variable 'r' is read, never assigned"),
    "two sizes": (
        two_sizes(),
        "variable 'other' is int8 (1, 6), then int8 (1, 3): keep it one type and size",
    ),
    "a late CALL_ONCE": (late(), "it is not the first to use a variable"),
}


@pytest.mark.parametrize(("model", "text"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_resolved_is_named_soon(model: bytes, text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        passes.run(read_tflite.read(model, "mine"))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.perf_counter() - began < SECONDS


def test_a_call_is_its_subgraph() -> None:
    """TFLM has no CALL."""
    graph = passes.run(read_tflite.read(call(subgraph=1), "call"))
    assert [node.op for node in graph.nodes] == ["RELU"]
    x = np.arange(-3, 3, dtype=np.int8)[None]
    np.testing.assert_array_equal(interp.run(graph, [x])[0], np.maximum(x, Q[1]))


def test_constants_of_a_body_are_shared_by_its_rounds() -> None:
    graph = passes.inline(read_tflite.read(loop(50), "loop"))
    assert len(graph.nodes) == 50
    assert len(graph.tensors) < 400
