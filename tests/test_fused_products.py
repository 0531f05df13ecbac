"""Fused products on drawn graphs: scans, gates, rotary positions; nearer to float64 than the chain."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tflite_writer as tfl
from fused import fused, ops_of, q8, same_in_c
from hypothesis import given
from hypothesis import strategies as st
from op_oracle import quick

from firmware.compiler import build, interp, passes, plan, read_tflite
from firmware.compiler.graph import Graph, State

SCALE, ZERO = float(np.float32(0.03)), 3
Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """A model, its input, and the real numbers that its outputs should be."""

    model: bytes = field(repr=False)
    q: npt.NDArray[np.int8]
    reals: list[Real] = field(repr=False)


def rounded(name: str, real: Real, zero: int = 0) -> tfl.Value:
    """Return an int8 value whose scale just holds the real numbers, as calibration would choose it."""
    return q8(name, real.shape, float(np.float32(max(np.abs(real).max(), 1e-3) / (127 - abs(zero)))), zero)


class Unrolled:
    """A recurrence written step by step: its nodes, and the real numbers that they should give."""

    def __init__(self, draw: Any, *, weighed: bool) -> None:
        self.steps, self.rows, self.states = (draw(st.integers(*ends)) for ends in ((3, 6), (1, 3), (1, 9)))
        self.kind = draw(st.sampled_from(["exponential", "sigmoid"]))
        self.weighed, self.packed = weighed, draw(st.booleans())
        self.sizes = {"g": self.rows, "x": self.rows, "b": self.states, "c": self.states}
        shape = (1, self.steps, sum(self.sizes.values()))
        self.q = np.random.default_rng(draw(st.integers(0, 999))).integers(-128, 128, shape).astype(np.int8)
        self.real = (self.q.astype(np.float64) - ZERO) * SCALE
        self.entry, self.nodes, self.ys = q8("entry", shape, SCALE, ZERO), [], []  # type: ignore[var-annotated]
        self.a = -np.linspace(0.2, 2, self.states).astype(np.float32)

    def add(self, op: str, inputs: list[tfl.Value], real: Real, zero: int = 0, **options: Any) -> tfl.Value:
        made = rounded(f"v{len(self.nodes)}", real, zero)
        self.nodes.append(tfl.Op(op, inputs, [made], options))
        return made

    def cut(self, t: int, name: str) -> tuple[tfl.Value, Real]:
        """Return one part of the input at a step, as a column for rows or as a row for states."""
        first = sum(size for key, size in self.sizes.items() if key < name)
        size = self.sizes[name]
        part = replace(self.entry, name=f"{name}{t}", shape=(1, 1, size))
        given = [tfl.constant(f"{name}{t}at", [0, t, first]), tfl.constant(f"{name}{t}n", [1, 1, size])]
        self.nodes.append(tfl.Op("SLICE", [self.entry, *given], [part]))
        shape = (1, size, 1) if name in "gx" else (1, 1, size)
        turned = replace(self.entry, name=f"{name}{t}turned", shape=shape)
        self.nodes.append(tfl.Op("RESHAPE", [part, tfl.constant(f"{name}{t}shape", list(shape))], [turned]))
        return turned, self.real[:, t, first : first + size].reshape(shape)

    def decay(self, t: int) -> tuple[tfl.Value, Real]:
        g, real = self.cut(t, "g")
        sigmoid = q8(f"sigmoid{t}", g.shape, 1 / 256, -128)
        self.nodes.append(tfl.Op("LOGISTIC", [g], [sigmoid]))
        kept = 1 / (1 + np.exp(-real))
        if self.kind == "sigmoid":
            return sigmoid, kept
        scale = float(np.float32(2 / 255))
        slopes = tfl.constant("a", np.rint(self.a / scale).astype(int) + 127, "int8", scale, 127)
        power = kept * (np.rint(self.a / scale) * scale)
        scaled = q8(f"power{t}", power.shape, float(np.float32(2 / 255)), 127)
        floats = [tfl.Value(f"f{t}{i}", power.shape, "float32") for i in range(2)]
        made = q8(f"decay{t}", power.shape, 1 / 255, -128)
        self.nodes += [
            tfl.Op("MUL", [sigmoid, slopes], [scaled]),
            tfl.Op("DEQUANTIZE", [scaled], [floats[0]]),
            tfl.Op("EXP", [floats[0]], [floats[1]]),
            tfl.Op("QUANTIZE", [floats[1]], [made]),
        ]
        return made, np.exp(power)

    def step(self, t: int, before: tuple[tfl.Value, Real] | None) -> tuple[tfl.Value, Real]:
        (x, real_x), (b, real_b) = self.cut(t, "x"), self.cut(t, "b")
        fresh = real_x * real_b
        h, real = self.add("MUL", [x, b], fresh), fresh
        if before is not None:
            a, decay = self.decay(t)
            kept = self.add("MUL", [a, before[0]], decay * before[1])
            real = decay * before[1] + fresh
            h = self.add("ADD", [kept, h], real, 5)
        return h, real

    def result(self, t: int, h: tfl.Value, real: Real) -> None:
        if not self.weighed:
            self.ys.append((h, real))
            return
        c, weight = self.cut(t, "c")
        product = self.add("MUL", [h, c], real * weight, -4)
        total = (real * weight).sum(-1)
        self.ys.append((self.add("SUM", [product, tfl.constant("last", [2])], total, 2), total))


@st.composite
def recurrences(draw: Any) -> Drawn:
    """Draw an unrolled scan; with its input and the real numbers of its outputs."""
    made = Unrolled(draw, weighed=draw(st.booleans()))
    state = None
    for t in range(made.steps):
        state = made.step(t, state)
        made.result(t, *state)
    outputs, reals = [y for y, _ in made.ys], [real for _, real in made.ys]
    if made.packed and made.weighed:
        all_of = np.stack(reals, 1)
        joined = rounded("packed", all_of, 2)
        renamed = {y.name: replace(y, scale=joined.scale) for y in outputs}
        made.nodes = [replace(op, outputs=[renamed.get(v.name, v) for v in op.outputs]) for op in made.nodes]
        options = {"axis": 1, "values_count": made.steps}
        made.nodes.append(tfl.Op("PACK", [renamed[y.name] for y in outputs], [joined], options))
        outputs, reals = [joined], [all_of]
    return Drawn(tfl.model([made.entry], made.nodes, [], outputs), made.q, reals)


def off(graph: Graph, q: Any, reals: list[Real]) -> Real:
    """Return how far the outputs are from the real numbers, in steps of their scales, within their ranges."""
    errors = []
    for tensor, y, real in zip(graph.outputs, interp.run(graph, [q]), reals, strict=True):
        entry = graph.tensors[tensor].quantisation
        assert entry is not None
        wanted = np.clip(real / float(entry.scale[0]) + int(entry.zero_point[0]), -128, 127)
        errors.append(np.abs(y - wanted.reshape(y.shape)).ravel())
    return np.concatenate(errors)


@given(recurrences())
@quick
def test_a_scan_rounds_only_what_leaves_it(drawn: Drawn) -> None:
    model, q, reals = drawn.model, drawn.q, drawn.reals
    graph, plain = fused(model), passes.unfused(read_tflite.read(model, "net"))
    assert set(ops_of(graph)) <= {"EAR_SCAN", "RESHAPE"}
    assert ops_of(graph).count("EAR_SCAN") == 1
    near, far = off(graph, q, reals), off(plain, q, reals)
    assert near.max() < 0.55
    assert np.square(near).sum() <= np.square(far).sum() + 0.01 * near.size
    same_in_c(graph, 3)


def kept(zero: int = 0) -> Graph:
    """Return one step of h = sigmoid(g) h + x, h a state: what a streaming model runs for every hop."""
    g, x, h = q8("g", (1, 6), SCALE, ZERO), q8("x", (1, 6), SCALE, ZERO), q8("h", (1, 6), 0.1, zero)
    a, product, after = q8("a", (1, 6), 1 / 256, -128), q8("p", (1, 6), 0.1, zero), q8("n", (1, 6), 0.1, zero)
    nodes = [
        tfl.Op("LOGISTIC", [g], [a]),
        tfl.Op("MUL", [a, h], [product]),
        tfl.Op("ADD", [product, x], [after]),
    ]
    graph = read_tflite.read(tfl.model([g, x, h], nodes, [], [after]), "net")
    return replace(graph, inputs=graph.inputs[:2], states=(State(graph.inputs[2], graph.outputs[0], zero),))


@pytest.mark.parametrize("zero", [0, -7])
def test_a_state_stays_wide_from_run_to_run(zero: int) -> None:
    plain = passes.unfused(kept(zero))
    graph = passes.run(kept(zero))
    assert ops_of(graph) == ["EAR_SCAN_ON"]
    assert graph.tensors[graph.states[0].read].dtype == "int32"
    rng, real = np.random.default_rng(1), np.zeros(6)
    states, before = interp.initial_states(graph), interp.initial_states(plain)
    errors = []
    with tempfile.TemporaryDirectory() as folder:
        where = plan.plan(graph)
        assert where.state == 24
        invoke = build.host_library(graph, where, Path(folder))
        for _ in range(40):
            q = [rng.integers(-60, 66, (1, 6)).astype(np.int8) for _ in "gx"]
            g, x = ((one[0].astype(float) - ZERO) * SCALE for one in q)
            real = real / (1 + np.exp(-g)) + x
            made, states = interp.step(graph, q, states)
            chain, before = interp.step(plain, q, before)
            np.testing.assert_array_equal(invoke(q)[0], made[0])
            errors.append([np.abs((y[0][0] - zero) * float(np.float32(0.1)) - real) for y in (made, chain)])
    near, far = np.array(errors).transpose(1, 0, 2)
    assert near.max() < 0.0505
    assert near.mean() < far.mean()


def test_a_state_that_starts_elsewhere_stays_as_it_is() -> None:
    graph = kept()
    graph = replace(graph, states=(replace(graph.states[0], initial=9),))
    assert "EAR_SCAN_ON" not in ops_of(passes.run(graph))


def half(kind: str) -> tuple[str, Any]:
    """Return the op of a gate, and what it means."""
    functions = {
        "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
        "TANH": np.tanh,
        "GELU": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    }
    return kind, functions[kind]


@st.composite
def gates(draw: Any) -> Drawn:
    """Draw x f(g), of the halves of a tensor or of two layers; f is a function of one byte."""
    rows, width = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    axis = draw(st.sampled_from([1, 2]))
    kind, function = half(draw(st.sampled_from(["LOGISTIC", "TANH", "GELU"])))
    shape = (1, rows * (1 + (axis == 1)), width * (1 + (axis == 2)))
    q = np.random.default_rng(draw(st.integers(0, 999))).integers(-128, 128, shape).astype(np.int8)
    real = np.split((q.astype(np.float64) - ZERO) * SCALE, 2, axis)
    entry = q8("entry", shape, SCALE, ZERO)
    parts = [q8(name, (1, rows, width), SCALE, ZERO) for name in "xg"]
    gate = q8(
        "gate", parts[1].shape, *{"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(kind, (0.03, -120))
    )
    wanted = real[0] * function(real[1])
    y = rounded("y", wanted, draw(st.integers(-20, 20)))
    nodes = [tfl.Op("SPLIT", [tfl.constant("axis", axis), entry], parts, {"num_splits": 2})]
    nodes += [tfl.Op(kind, [parts[1]], [gate], {"approximate": True} if kind == "GELU" else {})]
    if draw(st.booleans()):  # the halves are layers of their own, here a step of each value wide
        layers = [q8(name, (1, rows, width), SCALE, ZERO) for name in "uv"]
        nodes = [tfl.Op("MINIMUM", [part, part], [layer]) for part, layer in zip(parts, layers, strict=True)]
        nodes = [tfl.Op("SPLIT", [tfl.constant("axis", axis), entry], parts, {"num_splits": 2}), *nodes]
        nodes.append(tfl.Op(kind, [layers[1]], [gate], {"approximate": True} if kind == "GELU" else {}))
        parts = layers
    order = [parts[0], gate] if draw(st.booleans()) else [gate, parts[0]]
    return Drawn(tfl.model([entry], [*nodes, tfl.Op("MUL", order, [y])], [], [y]), q, [wanted])


@given(gates())
@quick
def test_a_gate_is_the_nearest_byte(drawn: Drawn) -> None:
    model, q, reals = drawn.model, drawn.q, drawn.reals
    graph, plain = fused(model), passes.unfused(read_tflite.read(model, "net"))
    assert ops_of(graph)[-1] == "EAR_PRODUCTS"
    assert set(ops_of(graph)[:-1]) <= {"SPLIT", "EAR_TABLE"}  # MINIMUM of x and x
    near = off(graph, q, reals)
    assert near.max() < 0.51
    assert np.square(near).sum() <= np.square(off(plain, q, reals)).sum() + 1e-4 * near.size
    same_in_c(graph, 3)


@st.composite
def rotations(draw: Any) -> Drawn:
    """Draw x cos + rotated(x) sin: halves or pairs swapped, one of them negated, or the sine instead."""
    frames, heads, half_of = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    width, negated = 2 * half_of, draw(st.booleans())
    shape = (1, heads, frames, width)
    q = np.random.default_rng(draw(st.integers(0, 999))).integers(-128, 128, shape).astype(np.int8)
    real = (q.astype(np.float64) - ZERO) * SCALE
    angle = np.outer(np.arange(frames), np.arange(half_of) / half_of + 0.3)
    cos, sin = (np.concatenate([f(angle)] * 2, -1) for f in (np.cos, np.sin))
    sin = sin if negated else sin * np.repeat([-1, 1], half_of)
    fixed = [np.rint(values / SINE).astype(int) for values in (cos, sin)]
    entry = q8("entry", shape, SCALE, ZERO)
    first, second, minus = (q8(name, (*shape[:-1], half_of), SCALE, ZERO) for name in ("a", "b", "minus"))
    nodes = []
    for part, start in ((first, 0), (second, half_of)):
        at = tfl.constant(f"{part.name}at", [0, 0, 0, start])
        size = tfl.constant(f"{part.name}n", [*shape[:-1], half_of])
        nodes.append(tfl.Op("SLICE", [entry, at, size], [part]))
    turned = np.concatenate([real[..., half_of:] * (-1 if negated else 1), real[..., :half_of]], -1)
    if negated:
        minus = replace(minus, zero_point=-ZERO)
        nodes.append(tfl.Op("NEG", [second], [minus]))
    swapped = q8("swapped", shape, SCALE, ZERO)
    joined = [minus if negated else second, first]
    nodes.append(tfl.Op("CONCATENATION", joined, [swapped], {"axis": 3}))
    products = [real * (fixed[0] * SINE), turned * (fixed[1] * SINE)]
    terms = []
    for name, value, table, product in zip("cs", (entry, swapped), fixed, products, strict=True):
        terms.append(rounded(f"{name}term", product))
        nodes.append(tfl.Op("MUL", [value, tfl.constant(name, table, "int8", SINE)], [terms[-1]]))
    op = draw(st.sampled_from(["ADD", "SUB"]))
    wanted = products[0] + products[1] * (1 if op == "ADD" else -1)
    y = rounded("y", wanted, 4)
    return Drawn(tfl.model([entry], [*nodes, tfl.Op(op, terms, [y])], [], [y]), q, [wanted])


SINE = float(np.float32(1 / 127))


@given(rotations())
@quick
def test_a_rotary_position_rounds_once(drawn: Drawn) -> None:
    model, q, reals = drawn.model, drawn.q, drawn.reals
    graph, plain = fused(model), passes.unfused(read_tflite.read(model, "net"))
    assert ops_of(graph) == ["EAR_PRODUCTS"]
    near = off(graph, q, reals)
    assert near.max() < 0.51
    assert np.square(near).sum() <= np.square(off(plain, q, reals)).sum() + 1e-4 * near.size
    same_in_c(graph, 3)


def test_two_thousand_nodes_of_gates_pass_quickly() -> None:
    value, nodes = q8("x0", (1, 16), 0.05), []
    first = value
    for i in range(1000):
        gate, after = q8(f"g{i}", (1, 16), 1 / 256, -128), q8(f"y{i}", (1, 16), 0.05)
        nodes += [tfl.Op("LOGISTIC", [value], [gate]), tfl.Op("MUL", [gate, value], [after])]
        value = after
    graph = read_tflite.read(tfl.model([first], nodes, [], [value]), "long")
    started = time.perf_counter()
    for step in (*passes.EXACT, *passes.FUSIONS):
        graph = step(graph)
    assert time.perf_counter() - started < 4  # less than two on a quiet core
