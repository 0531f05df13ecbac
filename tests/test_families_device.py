"""Every family's micro net to the end of the road: it fits the board, and every runtime says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from family_nets import BOARD, CLASSES, artefacts

import boards
from firmware.compiler import compiled, fit, plan, toolchain
from kit import pipeline
from models import registry
from quantize import int8, qdq

NAMES = registry.names()
WEIGHTS, RAM = 250_000, 256 * 1024  # bytes: the budget of a micro size
RAM_TOLERANCE = 0.05  # of what the card says: passes and plan change a little with the compiler
QDQ_DB = 15.0  # symmetric per-tensor activations against the .tflite's asymmetric ones, both without training


def ram(model: bytes, name: str) -> int:
    """Return the bytes of arena and states of an int8 model on the board."""
    board = boards.load(BOARD)
    _, graph, _ = compiled.lower(model, name, toolchain.unit(board), None, board.app_size)
    planned = plan.plan(graph, fit.regions(graph, board))
    return planned.arena + planned.state


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_how_much_ram_it_takes(name: str) -> None:
    needed = ram(artefacts(name).read("int8.tflite"), name)
    said = registry.card(name).sizes["micro"].ram_bytes
    assert needed <= RAM
    assert said is not None, f'{name}: write "ram_bytes": {needed:_} into the card\'s micro'
    assert needed == pytest.approx(said, rel=RAM_TOLERANCE), (
        f"{name}: the card's ram_bytes should be {needed:_}"
    )


@pytest.mark.parametrize("name", NAMES)
def test_board_and_host_agree_on_every_byte(name: str, tmp_path: Path) -> None:
    (tmp_path / "net.tflite").write_bytes(artefacts(name).read("int8.tflite"))
    built = pipeline.compile(tmp_path / "net.tflite", BOARD, tmp_path / "build")
    assert built.sizes["flash_bytes"]["weights"] <= WEIGHTS
    assert built.sizes["ram_bytes"]["total"] <= RAM
    record = pipeline.profile(tmp_path / "build", samples=6).profile
    assert record is not None
    assert (record["samples"], record["mismatches"]) == (6, 0)


@pytest.mark.parametrize("name", NAMES)
def test_qdq_onnx_says_what_the_tflite_says(name: str) -> None:
    made = artefacts(name)
    x = made.calibration[:12]
    wanted = int8.run(made.read("float.tflite"), x)
    assert wanted.shape == (12, CLASSES)
    assert int8.sqnr_db(wanted, int8.run(made.read("int8.tflite"), x)) > QDQ_DB
    assert int8.sqnr_db(wanted, qdq.run(made.read("qdq.onnx"), x)) > QDQ_DB
