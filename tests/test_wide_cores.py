"""Int16, 4-bit, transposed and batched products on an emulated M4: SMLAD kernels give numpy's values."""

from __future__ import annotations

from pathlib import Path

import core_runner
import numpy as np
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from op_oracle import Case
from test_ops_int4 import halved
from test_ops_int16 import widened
from test_ops_matmul import products, upsamplings

from firmware.compiler import interp, passes, read_tflite

KINDS = {
    "conv of 4 bits": halved(strategies.conv_2d()),
    "dense of 4 bits": halved(strategies.fully_connected()),
    "conv of int16": widened(strategies.conv_2d()),
    "dense of int16": widened(strategies.fully_connected()),
    "upsampling": upsamplings(),
    "upsampling of int16": widened(upsamplings(), ("int64",)),
    "batched": products().filter(lambda case: len(case.inputs) == 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_ops(kind: str, tmp_path: Path) -> None:
    @given(KINDS[kind])
    @settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
    def drawn(case: Case) -> None:
        graph = passes.run(read_tflite.read(case.model, "case"))
        (x,) = case.inputs
        made = core_runner.run(graph, x, "virtual-m4", tmp_path)
        np.testing.assert_array_equal(made, interp.run(graph, [x])[0])

    drawn()
