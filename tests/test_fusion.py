"""Fusions: the same bytes as the chain, or nearer to the real numbers than it; C and numpy agree on all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import small_nets
from fused import fused, ops_of, same_in_c

from firmware.compiler import interp, passes, read_tflite
from firmware.compiler.graph import Graph
from quantize import int8 as quantiser

BANDS, FRAMES = small_nets.BANDS, small_nets.FRAMES


def tables(x: Any) -> Any:
    from keras import layers, ops

    d, slope = layers.Dense(8, name="to_snake")(x), np.linspace(0.5, 3, 8).astype(np.float32)
    return ops.concatenate(
        [
            ops.mean(d + ops.square(ops.sin(d * slope)) * (1 / slope), axis=1),
            ops.mean(ops.log(1.0 + ops.exp(layers.Dense(8, name="to_softplus")(x))), axis=1),
            ops.mean(ops.silu(layers.Dense(8, name="to_silu")(x)), axis=1),
        ],
        axis=-1,
    )


def norms_of_keras(x: Any) -> Any:
    from keras import layers, ops

    d = layers.Dense(16, name="to_centred")(x)
    c = d - ops.mean(d, axis=-1, keepdims=True)
    c = c * ops.rsqrt(ops.mean(c * c, axis=-1, keepdims=True) + 1e-5)
    c = c * np.linspace(0.5, 1.5, 16).astype("f") + np.linspace(-1, 1, 16).astype("f")
    known = (
        layers.LayerNormalization()(layers.Dense(16)(x)),
        layers.GroupNormalization(4)(layers.Dense(16)(x)),
    )
    return ops.concatenate([ops.mean(part, axis=1) for part in (c, *known)], axis=-1)


def others(x: Any) -> Any:
    from keras import layers, ops

    d = layers.Dense(16)(x)
    joined = layers.MultiHeadAttention(4, 2)(d, d) + ops.cumsum(layers.Dense(16)(x), axis=1) * 0.2
    return ops.mean(joined, axis=1)


BODIES = {"tables": tables, "norms": norms_of_keras, "others": others}
FUSED = {  # body: its fused kernels, and how many of them there are
    "tables": ("EAR_TABLE", 3),
    "norms": ("EAR_NORM", 3),
    "others": ("EAR_ATTENTION_IN_PLACE", 1),
}
LEFT = {"FULLY_CONNECTED", "MEAN", "CONCATENATION", "RESHAPE"}
ISLAND = {"DEQUANTIZE", "EAR_FLOAT_CUMSUM", "QUANTIZE", "ADD", "EAR_TABLE"}  # in "others"


@pytest.fixture(scope="session")
def models() -> dict[str, tuple[bytes, bytes]]:
    """Give (float, int8) .tflite of every body, as this project's quantiser leaves it: with float islands."""
    from quantize import export

    made = {}
    worker = small_nets.worker()
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: str(Path(folder) / name) for name in ("model", "calibration", "out")}
        with Path(paths["calibration"]).open("wb") as file:
            np.save(file, small_nets.samples(64))
        for name, body in BODIES.items():
            export.float_tflite(small_nets.net(body), Path(paths["model"]), worker=worker)
            worker.call("quantize.int8", "convert", **paths)
            made[name] = Path(paths["model"]).read_bytes(), Path(paths["out"]).read_bytes()
    return made


def errors(model: tuple[bytes, bytes], graph: Graph) -> npt.NDArray[np.float64]:
    """Return the errors of a graph against the float model on inputs like those of the calibration."""
    entry, end = (graph.tensors[i].quantisation for i in (graph.inputs[0], graph.outputs[0]))
    assert entry is not None
    assert end is not None
    steps = np.round(small_nets.samples(60, seed=3) / entry.scale[0]) + entry.zero_point[0]
    q = np.clip(steps, -128, 127).astype(np.int8)
    right = quantiser.run(model[0], (q.astype(np.float32) - entry.zero_point[0]) * entry.scale[0])
    made = interp.run_batch(graph, q).reshape(right.shape)
    return np.asarray((made.astype(np.float64) - end.zero_point[0]) * end.scale[0] - right)


