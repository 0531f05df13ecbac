"""All kernels of a unit stand in one model: no two of them define the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

import boards
import firmware
from firmware.compiler import toolchain

KERNELS = firmware.ROOT / "kernels"
UNITS = {"virtual-m0plus": "EAR_SCALAR", "virtual-m4": "EAR_DSP", "virtual-m55": "EAR_MVE"}
PARTS = {"dsp.h"}  # that kernels include themselves, where the unit has them


@pytest.mark.parametrize("board", UNITS)
def test_kernels_stand_side_by_side(board: str, tmp_path: Path) -> None:
    folders = (KERNELS, KERNELS / "int16", KERNELS / "int4")
    headers = [path for folder in folders for path in sorted(folder.glob("*.h")) if path.name not in PARTS]
    source = tmp_path / "all.c"
    includes = "".join(f'#include "{path.relative_to(firmware.ROOT)}"\n' for path in headers)
    source.write_text(f"#define {UNITS[board]} 1\n{includes}const int ear_kernels = {len(headers)};\n")
    toolchain.compile_object(source, [firmware.ROOT], boards.load(board), tmp_path / "all.o", "0")
    assert (tmp_path / "all.o").stat().st_size
