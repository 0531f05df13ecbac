"""Runs C functions in a process of their own, each buffer between two pages that nobody may touch.

A buffer lies at the end of its memory in one run (what goes beyond its last word faults), and at the start in
another (what goes before it faults). What else its memory holds must stay as it was, and so must what is only
read. A fault, or undefined behaviour that traps, fails the test and not the whole run.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
WORD = 4  # bytes: the arena and the constants keep this alignment, and kernels may read whole words
CANARY = 0xA5


@dataclass(frozen=True)
class Call:
    """A function `void f(const void **inputs, void **outputs, const void **constants, void *scratch)`."""

    symbol: str
    inputs: tuple[Array, ...]
    outputs: tuple[tuple[tuple[int, ...], str], ...]  # (shape, dtype)
    constants: tuple[Array, ...] = ()
    scratch: int = 0  # bytes


class Buffer:
    """Memory for one array between two pages without access, filled with canaries around it."""

    def __init__(self, data: Array, at_end: bool) -> None:
        content = np.ascontiguousarray(data).tobytes()
        padded = -(-len(content) // WORD) * WORD
        self.inner = max(1, -(-padded // mmap.PAGESIZE)) * mmap.PAGESIZE
        self.memory = mmap.mmap(-1, self.inner + 2 * mmap.PAGESIZE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for page in (base, base + mmap.PAGESIZE + self.inner):
            protected = ctypes.CDLL(None).mprotect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0)
            assert protected == 0
        self.start = mmap.PAGESIZE + (self.inner - padded if at_end else 0)
        self.size = len(content)
        self.address = base + self.start
        self.memory[mmap.PAGESIZE : mmap.PAGESIZE + self.inner] = bytes([CANARY]) * self.inner
        self.memory[self.start : self.start + self.size] = content

    @property
    def content(self) -> bytes:
        """Return the bytes of the array."""
        return self.memory[self.start : self.start + self.size]

    @property
    def around(self) -> bytes:
        """Return the bytes beside the array."""
        behind = self.memory[self.start + self.size : mmap.PAGESIZE + self.inner]
        return self.memory[mmap.PAGESIZE : self.start] + behind


def run(library: Path, calls: Sequence[Call]) -> list[list[Array]]:
    """Return the outputs of each call.

    Raises:
        AssertionError: a call reads or writes outside its buffers, changes what it should read, or traps.
    """
    made = []
    for call in calls:
        try:
            made.append(_worker().submit(_twice, str(library), call).result())
        except BrokenProcessPool:
            _worker.cache_clear()
            raise AssertionError(
                f"{call.symbol} touches memory outside of its buffers, or has undefined behaviour"
            ) from None
    return made


@functools.cache
def _worker() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


def _twice(library: str, call: Call) -> list[Array]:
    function = getattr(_loaded(library), call.symbol)
    behind, before = (_once(function, call, at_end) for at_end in (True, False))
    for one, other in zip(behind, before, strict=True):
        assert one.tobytes() == other.tobytes(), f"{call.symbol} depends on where its buffers lie"
    return behind


@functools.lru_cache(maxsize=1)
def _loaded(library: str) -> ctypes.CDLL:
    return ctypes.CDLL(library)


def _once(function: Any, call: Call, at_end: bool) -> list[Array]:
    read = [[Buffer(array, at_end) for array in arrays] for arrays in (call.inputs, call.constants)]
    written = [Buffer(np.full(shape, 77, dtype), at_end) for shape, dtype in call.outputs]
    scratch = Buffer(np.full(call.scratch, CANARY, np.uint8), at_end)
    pointers = [_pointers(buffers) for buffers in (read[0], written, read[1])]
    function(*pointers, ctypes.c_void_p(scratch.address))
    for arrays, buffers in zip((call.inputs, call.constants), read, strict=True):
        for i, (array, buffer) in enumerate(zip(arrays, buffers, strict=True)):
            assert buffer.content == array.tobytes(), f"{call.symbol} writes to its input or constant {i}"
    for buffer in (*read[0], *written, *read[1], scratch):
        assert set(buffer.around) <= {CANARY}, f"{call.symbol} writes beside a buffer of {buffer.size} bytes"
    return [
        np.frombuffer(buffer.content, dtype).reshape(shape)
        for buffer, (shape, dtype) in zip(written, call.outputs, strict=True)
    ]


def _pointers(buffers: Sequence[Buffer]) -> Any:
    return (ctypes.c_void_p * max(1, len(buffers)))(*(buffer.address for buffer in buffers))