@pytest.mark.parametrize("name", BODIES)
def test_fused_models_are_nearer_to_float_and_run_in_c(
    name: str, models: dict[str, tuple[bytes, bytes]]
) -> None:
    graph = fused(models[name][1])
    plain = passes.unfused(read_tflite.read(models[name][1], "net"))
    before, after = (errors(models[name], g) for g in (plain, graph))
    assert np.sqrt(np.square(after).mean()) <= np.sqrt(np.square(before).mean()) * 1.001
    for made in (graph, plain):  # the plain one has float islands without tables
        same_in_c(made)


@pytest.mark.parametrize("name", BODIES)
def test_chains_become_one_kernel_each(name: str, models: dict[str, tuple[bytes, bytes]]) -> None:
    made, (kernel, count) = ops_of(fused(models[name][1])), FUSED[name]
    assert made.count(kernel) == count
    assert set(made) - LEFT - {kernel} <= (ISLAND if name == "others" else set())


def _normal(d: Any) -> Any:
    d = d - d.mean(axis=-1, keepdims=True)
    return d / np.sqrt(np.square(d).mean(axis=-1, keepdims=True) + 1e-5)


SLOPE = np.linspace(0.5, 3, 8).astype(np.float32).astype(np.float64)
REAL: dict[str, tuple[str, Callable[[Any], Any]]] = {  # layer before: body, what is computed of its output
    "to_snake": ("tables", lambda d: d + np.sin(d * SLOPE) ** 2 / SLOPE),
    "to_softplus": ("tables", lambda d: np.log1p(np.exp(d))),
    "to_silu": ("tables", lambda d: d / (1 + np.exp(-d))),
    "to_centred": ("norms", lambda d: _normal(d) * np.linspace(0.5, 1.5, 16) + np.linspace(-1, 1, 16)),
}


def between(graph: Graph, source: int, end: int) -> Graph:
    """Return what computes one tensor from another."""
    whole = {node.outputs[0]: node for node in graph.nodes}
    wanted, nodes = [end], set()
    while wanted:
        index = wanted.pop()
        if index != source and index in whole:
            nodes.add(index)
            wanted += whole[index].inputs
    kept = tuple(node for node in graph.nodes if node.outputs[0] in nodes)
    return replace(graph, inputs=(source,), outputs=(end,), nodes=kept)


@pytest.mark.parametrize("name", REAL)
def test_a_fused_kernel_is_never_less_accurate(name: str, models: dict[str, tuple[bytes, bytes]]) -> None:
    """Against float64, on average and at worst, over inputs as calibrated."""
    body, function = REAL[name]
    graph, plain = fused(models[body][1]), passes.unfused(read_tflite.read(models[body][1], "net"))
    node = next(n for n in graph.nodes if name in graph.tensors[n.inputs[0]].name and n.op == FUSED[body][0])
    source, end = node.inputs[0], node.outputs[0]
    first, entry, result = (graph.tensors[i].quantisation for i in (graph.inputs[0], source, end))
    assert first is not None
    assert entry is not None
    assert result is not None
    steps = np.round(small_nets.samples(24) / first.scale[0]) + first.zero_point[0]
    start = between(plain, plain.inputs[0], source)
    x = interp.run_batch(start, np.clip(steps, -128, 127).astype(np.int8))
    x = x.reshape(-1, *graph.tensors[source].shape)
    right = function((x.astype(np.float64) - entry.zero_point[0]) * float(entry.scale[0]))
    errors_of = []
    for made in (between(plain, source, end), between(graph, source, end)):
        y = np.stack([interp.run(made, [one])[0] for one in x])
        error = np.abs((y.astype(np.float64) - result.zero_point[0]) * float(result.scale[0]) - right)
        errors_of.append((error.mean(), error.max()))
    assert errors_of[1][0] <= errors_of[0][0]
    assert errors_of[1][1] <= errors_of[0][1] * 1.000001
