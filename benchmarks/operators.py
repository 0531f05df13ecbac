"""Writes the README's table of operators, asked from the compiler and the runtimes through one-op models."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.operator_probes import PROBES
from firmware.compiler import interp, read_tflite
from firmware.compiler.graph import Graph, ModelError
from firmware.compiler.ops import OPS
from firmware.compiler.passes.inline import inline
from firmware.compiler.passes.islands import name_floats
from tests import tflite_writer as writer

Arrays = list[npt.NDArray[Any]]
Runtime = Callable[[bytes, Sequence[npt.NDArray[Any]]], Arrays]
RESULT = Path(__file__).parent / "results" / "operators.md"
TYPES = ("int8", "int16", "int32", "bool", "float32")
FLOAT_ERROR = 1e-5  # relative: the functions of the float kernels are not those of a C library
SECONDS = 20  # that a runtime may take for a probe


def _tflm(model: bytes, inputs: Sequence[npt.NDArray[Any]]) -> Arrays:
    return list(writer.invoke(model, *inputs))


def _litert(model: bytes, inputs: Sequence[npt.NDArray[Any]]) -> Arrays:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


RUNTIMES: dict[str, Runtime] = {"TFLM": _tflm, "LiteRT": _litert}


def _child(runtime: Runtime, model: bytes, inputs: Sequence[npt.NDArray[Any]], sender: Any) -> None:
    try:
        sender.send(runtime(model, inputs))
    except (RuntimeError, ValueError):
        sender.send(None)


def _outputs(runtime: Runtime, model: bytes, inputs: Sequence[npt.NDArray[Any]]) -> Arrays | None:
    """Return what a runtime makes of a model, None when it refuses it, or dies of it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(runtime, model, inputs, sender))
    process.start()
    sender.close()
    try:
        answer: Arrays | None = receiver.recv() if receiver.poll(SECONDS) else None
    except EOFError:
        answer = None
    process.kill()
    process.join()
    return answer


def model(name: str, dtype: str) -> bytes:
    """Return the .tflite file of a probe."""
    op = PROBES[name](dtype)
    running = [
        value for value in op.inputs if value is not None and value.data is None and not value.variable
    ]
    return writer.model(running or [writer.Value("unused", (1,), "int32")], [op], [], op.outputs)


def compiled(name: str, dtype: str) -> Graph | None:
    """Return the probe as the compiler lowers it, None when it refuses the type."""
    try:
        graph = name_floats(inline(read_tflite.read(model(name, dtype), name)))
        for node in graph.nodes:
            op = OPS.get(node.op)
            if op is None or node.version not in op.versions:
                return None
            op.check(graph, node)
            if not op.alias:
                op.call(graph, node)
    except ModelError:
        return None
    return graph


def inputs_of(graph: Graph) -> Arrays:
    """Return inputs that every op can take: above all zero-points and below all sizes."""
    rng = np.random.default_rng(1)
    made: Arrays = []
    for value in (graph.tensors[i] for i in graph.inputs):
        if value.dtype == "float32":
            made.append(rng.uniform(0.5, 3, value.shape).astype(np.float32))
        else:
            least, most = (0, 2) if value.name == "index" or value.dtype == "bool" else (10, 100)
            made.append(rng.integers(least, most, value.shape).astype(value.dtype))
    return made


def _equal(made: Arrays, right: Arrays | None) -> bool:
    if right is None:
        return False
    pairs = [(a.reshape(-1), b.reshape(-1)) for a, b in zip(made, right, strict=True)]
    return all(
        np.allclose(a, b, FLOAT_ERROR, FLOAT_ERROR) if a.dtype.kind == "f" else np.array_equal(a, b)
        for a, b in pairs
    )


def cell(name: str, dtype: str) -> str:
    """Return the first runtime that gives what we do; "own" where none does, "–" where we refuse the type."""
    graph = compiled(name, dtype)
    if graph is None:
        return "–"
    inputs, data = inputs_of(graph), model(name, dtype)
    made = interp.run(graph, inputs)
    return next((who for who, runs in RUNTIMES.items() if _equal(made, _outputs(runs, data, inputs))), "own")


def builtin() -> list[str]:
    """Return the names of the TFLite ops that the compiler knows, its own fused ones left out."""
    return sorted(name for name in OPS if not name.startswith("EAR_"))


def table() -> str:
    """Return the table: for each op and type, the runtime whose result ours equals."""
    rows = [f"| op | versions | {' | '.join(TYPES)} |", "|---" * (2 + len(TYPES)) + "|"]
    for name in builtin():
        versions = OPS[name].versions
        cells = " | ".join(cell(name, dtype) for dtype in TYPES)
        rows.append(f"| `{name}` | {versions.start}–{versions.stop - 1} | {cells} |")
    return "\n".join(rows)


if __name__ == "__main__":
    RESULT.write_text(table() + "\n", encoding="utf-8")
