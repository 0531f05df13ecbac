"""The README's table of operators: a probe for each, and each probe's C does what its meaning says."""

from __future__ import annotations

import numpy as np
import pytest
import tflite_writer as tfl
from op_oracle import Case, compiled, same

from benchmarks import operator_probes, operators
from firmware.compiler import interp
from firmware.compiler.graph import Graph
from firmware.compiler.ops import OPS


def test_every_op_has_a_probe_and_every_probe_an_op() -> None:
    assert set(operators.builtin()) == set(operator_probes.PROBES)


def test_every_op_compiles_for_some_type() -> None:
    for name in operators.builtin():
        assert any(operators.compiled(name, dtype) for dtype in operators.TYPES), name


@pytest.mark.parametrize("dtype", operators.TYPES)
def test_the_c_of_every_probe(dtype: str) -> None:
    """All ops of a type in one C file, undefined behaviour trapped; ops with a state are tested elsewhere."""
    graphs: list[Graph] = []
    for name in operators.builtin():
        graph = operators.compiled(name, dtype)
        if graph is not None and not graph.states and not OPS[graph.nodes[0].op].alias:
            graphs.append(graph)
    empty = tfl.Op("", [], [])
    cases = [Case(empty, tuple(operators.inputs_of(graph))) for graph in graphs]
    for graph, case, made in zip(graphs, cases, compiled(graphs, cases), strict=True):
        wanted = interp.run(graph, case.inputs)
        if dtype == "float32":
            for one, other in zip(made, wanted, strict=True):
                np.testing.assert_allclose(one, other, 1e-5, 1e-5, err_msg=graph.nodes[0].op)
        else:
            same(made, wanted, case)


@pytest.mark.parametrize(
    ("name", "dtype", "wanted"),
    [
        ("SLICE", "int8", "TFLM"),
        ("TILE", "int32", "LiteRT"),
        ("SIN", "int8", "own"),
        ("LOGICAL_AND", "int8", "–"),
        ("EXP", "float32", "TFLM"),
    ],
)
def test_cells(name: str, dtype: str, wanted: str) -> None:
    assert operators.cell(name, dtype) == wanted
