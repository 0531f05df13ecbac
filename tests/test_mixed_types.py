"""Whole models whose tensors are of many types: numpy, LiteRT and the emitted C say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tflite_writer as tfl
from op_oracle import litert
from typed_values import of

from firmware.compiler import build, interp, passes, read_tflite
from firmware.compiler.plan import plan

I32 = tfl.constant


def codebook() -> bytes:
    """A quantiser with a codebook: the nearest of 8 codes, its number, its vector, and what is left over."""
    rng = np.random.default_rng(4)
    codes = I32("codes", rng.integers(-100, 100, (8, 4)), "int8", 0.1, 3)
    x, y = of("x", (6, 4)), tfl.Value("y", (6, 4), "int8", 0.2, 1)
    scores, best, near = of("d", (6, 8)), of("best", (6,), "int64"), of("near", (6, 4))
    narrow = of("n", (6,), "int32")
    flat, wide, turned = of("t", (4, 8)), of("m", (6, 4), "bool"), of("r", (6, 4))
    nodes = [
        tfl.Op("TRANSPOSE", [codes, I32("p", [1, 0])], [flat]),
        tfl.Op("BATCH_MATMUL", [x, flat], [scores]),
        tfl.Op("ARG_MAX", [scores, I32("axis", 1)], [best], {"output_type": tfl.TYPES["int64"]}),
        tfl.Op("CAST", [best], [narrow]),
        tfl.Op("GATHER", [codes, narrow], [near]),
        tfl.Op("GREATER", [x, near], [wide]),
        tfl.Op("REVERSE_V2", [near, I32("axes", [0])], [turned]),
        tfl.Op("SELECT_V2", [wide, near, turned], [of("s", (6, 4))]),
        tfl.Op("SUB", [x, of("s", (6, 4))], [y]),
    ]
    return tfl.model([x], nodes, [], [y])


def test_a_codebook_of_many_types(tmp_path: Path) -> None:
    model = codebook()
    x = np.random.default_rng(5).integers(-128, 128, (6, 4)).astype(np.int8)
    graph = passes.unfused(read_tflite.read(model, "codebook"))
    wanted = interp.run(graph, [x])[0]
    np.testing.assert_array_equal(build.host_library(graph, plan(graph), tmp_path)([x])[0], wanted)
    assert np.abs(litert(model, x)[0].astype(int) - wanted).max() <= 1  # LiteRT's SUB and matmul differ by 1
