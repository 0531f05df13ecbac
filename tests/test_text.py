"""Text of the dialects: numbers as Python prints them, which rounds the exact value, halves to even."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import firmware
from firmware.compiler import toolchain

STRICT = (*toolchain.CHECKED, "-Wconversion")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("text")
    whole = folder / "whole.c"
    host = Path(__file__).with_name("text_host.c")
    whole.write_text(f'#include "{firmware.ROOT / "text.c"}"\n#include "{host}"\n')
    toolchain.host_library(whole, (firmware.ROOT,), folder / "text.so", STRICT)
    library = ctypes.CDLL(str(folder / "text.so"))
    library.host_real.argtypes = (ctypes.c_float, ctypes.c_uint32)
    library.host_real.restype = ctypes.c_char_p
    library.ear_text_int8.argtypes = (ctypes.c_float, ctypes.c_float, ctypes.c_int32)
    library.ear_text_int8.restype = ctypes.c_int8
    library.ear_text_micro.argtypes = (ctypes.c_uint64, ctypes.c_uint32)
    library.ear_text_micro.restype = ctypes.c_uint64
    library.ear_text_parse.argtypes = (ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint32))
    library.ear_text_parse.restype = ctypes.c_bool
    return library


@settings(max_examples=500, deadline=None)
@given(value=st.floats(-(2.0**45), 2.0**45, width=32), decimals=st.integers(1, 5))
@example(value=0.0625, decimals=3)  # a tie: to even
@example(value=0.1875, decimals=3)
@example(value=-0.0, decimals=3)
@example(value=0.9999999, decimals=5)
def test_reals_are_printed_exactly(text: ctypes.CDLL, value: float, decimals: int) -> None:
    assert text.host_real(value, decimals).decode() == f"{value:.{decimals}f}"


def test_what_is_no_number_says_so(text: ctypes.CDLL) -> None:
    said = [text.host_real(value, 3) for value in (float("nan"), float("inf"), float("-inf"), 2.0**46)]
    assert said == [b"nan", b"inf", b"-inf", b"inf"]


@settings(max_examples=300, deadline=None)
@given(value=st.floats(width=32), zero=st.integers(-128, 127))
def test_floats_become_int8_as_on_the_host(text: ctypes.CDLL, value: float, zero: int) -> None:
    scale = np.float32(0.0371)
    steps = np.float32(value) / scale if abs(value) < 1e9 else np.float32(np.copysign(1e9, value))
    whole = np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5)) + zero
    wanted = -128 if np.isnan(value) else int(np.clip(whole, -128, 127))
    assert text.ear_text_int8(value, scale, zero) == wanted


@given(count=st.integers(0, 2**63), hertz=st.integers(1_000_000, 600_000_000))
def test_microseconds_do_not_overflow(text: ctypes.CDLL, count: int, hertz: int) -> None:
    assert text.ear_text_micro(count, hertz) == count * 1_000_000 // hertz


@given(st.text("0123456789-x ", max_size=12))
def test_only_whole_numbers_are_numbers(text: ctypes.CDLL, said: str) -> None:
    found = ctypes.c_uint32()
    good = said.isdigit() and int(said) < 2**31
    assert text.ear_text_parse(said.encode(), ctypes.byref(found)) == good
    assert not good or found.value == int(said)
