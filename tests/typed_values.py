"""Random tensors of every element type for the tests of ops that take more than int8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tflite_writer as tfl
from hypothesis import strategies as st

from firmware.compiler.graph import Array

SCALE = (0.1, 3)  # of int8; int16 has a zero-point of 0, other types no scale
MOVED = ("int8", "int16", "int32", "int64", "uint8", "bool", "float32")


def of(name: str, shape: Sequence[int], dtype: str = "int8", data: Any = None) -> tfl.Value:
    """Return a value of a type, with the one scale that ops keep which only move values."""
    scale, zero = {"int8": SCALE, "int16": (SCALE[0], 0)}.get(dtype, (None, 0))
    return tfl.Value(name, tuple(int(size) for size in shape), dtype, scale, zero, data=data)


def numbers(
    draw: Any, shape: Sequence[int], dtype: str, low: int = -(1 << 31), high: int = (1 << 31) - 1
) -> Array:
    """Return random values of a shape and type, as wide as the type and the bounds allow."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if dtype == "float32":
        span = min(-low, high, 100)
        return generator.normal(0, span / 2, tuple(shape)).astype(np.float32)
    least, most = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    drawn = generator.integers(max(low, least), min(high, most), tuple(shape), endpoint=True)
    return drawn.astype(dtype)


def sizes(draw: Any, least: int = 1, most: int = 5) -> list[int]:
    """Draw the sizes of a tensor, the first often 1."""
    drawn: list[int] = draw(st.lists(st.integers(1, 5), min_size=least, max_size=most))
    return [1, *drawn[1:]] if draw(st.booleans()) else drawn


def broadcast(draw: Any) -> tuple[list[int], list[int], tuple[int, ...]]:
    """Draw two shapes that broadcast, and the shape they give."""
    shape = sizes(draw, most=4)
    a, b = ([1 if draw(st.integers(0, 3)) == 0 else n for n in shape] for _ in range(2))
    return a, b, np.broadcast_shapes(a, b)
