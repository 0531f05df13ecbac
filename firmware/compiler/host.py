"""Runs a model.c that was compiled for this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np

from firmware.compiler.graph import Array, Graph, ModelError


def load_library(path: Path, graph: Graph) -> Callable[[Array], Array]:
    """Return a function that runs the shared library of `graph`: int8 array of the input's shape → output."""
    library = ctypes.CDLL(str(path))
    x, y = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    ear_input = ctypes.c_void_p.in_dll(library, "ear_input").value
    ear_output = ctypes.c_void_p.in_dll(library, "ear_output").value
    assert ear_input is not None
    assert ear_output is not None
    library.ear_model_invoke.argtypes = [ctypes.c_void_p]
    library.ear_model_invoke.restype = None
    library.ear_model_init()

    def invoke(array: Array) -> Array:
        array = np.ascontiguousarray(array)
        if array.dtype != np.int8 or array.size != x.elements:
            raise ModelError(f"{graph.name} takes int8 {x.shape}, got {array.dtype} {array.shape}")
        ctypes.memmove(ear_input, array.ctypes.data, x.bytes)
        library.ear_model_invoke(None)
        if not library.ear_arena_intact():
            raise AssertionError(f"{graph.name}: the compiled model wrote outside its arena")
        made = np.frombuffer(ctypes.string_at(ear_output, y.bytes), np.int8)
        return made.reshape(y.shape)

    return invoke
