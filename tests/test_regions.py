"""RAM in several regions: what does not fit the fastest is split by heat, and runs bit for bit the same."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given, settings
from hypothesis import strategies as st
from test_order import tangles

import boards
from boards.errors import UserError
from firmware.compiler import build, fit, interp, passes, read_tflite, toolchain
from firmware.compiler.elf import Elf
from firmware.compiler.graph import Graph
from firmware.compiler.plan import plan
from kit import device

Q = (0.05, 7)


def wide(side: int) -> bytes:
    """A net whose activations take more than the fastest region of virtual-m7."""
    rng = np.random.default_rng(2)
    values = [tfl.Value(f"v{i}", (1, side, side, c), "int8", *Q) for i, c in enumerate((8, 16, 24, 8))]
    slide = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "fused_activation_function": "NONE"}
    nodes = []
    for a, b in itertools.pairwise(values):
        weights = rng.integers(-127, 128, (b.shape[3], 1, 1, a.shape[3]))
        nodes.append(
            tfl.Op("CONV_2D", [a, tfl.constant(f"w{b.name}", weights, "int8", 0.002)], [b], slide, 3)
        )
    return tfl.model(values[:1], nodes, [], values[-1:])


def test_a_model_too_large_for_one_region_runs_in_two(tmp_path: Path) -> None:
    made = build.compile_model(wide(80), boards.load("virtual-m7"), tmp_path / "build", name="wide")
    assert len(made.plan.arenas) == 2
    assert 90_000 < made.plan.arenas[0] < 0x20000
    assert made.sizes["arena_bytes"] == dict(zip(("ram", "sram"), made.plan.arenas, strict=True))
    x = np.random.default_rng(0).integers(-128, 128, (1, 80, 80, 8)).astype(np.int8)
    with device.open(made, None) as board:
        np.testing.assert_array_equal(board.infer(x), interp.run(made.graph, [x])[0].ravel())
        used = board.memory()
    assert used.arena_intact
    assert 0 < used.arena_high_water <= made.plan.arena


def test_a_model_that_fits_stays_in_the_fastest(kws_model: Path) -> None:
    board = boards.load("virtual-m7")
    graph = passes.run(read_tflite.read(kws_model.read_bytes(), "kws"))
    assert plan(graph, fit.regions(graph, board)) == plan(graph)


def test_a_model_too_large_for_all_is_refused_with_all_its_ram(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"virtual-m7 has 640 KB \(largest: v2"):
        build.compile_model(wide(180), boards.load("virtual-m7"), tmp_path / "build", name="wide")
    assert not (tmp_path / "build").exists()


@given(tangles(), st.lists(st.integers(0, 80), min_size=2, max_size=3))
@settings(max_examples=60, deadline=None)
def test_no_two_live_values_share_a_place(graph: Graph, sizes: list[int]) -> None:
    regions = [*sizes, 1 << 20]
    made = plan(graph, regions)
    assert all(used <= size for used, size in zip(made.arenas, regions, strict=False))
    for alive in made.lifetimes:
        taken = sorted((place, place + size) for _, place, size in alive)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(taken))
        for start, stop in taken:
            assert made.located(start)[0] == made.located(stop - 1)[0]


SLOW = (
    (boards.HERE / "virtual-m4.toml")
    .read_text(encoding="utf-8")
    .replace("[memory.flash]", "[memory.flash]\nwait = 5")
)


@pytest.mark.parametrize("kind", ["zig", "gcc"])
def test_weights_move_out_of_slow_flash(
    kind: toolchain.Toolchain, kws_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        toolchain.driver(kind)
    except UserError as error:
        pytest.skip(str(error))
    slow = boards.parse("virtual-m4", SLOW)
    monkeypatch.setattr(build, "load_board", lambda _: slow)
    made = build.compile_model(kws_model.read_bytes(), slow, tmp_path / "build", name="kws", toolchain=kind)
    moved = set(fit.copied(made.graph, made.plan, slow))
    symbols = Elf((made.path / "firmware.elf").read_bytes()).symbols()
    places = {name: symbols[name][0] for name in symbols if name.startswith("n") and name.endswith("weights")}
    assert places
    for name, place in places.items():
        in_ram = slow.ram_memory.origin <= place < slow.ram_memory.origin + slow.ram_memory.size
        assert in_ram == (name in moved)
    x = np.random.default_rng(0).integers(-128, 128, (1, 49, 10, 1)).astype(np.int8)
    with device.open(made, None) as board:
        np.testing.assert_array_equal(board.infer(x), interp.run(made.graph, [x])[0].ravel())


def test_only_what_fits_moves(kws_model: Path) -> None:
    tight = boards.parse("virtual-m4", SLOW.replace("size = 0x40000", "size = 0xC000"))
    graph = passes.run(read_tflite.read(kws_model.read_bytes(), "kws"), "dsp")
    planned = plan(graph, fit.regions(graph, tight))
    moved = fit.copied(graph, planned, tight)
    assert 0 < len(moved) < len(fit.copied(graph, planned, boards.parse("virtual-m4", SLOW)))
    assert fit.copied(graph, planned, boards.load("virtual-m4")) == ()
