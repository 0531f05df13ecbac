"""Factors of fused products: which int8 values a kernel reads, and the 8 or 16 bits that each stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firmware.compiler.graph import Array
from firmware.compiler.operands import c_list, lead

AXES = 4  # of the steps in the kernels' struct
PLAIN, TABLED = 8, 15  # bits of q - zero, and of an entry
WORD = 30  # bits of a product in a register


@dataclass(frozen=True)
class Operand:
    """A value at each of several places: q - zero, or an entry of a table."""

    position: int  # of the node's input that it is read from
    first: int
    steps: tuple[int, ...]  # elements along the axes
    zero: int
    scale: float  # real numbers of one unit
    table: Array | None = None  # int16 (256,) or (size of the last axis, 256), by the unsigned byte

    @property
    def bits(self) -> int:
        """Return n such that every value is below 2**n."""
        return PLAIN if self.table is None else TABLED

    @property
    def apart(self) -> int:
        """Return the elements from the table of one channel to the next."""
        return 256 if self.table is not None and self.table.ndim > 1 else 0

    def read(self, x: Array, sizes: Sequence[int]) -> Array:
        """Return the values as int64 of these sizes."""
        at = np.full(tuple(sizes), self.first)
        for axis, step in enumerate(self.steps):
            at = at + np.arange(sizes[axis]).reshape(-1, *(1,) * (len(sizes) - 1 - axis)) * step
        q = np.ascontiguousarray(x).take(at, mode="wrap")  # places before the first are not used
        if self.table is None:
            return q.astype(np.int64) - self.zero
        bytes_of = q.view(np.uint8)
        rows = np.arange(self.table.shape[0]) if self.table.ndim > 1 else ()
        entries: Array = self.table[rows, bytes_of] if self.table.ndim > 1 else self.table[bytes_of]
        return entries.astype(np.int64)

    def literal(self, name: str) -> str:
        """Return the C initialiser; the table is the constant `name`."""
        table = "0" if self.table is None else f"{{{name}}}"
        steps = c_list(lead(self.steps, AXES, 0))
        return (
            f"{{ .x = {{in{self.position}}}, .table = {table}, .first = {self.first}, .zero = {self.zero}, "
            f".apart = {self.apart}, .step = {steps} }}"
        )


def tabled(values: Array, scale: float) -> Array:
    """Return the int16 table of real values (256,) or (256, channels), by the unsigned byte."""
    units = np.rint(np.roll(values, -128, axis=0).T / scale)
    return np.ascontiguousarray(np.clip(units, -32767, 32767).astype(np.int16))


def finest(values: Array) -> float:
    """Return the scale at which the largest value just fits a table."""
    return max(float(np.abs(values).max()), 1e-30) / 32767


def rounded(x: Array, bits: int) -> Array:
    """Return x / 2**bits, halves up."""
    return (x + ((1 << bits) >> 1)) >> bits


def downs(operands: Sequence[Operand]) -> tuple[int, ...]:
    """Return how many bits a product must lose before each of its factors so that it fits a register."""
    bits, lost = 0, []
    for operand in operands:
        lost.append(max(0, bits + operand.bits - WORD))
        bits = min(WORD, bits + operand.bits)
    return tuple(lost)
