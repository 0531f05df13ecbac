"""The guards around the buffers of C kernels: what they catch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import guarded
import numpy as np
import numpy.typing as npt
import pytest

from firmware.compiler import toolchain

FUNCTION = """
#include <stdint.h>
void f(const void **in, void **out, const void **fixed, void *scratch);
void f(const void **in, void **out, const void **fixed, void *scratch) {
    const int8_t *x = in[0];
    const int32_t *table = fixed[0];
    int8_t *y = out[0], *space = scratch;
    (void)table, (void)space;
    y[0] = x[0];
    WRONG;
}
"""
WRONG = {
    "y[0] = x[8]": "outside",
    "y[0] = x[-1]": "outside",
    "y[0] = (int8_t)table[2]": "outside",
    "y[0] = (int8_t)table[x[0] + 0x7fffffff]": "undefined",
    "y[0] = *(&space[0] - 1)": "outside",
    "space[16] = 1": "outside",
    "y[5] = 1": "beside",
    "y[-1] = 1": "beside",
    "((int8_t *)x)[1] = 9": "its input or constant 0",
    "((int32_t *)table)[1] = 9": "its input or constant 0",
    "y[0] = (int8_t)((uintptr_t)x >> 2)": "where its buffers lie",
}


def called(wrong: str, folder: Path) -> list[npt.NDArray[Any]]:
    source = folder / "f.c"
    source.write_text(FUNCTION.replace("WRONG", wrong))
    toolchain.host_library(source, [], folder / "f.so", (*toolchain.CHECKED, "-Wno-error"))
    x, table = np.arange(3, 11, dtype=np.int8), np.arange(2, dtype=np.int32)
    return guarded.run(folder / "f.so", [guarded.Call("f", (x,), (((5,), "int8"),), (table,), 16)])[0]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wild_access_fails(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=WRONG[wrong]):
        called(wrong, tmp_path)


def test_a_tame_one_does_not(tmp_path: Path) -> None:
    (y,) = called("y[4] = (int8_t)(space[15] = (int8_t)(x[7] + table[1]))", tmp_path)
    assert y.tolist() == [3, 77, 77, 77, 11]
