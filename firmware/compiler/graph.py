"""The compiler's graph: tensors, nodes, and the rules they keep between passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from boards.errors import UserError

Array = npt.NDArray[Any]
# Which kernels a model is lowered to, each with its order of weights: portable C, a 32-bit multiplier only
# (M0+, M3), SMLAD (M4, M7, M33), Helium (M55), vectors of a host or of wasm.
Unit = Literal["c", "scalar", "dsp", "mve", "simd"]
CODE = 1 << 16  # bytes of flash that are kept for code, beside constants that take more than they need
MAX_ELEMENTS = 1 << 28  # a tensor above this is hostile, not a model for a microcontroller


class ModelError(UserError):
    """The model cannot be read or compiled; the text names the tensor or op and the cure."""


@dataclass(frozen=True)
class Quantisation:
    """Affine int8/int16/int32 quantisation: real = scale * (q - zero_point), per tensor or per `axis`."""

    scale: npt.NDArray[np.float32]  # shape (1,) or (channels,)
    zero_point: npt.NDArray[np.int32]  # same shape
    axis: int = 0


@dataclass(frozen=True)
class Tensor:
    """One value of the graph. `data` is set for constants only."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # "int8", "int16", "int32", "int64", "float32", "bool"
    quantisation: Quantisation | None = None
    data: Array | None = field(default=None, repr=False, compare=False)
    nibbles: bool = False  # a constant that the model keeps in 4 bits; its data are int8
    variable: bool = False  # of a .tflite: kept from run to run; passes.inline turns these into states
    open: bool = False  # sizes that depend on the batch are not what the file says, see passes.shapes

    @property
    def elements(self) -> int:
        """Return the number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Return the number of bytes that the tensor takes in memory."""
        return self.elements * np.dtype(self.dtype).itemsize

    @property
    def constant(self) -> bool:
        """Tell whether the value is known when compiling."""
        return self.data is not None


def same_scale(a: Tensor, b: Tensor) -> bool:
    """Tell whether the integers of both tensors stand for the same numbers."""
    if a.quantisation is None or b.quantisation is None:
        return a.quantisation is b.quantisation
    scales = np.array_equal(a.quantisation.scale, b.quantisation.scale)
    return scales and np.array_equal(a.quantisation.zero_point, b.quantisation.zero_point)


@dataclass(frozen=True)
class Node:
    """One operation. Absent optional inputs are -1."""

    op: str  # TFLite builtin name, such as "CONV_2D"
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]  # names of the TFLite schema, snake case
    version: int = 1
    name: str = ""  # where it came from, for messages and profiles


@dataclass(frozen=True)
class State:
    """Memory kept between runs: what is `written` in one is `read` in the next, `initial` in the first."""

    read: int  # tensor that no node writes
    written: int  # tensor that a node writes, of the same shape and dtype
    initial: int | Array = field(default=0, compare=False)  # at reset: what fills it, or all its values


@dataclass(frozen=True)
class Graph:
    """A static dataflow graph; `nodes` are in execution order."""

    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = "model"
    states: tuple[State, ...] = ()
    unit: Unit = "c"
    flash_budget: int = 1 << 31  # bytes for code and constants: what a unit may trade for speed
    subgraphs: tuple[Graph, ...] = ()  # of a .tflite, from its second on; passes.inline resolves them

    @cached_property
    def calls(self) -> dict[int, tuple[Node, Any]]:
        """Return the kernel calls worked out so far, by the identity of the node: see ops.lowered."""
        return {}

    @cached_property
    def roomy(self) -> bool:
        """Tell whether every constant could take twice its bytes, with as much left for code as it needs."""
        return 2 * sum(tensor.bytes for tensor in self.tensors if tensor.constant) + CODE <= self.flash_budget

    def verify(self) -> Graph:
        """Return the graph itself if it keeps every rule.

        Raises:
            ModelError: the first broken rule, with the node or tensor that breaks it.
        """
        for message, holds in RULES.items():
            broken = holds(self)
            if broken is not None:
                raise ModelError(f"{self.name}: {message}: {broken}")
        return self


def _indices_in_range(graph: Graph) -> str | None:
    limit = len(graph.tensors)
    for node in graph.nodes:
        for index in (*node.inputs, *node.outputs):
            if not -1 <= index < limit or (index == -1 and index in node.outputs):
                return f"{node.op} {node.name!r} names tensor {index} of {limit}"
    for index in (*graph.inputs, *graph.outputs):
        if not 0 <= index < limit:
            return f"input or output names tensor {index} of {limit}"
    return None


def _sizes_sane(graph: Graph) -> str | None:
    for tensor in graph.tensors:
        if (
            any(not 0 < size <= MAX_ELEMENTS for size in tensor.shape)
            or not 0 < tensor.elements <= MAX_ELEMENTS
        ):
            return f"{tensor.name!r} has shape {tensor.shape}"
        if tensor.data is not None and tensor.data.shape != tensor.shape:
            return f"{tensor.name!r} has shape {tensor.shape}, its data {tensor.data.shape}"
    return None


def _written_once(graph: Graph) -> str | None:
    known = {i for i, tensor in enumerate(graph.tensors) if tensor.constant} | set(graph.inputs)
    known |= {state.read for state in graph.states}
    known |= {i for i, tensor in enumerate(graph.tensors) if tensor.variable}
    if any(graph.tensors[i].constant for i in graph.inputs):
        return "an input is a constant"
    for node in graph.nodes:
        for index in node.inputs:
            if index >= 0 and index not in known:
                return f"{node.op} {node.name!r} reads {graph.tensors[index].name!r} before it is written"
        for index in node.outputs:
            if index in known:
                return f"{node.op} {node.name!r} writes {graph.tensors[index].name!r} a second time"
            known.add(index)
    for index in graph.outputs:
        if index not in known:
            return f"output {graph.tensors[index].name!r} is never written"
    return None


def _scales_positive(graph: Graph) -> str | None:
    for tensor in graph.tensors:
        q = tensor.quantisation
        if q is None:
            continue
        if not (np.isfinite(q.scale).all() and (q.scale > 0).all()):
            return f"{tensor.name!r} has a scale that is not a positive number"
        if q.scale.shape != q.zero_point.shape:
            return f"{tensor.name!r} has {q.scale.size} scales and {q.zero_point.size} zero-points"
        if q.scale.size > 1 and (q.axis >= len(tensor.shape) or tensor.shape[q.axis] != q.scale.size):
            return f"{tensor.name!r} has {q.scale.size} scales along axis {q.axis} of {tensor.shape}"
    return None


def _states_match(graph: Graph) -> str | None:
    written = {index for node in graph.nodes for index in node.outputs}
    for state in graph.states:
        before, after = graph.tensors[state.read], graph.tensors[state.written]
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            return f"{before.name!r} is {before.dtype} {before.shape}, becomes {after.dtype} {after.shape}"
        if state.written not in written:
            return f"{before.name!r} becomes {after.name!r}, which no node writes"
    return None


RULES: Mapping[str, Callable[[Graph], str | None]] = {
    "a tensor index out of range": _indices_in_range,
    "a size out of range": _sizes_sane,
    "a value without exactly one writer": _written_once,
    "a broken quantisation": _scales_positive,
    "a state that changes its type": _states_match,
}
