"""Blocks of modern audio models: each compiles, fits virtual-m7 and is as near to float as its simulation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import boards
from firmware.compiler import build as compiler
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import device

pytest.importorskip("keras", reason="needs the extra [train]")

import block_nets

from quantize import int8

Int8 = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Block:
    """One net: its float and int8 models, inputs, and what it was compiled to."""

    name: str
    float_model: bytes
    model: bytes
    x: npt.NDArray[np.float32]
    build: Build

    @property
    def entry(self) -> Int8:
        """Return the inputs as the compiled model takes them."""
        quantisation = self.build.graph.tensors[self.build.graph.inputs[0]].quantisation
        assert quantisation is not None
        q = np.round(self.x / quantisation.scale[0]) + quantisation.zero_point[0]
        return np.clip(q, -128, 127).astype(np.int8)

    def real(self, y: Int8) -> npt.NDArray[np.float64]:
        """Return outputs of the compiled model as real numbers."""
        quantisation = self.build.graph.tensors[self.build.graph.outputs[0]].quantisation
        assert quantisation is not None
        made: npt.NDArray[np.float64] = (y.astype(np.float64) - quantisation.zero_point[0]) * float(
            quantisation.scale[0]
        )
        return made


@pytest.fixture(scope="module", params=block_nets.NETS)
def block(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Block:
    name = request.param
    float_model, model = block_nets.quantised(name)
    out = tmp_path_factory.mktemp("blocks") / name
    made = compiler.compile_model(model, boards.load("virtual-m7"), out, name=name)
    return Block(name, float_model, model, block_nets.samples(name, 8, seed=9), made)


def test_it_fits_and_is_as_near_to_float_as_its_simulation(block: Block) -> None:
    wanted = int8.run(block.float_model, block.x)
    simulated = int8.sqnr_db(wanted, int8.run(block.model, block.x))
    made = block.real(interp.run_batch(block.build.graph, block.entry)).reshape(wanted.shape)
    assert int8.sqnr_db(wanted, made) > simulated - 1
    assert block.build.sizes["ram_bytes"]["total"] < boards.load("virtual-m7").ram_memory.size


def test_the_board_computes_what_the_host_does(block: Block, tmp_path: Path) -> None:
    with device.open(block.build, None) as board:
        for x in block.entry[:2]:
            wanted = interp.run(block.build.graph, [x[None]])[0].ravel()
            np.testing.assert_array_equal(board.infer(x[None]), wanted)
