"""Shapes that depend on the batch: what Keras' converter writes compiles, and means what LiteRT computes."""

from __future__ import annotations

import numpy as np
import pytest
import tflite_writer as tfl
from op_oracle import litert

from firmware.compiler import interp, passes, read_tflite
from firmware.compiler.graph import ModelError

Q = (0.05, 3)


def dense_over_time(rows: int = 6) -> bytes:
    """Dense on (batch, rows, 4), as a converter spells it: sizes that it does not know are 1."""
    rng = np.random.default_rng(0)
    x = tfl.Value("x", (1, rows, 4), "int8", *Q, signature=(-1, rows, 4))
    flat = tfl.Value("flat", (1, 1), "int8", *Q, signature=(-1, -1))
    dense = tfl.Value("dense", (1, 5), "int8", *Q, signature=(-1, 5))
    y = tfl.Value("y", (1, rows, 5), "int8", *Q, signature=(-1, rows, 5))
    weights = tfl.constant("w", rng.integers(-127, 128, (5, 4)), "int8", 0.01)
    shapes = [tfl.constant("to flat", [-1, 4]), tfl.constant("back", [-1, rows, 5])]
    nodes = [
        tfl.Op("RESHAPE", [x, shapes[0]], [flat]),
        tfl.Op("FULLY_CONNECTED", [flat, weights], [dense], {}, 4),
        tfl.Op("RESHAPE", [dense, shapes[1]], [y]),
    ]
    return tfl.model([x], nodes, [], [y])


def dilated() -> bytes:
    """A dilated convolution as SPACE_TO_BATCH_ND, CONV_2D, BATCH_TO_SPACE_ND: the batch grows on the way."""
    rng = np.random.default_rng(1)
    x = tfl.Value("x", (1, 8, 6, 2), "int8", *Q, signature=(-1, 8, 6, 2))
    apart = tfl.Value("apart", (1, 4, 3, 2), "int8", *Q, signature=(-1, 4, 3, 2))
    conv = tfl.Value("conv", (1, 2, 1, 3), "int8", *Q, signature=(-1, 2, 1, 3))
    y = tfl.Value("y", (1, 4, 2, 3), "int8", *Q, signature=(-1, 4, 2, 3))
    blocks, none = (tfl.constant(n, v) for n, v in (("blocks", [2, 2]), ("none", [[0, 0], [0, 0]])))
    weights = tfl.constant("w", rng.integers(-127, 128, (3, 3, 3, 2)), "int8", 0.005)
    bias = tfl.constant("b", rng.integers(-500, 500, 3), "int32", 0.05 * 0.005)
    slide = {"padding": "VALID", "stride_w": 1, "stride_h": 1, "fused_activation_function": "NONE"}
    nodes = [
        tfl.Op("SPACE_TO_BATCH_ND", [x, blocks, none], [apart], {}, 2),
        tfl.Op("CONV_2D", [apart, weights, bias], [conv], slide, 3),
        tfl.Op("BATCH_TO_SPACE_ND", [conv, blocks, none], [y], {}, 2),
    ]
    return tfl.model([x], nodes, [], [y])


@pytest.mark.parametrize("model", [dense_over_time(), dilated()], ids=["dense over time", "dilated"])
def test_open_shapes_follow_from_the_input(model: bytes) -> None:
    graph = passes.run(read_tflite.read(model, "open"))
    shape = graph.tensors[graph.inputs[0]].shape
    for seed in range(3):
        x = np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)
        (made,), (wanted,) = interp.run(graph, [x]), litert(model, x)
        assert np.abs(made.astype(int) - wanted).max() <= 1  # LiteRT rounds dense layers once
        assert made.shape == wanted.shape


def test_a_shape_that_does_not_follow_is_refused() -> None:
    x = tfl.Value("x", (1, 6, 4), "int8", *Q, signature=(-1, 6, 4))
    y = tfl.Value("y", (1, 1), "int8", *Q, signature=(-1, -1))
    node = tfl.Op("RESHAPE", [x, tfl.constant("to", [-1, 5])], [y])
    with pytest.raises(ModelError, match=r"RESHAPE \(version 1\) 'y': \(1, 6, 4\) of int8 to"):
        passes.run(read_tflite.read(tfl.model([x], [node], [], [y]), "m"))
