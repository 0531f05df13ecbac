"""Runs one-op models four ways (numpy meaning, many clips at once, C on this machine, an outside runtime)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import guarded
import numpy as np
import tflite_writer as tfl
from hypothesis import Phase, settings
from hypothesis import strategies as st

from firmware import compiler
from firmware.compiler import interp, read_tflite, toolchain
from firmware.compiler.ends import C_TYPES
from firmware.compiler.graph import Array, Graph, Unit
from firmware.compiler.ops import OPS

FIRMWARE = Path(compiler.__file__).parent.parent
CASES = 12  # nodes that one C file holds
quick = settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))

scales = st.floats(-7, 1).map(lambda power: float(np.float32(np.exp(power))))
zeros = st.integers(-128, 127)
quantisations = st.tuples(scales, zeros)


@dataclass(frozen=True)
class Case:
    """A model of one node, its run-time inputs, and who is right.

    "tflm", "litert", "either" (TFLM where it takes the types of the model, else LiteRT) or "" (only us).
    """

    op: tfl.Op
    inputs: tuple[Array, ...]
    oracle: str = "tflm"

    @property
    def model(self) -> bytes:
        """Return the .tflite file."""
        running = [value for value in self.op.inputs if value is not None and value.data is None]
        return tfl.model(running, [self.op], [], self.op.outputs)


def int8(draw: Any, shape: Sequence[int], low: int = -128, high: int = 127) -> Array:
    """Return random int8 values of a shape, the extremes often among them."""
    seed = draw(st.integers(0, 2**32 - 1))
    values = np.random.default_rng(seed).integers(low - 8, high + 9, tuple(shape))
    return np.clip(values, low, high).astype(np.int8)


def agree(cases: Sequence[Case], unit: Unit = "c") -> None:
    """Assert that the meaning of each case equals its oracle, its batched self and the C, bit for bit.

    The C is that of a unit which this machine can stand for.
    """
    graphs = [replace(read_tflite.read(case.model, "case").verify(), unit=unit) for case in cases]
    for graph in graphs:
        OPS[graph.nodes[0].op].check(graph, graph.nodes[0])
    meanings = [interp.run(graph, case.inputs) for case, graph in zip(cases, graphs, strict=True)]
    for case, graph, meaning in zip(cases, graphs, meanings, strict=True):
        for tensor, made in zip(graph.outputs, meaning, strict=True):
            wanted = graph.tensors[tensor]
            assert (made.shape, str(made.dtype)) == (wanted.shape, wanted.dtype), case.op
        if case.oracle:
            right = ORACLES[case.oracle](case.model, *case.inputs)
            same(right, meaning, case)
        same(_clips(graph, case), meaning, case)
    for case, meaning, made in zip(cases, meanings, compiled(graphs, cases), strict=True):
        same(made, meaning, case)


def same(made: Sequence[Array], wanted: Sequence[Array], case: Case) -> None:
    """Assert that two lists of outputs are equal, a scalar's shape apart."""
    for one, other in zip(made, wanted, strict=True):
        np.testing.assert_array_equal(one.reshape(other.shape), other, err_msg=str(case.op))


def _clips(graph: Graph, case: Case) -> list[Array]:
    """Return the outputs of the case as the middle one of three clips; the other two hold other values."""
    node = graph.nodes[0]
    running = {i for i in node.inputs if i >= 0 and not graph.tensors[i].constant}
    if not OPS[node.op].batch or any(graph.tensors[i].shape[:1] != (1,) for i in (*running, *node.outputs)):
        return interp.run(graph, case.inputs)
    values = dict(zip(graph.inputs, case.inputs, strict=True))
    stacked = {i: np.concatenate([np.flip(values[i]), values[i], np.roll(values[i], 1)]) for i in running}
    data = [None if i < 0 else graph.tensors[i].data if i not in running else stacked[i] for i in node.inputs]
    return [made[1:2] for made in OPS[node.op].meaning(graph, node, data)]


def tflm(model: bytes, *inputs: Array) -> list[Array]:
    """Return the outputs of the TFLM interpreter."""
    return list(tfl.invoke(model, *inputs, arena=1 << 20))


def litert(model: bytes, *inputs: Array) -> list[Array]:
    """Return the outputs of LiteRT's reference kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def either(model: bytes, *inputs: Array) -> list[Array]:
    """Return the outputs of TFLM, or of LiteRT for types that TFLM refuses."""
    try:
        return tflm(model, *inputs)
    except RuntimeError:
        return litert(model, *inputs)


ORACLES = {"tflm": tflm, "litert": litert, "either": either}


def compiled(
    graphs: Sequence[Graph], cases: Sequence[Case], flags: Sequence[str] = toolchain.CHECKED
) -> list[list[Array]]:
    """Return each case's outputs as the C kernels make them; undefined behaviour and wild pointers fail."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "cases.c"
        kernels = sorted({OPS[g.nodes[0].op].call(g, g.nodes[0]).kernel for g in graphs})
        includes = "".join(f'#include "kernels/{kernel}.h"\n' for kernel in kernels)
        units = {graph.unit for graph in graphs} - {"c"}
        chosen = "".join(f"#define EAR_{unit.upper()} 1\n" for unit in units)
        functions = [
            _function(i, graph, case) for i, (graph, case) in enumerate(zip(graphs, cases, strict=True))
        ]
        source.write_text(chosen + includes + "".join(text for text, _ in functions))
        toolchain.host_library(source, [FIRMWARE], source.with_suffix(".so"), flags)
        return guarded.run(source.with_suffix(".so"), [call for _, call in functions])


def _function(index: int, graph: Graph, case: Case) -> tuple[str, guarded.Call]:
    """Return (C function, how to call it): its constants and its scratch are arguments."""
    node = graph.nodes[0]
    call = OPS[node.op].call(graph, node)
    names = {"scratch": "scratch" if call.scratch else "0"}
    constants = {**call.constants}
    for position, tensor in enumerate(node.inputs):
        data = graph.tensors[tensor].data
        if data is None:
            kind = C_TYPES[graph.tensors[tensor].dtype]
            names[f"in{position}"] = f"((const {kind} *)in[{graph.inputs.index(tensor)}])"
        elif f"{{in{position}}}" in " ".join(call.arguments):
            constants[f"in{position}"] = data
    for position, tensor in enumerate(node.outputs):
        names[f"out{position}"] = f"(({C_TYPES[graph.tensors[tensor].dtype]} *)out[{position}])"
    for i, (name, data) in enumerate(constants.items()):
        names[name] = f"((const {C_TYPES[str(data.dtype)]} *)fixed[{i}])"
    arguments = ", ".join(
        re.sub(r"\{(\w+)\}", lambda match: names.get(match[1], match[0]), argument)
        for argument in call.arguments
    )
    start = f"void case_{index}(const void **in, void **out, const void **fixed, void *scratch)"
    body = f"    (void)in, (void)fixed, (void)scratch;\n    {call.symbol}({arguments});\n"
    outputs = tuple((graph.tensors[i].shape, graph.tensors[i].dtype) for i in node.outputs)
    held = tuple(np.ascontiguousarray(data) for data in constants.values())
    text = f"{start};\n{start} {{\n{body}}}\n"
    return text, guarded.Call(f"case_{index}", case.inputs, outputs, held, call.scratch)
