"""What the tests of fusions share: compile, list, run in C."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tflite_writer as tfl

from firmware.compiler import build, interp, passes, plan, read_tflite
from firmware.compiler.graph import Graph


def fused(model: bytes) -> Graph:
    return passes.run(read_tflite.read(model, "net"))


def ops_of(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def same_in_c(graph: Graph, count: int = 6) -> None:
    """Assert that the compiled model gives numpy's bytes on random inputs, undefined behaviour trapped."""
    shape = graph.tensors[graph.inputs[0]].shape
    x = np.random.default_rng(5).integers(-128, 128, (count, *shape)).astype(np.int8)
    x[0], x[1] = -128, 127
    with tempfile.TemporaryDirectory() as folder:
        invoke = build.host_library(graph, plan.plan(graph), Path(folder))
        for one in x:
            for made, wanted in zip(invoke([one]), interp.run(graph, [one]), strict=True):
                np.testing.assert_array_equal(made, wanted)


def q8(name: str, shape: tuple[int, ...], scale: float, zero: int = 0) -> tfl.Value:
    return tfl.Value(name, shape, "int8", scale, zero)
