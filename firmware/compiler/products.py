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
    """A value at each of several places: q - zero, an entry of a table, or a number known when compiling."""

    position: int  # of the node's input that it is read from; -1 for numbers
    first: int
    steps: tuple[int, ...]  # elements along the axes
    zero: int
    scale: float  # real numbers of one unit
    table: Array | None = None  # int16 (256,) or (size of the last axis, 256), by the unsigned byte
    numbers: Array | None = None  # int8 (less zero) or int16, read in the place of a tensor

    @property
    def bits(self) -> int:
        """Return n such that every value is below 2**n."""
        if self.numbers is not None:
            return int(np.abs(self.numbers.astype(np.int32) - self.zero).max()).bit_length()
        return PLAIN if self.table is None else TABLED

    @property
    def apart(self) -> int:
        """Return the elements from the table of one channel to the next."""
        return 256 if self.table is not None and self.table.ndim > 1 else 0

    def at(self, sizes: Sequence[int]) -> Array:
        """Return the element that is read at each place."""
        at = np.full(tuple(sizes), self.first)
        for axis, step in enumerate(self.steps):
            at = at + np.arange(sizes[axis]).reshape(-1, *(1,) * (len(sizes) - 1 - axis)) * step
        return at

    def read(self, inputs: Sequence[Array], sizes: Sequence[int], clips: int = 1) -> Array:
        """Return the values as int64 (clips, *sizes); places before the first one are not used."""
        at = self.at(sizes)
        if self.numbers is not None:
            return np.broadcast_to(self.numbers.astype(np.int64)[at] - self.zero, (clips, *at.shape))
        q = inputs[self.position].reshape(clips, -1).take(at, axis=1, mode="wrap")
        if self.table is None:
            return q.astype(np.int64) - self.zero
        place = q.view(np.uint8)
        rows = np.arange(self.table.shape[0])
        entries: Array = self.table[rows, place] if self.table.ndim > 1 else self.table[place]
        return entries.astype(np.int64)

    def literal(self, name: str) -> str:
        """Return the C initialiser; its table, or its numbers, are the constant `name`."""
        steps = c_list(lead(self.steps, AXES, 0))
        if self.numbers is not None and self.numbers.dtype == np.int16:
            return f"{{ .numbers = {{{name}}}, .first = {self.first}, .step = {steps} }}"
        source = f"in{self.position}" if self.numbers is None else name
        table = "" if self.table is None else f".table = {{{name}}}, .apart = {self.apart}, "
        return f"{{ .x = {{{source}}}, {table}.first = {self.first}, .zero = {self.zero}, .step = {steps} }}"

    @property
    def constant(self) -> Array | None:
        """Return the array that the kernel reads from flash."""
        return self.numbers if self.table is None else self.table


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
