"""Writes small .tflite files for the tests, through the schema that ships with tflite_micro."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "int16": schema.TensorType.INT16,
    "int8": schema.TensorType.INT8,
    "int4": schema.TensorType.INT4,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
    "resource": schema.TensorType.RESOURCE,
}
# Ops whose options table is not the op's name in camel case + "Options".
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "PADV2": "PadV2Options",
    "SVDF": "SVDFOptions",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SELECT_V2": "SelectV2Options",
    "TOPK_V2": "TopKV2Options",
}
ENUMS = {
    "padding": schema.Padding,
    "fused_activation_function": schema.ActivationFunctionType,
    "mode": schema.MirrorPadMode,
}


@dataclass(frozen=True)
class Value:
    """A tensor to write: `scale` is a float or one a channel along `axis`; `data` makes it a constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: Any = None
    zero_point: Any = 0
    axis: int = 0
    data: Any = None
    signature: tuple[int, ...] = ()  # -1 for a size that is open
    variable: bool = False  # kept from run to run


@dataclass(frozen=True)
class Op:
    """A node to write: inputs and outputs by value (None: absent), options by snake-case schema names."""

    name: str
    inputs: Sequence[Value | None]
    outputs: Sequence[Value]
    options: dict[str, Any] = field(default_factory=dict)
    version: int = 1


@dataclass(frozen=True)
class Part:
    """A further subgraph to write."""

    inputs: Sequence[Value]
    nodes: Sequence[Op]
    outputs: Sequence[Value]


def constant(
    name: str, data: Any, dtype: str = "int32", scale: Any = None, zero_point: Any = 0, axis: int = 0
) -> Value:
    """Return a constant value with the shape of its data."""
    array = np.asarray(data, dtype)
    return Value(name, array.shape, dtype, scale, zero_point, axis, array)


def model(
    inputs: Sequence[Value],
    nodes: Sequence[Op],
    constants: Sequence[Value],
    outputs: Sequence[Value],
    parts: Sequence[Part] = (),
) -> bytes:
    """Return a .tflite file. Constants may also just appear among the inputs of the nodes."""
    made = schema.ModelT()
    made.version = 3
    made.description = "test"
    made.buffers = [schema.BufferT()]
    made.operatorCodes = []
    first = _subgraph(Part(inputs, nodes, outputs), constants, made)
    made.subgraphs = [first, *(_subgraph(part, (), made) for part in parts)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _subgraph(part: Part, constants: Sequence[Value], made: Any) -> Any:
    values: dict[str, Value] = {}
    operands = (v for n in part.nodes for v in (*n.inputs, *n.outputs) if v is not None)
    for value in (*part.inputs, *constants, *operands, *part.outputs):
        assert values.setdefault(value.name, value) is value or values[value.name].shape == value.shape
    index = {name: i for i, name in enumerate(values)}
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(value, made.buffers) for value in values.values()]
    graph.inputs = np.array([index[v.name] for v in part.inputs], np.int32)
    graph.outputs = np.array([index[v.name] for v in part.outputs], np.int32)
    graph.operators = [_operator(node, index, made.operatorCodes) for node in part.nodes]
    return graph


def _tensor(value: Value, buffers: list[Any]) -> Any:
    made = schema.TensorT()
    made.name = value.name
    made.shape = np.array(value.shape, np.int32)
    if value.signature:
        made.shapeSignature = np.array(value.signature, np.int32)
    made.type = TYPES[value.dtype]
    made.buffer = 0
    made.isVariable = value.variable
    if value.data is not None:
        buffer = schema.BufferT()
        data = _nibbles(value.data) if value.dtype == "int4" else np.ascontiguousarray(value.data)
        buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        made.buffer = len(buffers)
        buffers.append(buffer)
    if value.scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = np.atleast_1d(np.asarray(value.scale, np.float32))
        zero_point = np.broadcast_to(np.asarray(value.zero_point, np.int64), made.quantization.scale.shape)
        made.quantization.zeroPoint = np.ascontiguousarray(zero_point)
        made.quantization.quantizedDimension = value.axis
    return made


def _nibbles(data: Any) -> Any:
    """Return int8 values two a byte, the first one low."""
    flat = np.asarray(data, np.int8).reshape(-1)
    pairs = np.pad(flat, (0, flat.size % 2)).reshape(-1, 2)
    return (pairs[:, 0] & 15 | pairs[:, 1] << 4).astype(np.int8)


def _operator(node: Op, index: dict[str, int], codes: list[Any]) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, node.name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = node.version
    made = schema.OperatorT()
    made.opcodeIndex = len(codes)
    codes.append(code)
    made.inputs = np.array([-1 if v is None else index[v.name] for v in node.inputs], np.int32)
    made.outputs = np.array([index[v.name] for v in node.outputs], np.int32)
    table = OPTIONS.get(node.name) or "".join(p.capitalize() for p in node.name.split("_")) + "Options"
    if hasattr(schema, table + "T"):
        made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
        made.builtinOptions = getattr(schema, table + "T")()
        for key, setting in node.options.items():
            enum = ENUMS.get(key)
            camel = key.split("_")[0] + "".join(part.capitalize() for part in key.split("_")[1:])
            assert hasattr(made.builtinOptions, camel), (table, key)
            setattr(made.builtinOptions, camel, getattr(enum, setting) if enum else setting)
    return made


def invoke(model_bytes: bytes, *inputs: Any, arena: int | None = None) -> list[Any]:
    """Return the outputs of the TFLM interpreter for one set of inputs."""
    from tflite_micro.python.tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model_bytes, arena_size=arena)
    for position, array in enumerate(inputs):
        interpreter.set_input(array, position)
    interpreter.invoke()
    return [np.array(interpreter.get_output(i)) for i in range(_outputs(model_bytes))]


def _outputs(model_bytes: bytes) -> int:
    return int(schema.Model.GetRootAsModel(model_bytes, 0).Subgraphs(0).OutputsLength())
