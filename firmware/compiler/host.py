"""Runs a model.c that was compiled for this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from firmware.compiler.graph import Array, Graph, ModelError, Tensor


class _End(ctypes.Structure):  # struct ear_end of model.h
    _fields_ = (("data", ctypes.c_void_p), ("bytes", ctypes.c_uint32))


@dataclass(frozen=True)
class HostModel:
    """A compiled model in this process: call it with the inputs, in order, as often as you like."""

    graph: Graph
    library: Any

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs of the next run; states go on from the run before.

        Raises:
            ModelError: not the number, types or shapes of inputs that the model takes.
        """
        values = [self.graph.tensors[i] for i in self.graph.inputs]
        if len(inputs) != len(values):
            raise ModelError(f"{self.graph.name} takes {len(values)} inputs, got {len(inputs)}")
        for value, array, end in zip(values, inputs, self._ends("ear_inputs", len(values)), strict=True):
            if array.dtype != value.dtype or array.shape != value.shape:
                wanted, got = f"{value.dtype} {value.shape}", f"{array.dtype} {array.shape}"
                raise ModelError(f"{self.graph.name}: input {value.name!r} is {wanted}, got {got}")
            ctypes.memmove(end.data, np.ascontiguousarray(array).ctypes.data, value.bytes)
        self.library.ear_model_invoke(None)
        if not self.library.ear_arena_intact():
            raise AssertionError(f"{self.graph.name}: the compiled model wrote outside its arena")
        results = [self.graph.tensors[i] for i in self.graph.outputs]
        ends = self._ends("ear_outputs", len(results))
        return [_array(end, value) for value, end in zip(results, ends, strict=True)]

    def reset(self) -> None:
        """Forget the past: the next run is as the first one."""
        self.library.ear_model_reset()

    def _ends(self, name: str, count: int) -> Sequence[_End]:
        return (_End * count).in_dll(self.library, name)  # type: ignore[return-value]


def load_library(path: Path, graph: Graph) -> HostModel:
    """Return the model in the shared library of `graph`, reset."""
    library = ctypes.CDLL(str(path))
    library.ear_model_invoke.argtypes = [ctypes.c_void_p]
    library.ear_model_invoke.restype = None
    library.ear_model_init()
    return HostModel(graph, library)


def _array(end: _End, value: Tensor) -> Array:
    raw = ctypes.string_at(end.data, value.bytes) if end.data else b""
    return np.frombuffer(raw, value.dtype).reshape(value.shape)
