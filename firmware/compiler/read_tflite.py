"""Reads an int8 .tflite into a Graph. Whatever the bytes are: a Graph or a ModelError, never a crash."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firmware.compiler.flatbuffer import BrokenError, Reader, Table
from firmware.compiler.graph import MAX_ELEMENTS, Array, Graph, ModelError, Node, Quantisation, Tensor
from firmware.compiler.schema import BUILTINS, ENUMS, INPUTS, OPTIONS, OTHER_TYPES, TABLES, TYPES

MAX_RANK = 8
MAX_OPERANDS = 4096
MAX_SUBGRAPHS = 64
MAX_PARTS = 1 << 16  # tensors, or nodes, of all subgraphs
SILENT = ("ASSIGN_VARIABLE", "CALL_ONCE")  # ops without outputs
WHOLE = ("ASSIGN_VARIABLE", "CALL", "IF", "READ_VARIABLE", "WHILE")  # ops without optional inputs
LARGEST = 1e8  # number among the options of an op
SCHEMA_VERSION = 3


@dataclass(frozen=True)
class _OpCode:
    name: str
    version: int


def read(data: bytes, name: str) -> Graph:
    """Return the first subgraph of a .tflite file, verified; the others are its `subgraphs`.

    Args:
        data: the whole file.
        name: what messages call the model, such as its file name.

    Raises:
        ModelError: the file is truncated, damaged or hostile, or holds what no microcontroller model has.
    """
    if len(data) < 8 or bytes(data[4:8]) != b"TFL3":
        raise ModelError(
            f"{name}: not a .tflite file (no TFL3 mark in its {len(data)} bytes): check the path"
        )
    try:
        graph = _read(Reader(bytes(data)).root(), name)
    except BrokenError as error:
        raise ModelError(f"{name}: damaged .tflite file: {error}: export or download it again") from None
    for subgraph in graph.subgraphs:
        subgraph.verify()
    return graph.verify()


def _read(model: Table, name: str) -> Graph:
    version = model.scalar(0, "u32", 0)
    if version != SCHEMA_VERSION:
        raise BrokenError(f"its schema version is {version}, not {SCHEMA_VERSION}")
    subgraphs = model.children(2)
    if not 0 < len(subgraphs) <= MAX_SUBGRAPHS:
        raise BrokenError(f"it has {len(subgraphs)} subgraphs (1 to {MAX_SUBGRAPHS} are read)")
    codes = [_opcode(table) for table in model.children(1)]
    buffers = model.children(4)
    parts = [(subgraph.children(0), subgraph.children(3)) for subgraph in subgraphs]
    for what, number in (("tensors", 0), ("ops", 1)):
        count = sum(len(part[number]) for part in parts)
        if count > MAX_PARTS:
            raise BrokenError(f"it has {count} {what} (up to {MAX_PARTS} are read)")
    graphs = [
        _graph(subgraph, *part, codes, buffers, name) for subgraph, part in zip(subgraphs, parts, strict=True)
    ]
    first = graphs[0]
    if not first.inputs or not first.outputs or not first.nodes:
        counts = len(first.inputs), len(first.nodes), len(first.outputs)
        raise BrokenError("it has {} inputs, {} ops, {} outputs".format(*counts))
    return replace(first, subgraphs=tuple(graphs[1:]))


def _graph(
    subgraph: Table,
    values: list[Table],
    steps: list[Table],
    codes: list[_OpCode],
    buffers: list[Table],
    name: str,
) -> Graph:
    tensors = tuple(_tensor(table, i, buffers, name) for i, table in enumerate(values))
    nodes = tuple(_node(table, codes, tensors) for table in steps)
    return Graph(tensors, nodes, _indices(subgraph, 1), _indices(subgraph, 2), name)


def _opcode(table: Table) -> _OpCode:
    builtin = max(table.scalar(3, "i32", 0), table.scalar(0, "i8", 0))
    if builtin < 0:
        raise BrokenError(f"it names op {builtin}")
    op = BUILTINS[builtin] if builtin < len(BUILTINS) else f"BUILTIN_{builtin}"
    if op == "CUSTOM":
        op = f"CUSTOM {table.text(1)}".strip()
    return _OpCode(op, table.scalar(2, "i32", 1))


def _indices(table: Table, slot: int) -> tuple[int, ...]:
    found = table.numbers(slot, "int32")
    if found.size > MAX_OPERANDS:
        raise BrokenError(f"an op has {found.size} operands")
    return tuple(int(i) for i in found)


def _tensor(table: Table, index: int, buffers: list[Table], model: str) -> Tensor:
    name = table.text(3) or f"tensor {index}"
    shape = tuple(int(n) for n in table.numbers(0, "int32"))
    kind = table.scalar(1, "i8", 0)
    if kind not in TYPES:
        kind_name = OTHER_TYPES.get(kind, f"of type {kind}")
        raise ModelError(f"{model}: tensor {name!r} is {kind_name}: quantise the model to int8")
    if len(shape) > MAX_RANK or any(n < 1 for n in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ModelError(f"{model}: tensor {name!r} has shape {shape}: export with fixed sizes (batch 1)")
    if table.at(6) is not None:
        raise ModelError(f"{model}: tensor {name!r} is stored sparse: export it dense")
    data = _constant(table, shape, TYPES[kind], buffers, name)
    dtype = "int8" if TYPES[kind] == "int4" else TYPES[kind]
    if TYPES[kind] == "int4" and data is None:
        raise ModelError(f"{model}: tensor {name!r} is computed in int4: keep int4 to weights")
    variable = data is None and TYPES[kind] != "resource" and table.scalar(5, "bool", False)
    return Tensor(
        name,
        shape,
        dtype,
        _scaled(_quantisation(table.child(4), name)),
        data,
        nibbles=dtype != TYPES[kind],
        variable=variable,
        open=data is None and bool((table.numbers(7, "int32") == -1).any()),
    )


def _constant(
    table: Table, shape: tuple[int, ...], dtype: str, buffers: list[Table], name: str
) -> Array | None:
    index = table.scalar(2, "u32", 0)
    if index >= len(buffers):
        raise BrokenError(f"tensor {name!r} names buffer {index} of {len(buffers)}")
    content = buffers[index].bytes(0)
    if not content:
        return None
    if dtype == "resource":
        raise BrokenError(f"the resource {name!r} has {len(content)} bytes of data")
    if dtype == "int4":
        return _nibbles(content, shape, name)
    wanted = math.prod(shape) * np.dtype(dtype).itemsize
    if len(content) != wanted:
        raise BrokenError(f"tensor {name!r} has {len(content)} bytes, its shape {shape} needs {wanted}")
    return np.frombuffer(content, np.dtype(dtype).newbyteorder("<")).reshape(shape)


def _nibbles(content: memoryview, shape: tuple[int, ...], name: str) -> Array:
    """Return int4 values, two a byte with the first one low, as int8."""
    count = math.prod(shape)
    if len(content) != (count + 1) // 2:
        raise BrokenError(
            f"tensor {name!r} has {len(content)} bytes, its shape {shape} needs {(count + 1) // 2}"
        )
    pairs = np.frombuffer(content, np.int8)
    return np.stack([np.left_shift(pairs, 4) >> 4, pairs >> 4], axis=1).reshape(-1)[:count].reshape(shape)


def _quantisation(table: Table | None, name: str) -> Quantisation | None:
    if table is None:
        return None
    scale, zero_point = table.numbers(2, "float32"), table.numbers(3, "int64")
    if not scale.size:
        return None
    if zero_point.size == 0:
        zero_point = np.zeros(scale.size, np.int64)
    if zero_point.size == 1 and scale.size > 1:
        zero_point = np.repeat(zero_point, scale.size)
    if np.abs(zero_point).max() > 1 << 16:
        raise BrokenError(
            f"tensor {name!r} has the zero-point {int(zero_point[np.abs(zero_point).argmax()])}"
        )
    axis = table.scalar(6, "i32", 0)
    if axis < 0:
        raise BrokenError(f"tensor {name!r} is quantised along axis {axis}")
    return Quantisation(scale, zero_point.astype(np.int32), axis)


def _scaled(quantisation: Quantisation | None) -> Quantisation | None:
    """Return the quantisation, None where a converter left the scale of zeros at 0: folding finds one."""
    if quantisation is None or quantisation.scale.any() or quantisation.zero_point.any():
        return quantisation
    return None


def _node(table: Table, codes: list[_OpCode], tensors: tuple[Tensor, ...]) -> Node:
    index = table.scalar(0, "u32", 0)
    if index >= len(codes):
        raise BrokenError(f"an op names op code {index} of {len(codes)}")
    code = codes[index]
    inputs, outputs = _indices(table, 1), _indices(table, 2)
    if (not outputs) != (code.name in SILENT) or any(not 0 <= i < len(tensors) for i in outputs):
        raise BrokenError(f"{code.name} writes tensors {outputs[:4]} of {len(tensors)}")
    most = INPUTS.get(code.name, MAX_OPERANDS)
    if len(inputs) > most or (code.name in INPUTS and not inputs):
        raise BrokenError(f"{code.name} reads {len(inputs)} tensors, not 1 to {most}")
    if code.name in WHOLE and -1 in inputs:
        raise BrokenError(f"{code.name} lacks an input")
    name = tensors[outputs[0]].name.split(";")[0] if outputs else ""
    return Node(code.name, inputs, outputs, _options(table, code.name), code.version, name)


def _options(table: Table, op: str) -> dict[str, Any]:
    """Return the op's options by their schema names; an absent table gives the schema's defaults."""
    number = TABLES.get(op)
    if number is None:
        return {}
    kind, options = table.scalar(3, "u8", 0), table.child(4)
    if options is not None and kind != number:
        raise BrokenError(f"{op} carries option table {kind}, not {number}")
    return {
        name: _option(options, int(slot), field_type, default)
        for slot, name, field_type, default in (field.split(":") for field in OPTIONS[number].split())
    }


def _option(options: Table | None, slot: int, kind: str, default: str) -> Any:
    if kind == "i32s":
        return () if options is None else tuple(int(n) for n in options.numbers(slot, "int32"))
    if kind == "text":
        return "" if options is None else options.text(slot, longest=4096)
    if kind in ENUMS:
        found = int(default) if options is None else options.scalar(slot, "i8", int(default))
        if not 0 <= found < len(ENUMS[kind]):
            raise BrokenError(f"an op has the {kind} {found}")
        return ENUMS[kind][found]
    typed = bool(int(default)) if kind == "bool" else float(default) if kind == "f32" else int(default)
    found = typed if options is None else options.scalar(slot, kind, typed)
    if kind == "f32" and not abs(found) <= LARGEST:
        raise BrokenError(f"an op has the option {found} (up to {LARGEST:g} is read)")
    return found
