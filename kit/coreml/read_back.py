"""A Core ML package, read back: int8 constants, scales and shapes are those of the .tflite, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from boards.errors import UserError
from firmware.compiler.graph import Array
from kit.coreml import evaluate
from kit.coreml.net import Net


def verified(package: Path, net: Net) -> dict[str, Any]:
    """Return what was found equal to `net`'s graph: numbers of ops, constants, weight bytes and int8 tensors.

    Raises:
        UserError: a constant, a scale, a zero-point or a shape differs: the package must not be used.
    """
    function = evaluate.load(package)
    steps, constants = {}, {}
    for operation in function.operations:
        if operation.op_type == "quantize":
            steps[operation.outputs[0].name] = operation
        elif operation.op_type == "constexpr_affine_dequantize":
            constants[operation.outputs[0].name] = operation
    if set(constants) != set(net.names):
        raise _differs(package, "the names of its int8 constants")
    weights = sum(_same_constant(package, net, name, made) for name, made in constants.items())
    graph = net.graph
    wanted = {f"int8_{i}" for i, t in enumerate(graph.tensors) if t.dtype == "int8" and _made(net, i)}
    if not set(steps) <= wanted:
        raise _differs(package, "the names of its int8 values")
    for name, made in steps.items():
        _same_steps(package, net, int(name.rpartition("_")[2]), made)
    shapes = tuple(function.inputs["features"].shape), tuple(function.outputs[0].shape)
    if shapes != (graph.tensors[graph.inputs[0]].shape, graph.tensors[graph.outputs[0]].shape):
        raise _differs(package, f"input and output {shapes}")
    kinds = sorted({o.op_type for o in function.operations} - {"const"})
    return {
        "operations": sum(o.op_type != "const" for o in function.operations),
        "kinds": kinds,
        "int8_constants": len(constants),
        "int8_bytes": weights,
        "int8_values": len(steps),
    }


def _made(net: Net, index: int) -> bool:
    return index in net.graph.inputs or any(index in node.outputs for node in net.graph.nodes)


def _same_constant(package: Path, net: Net, name: str, made: Any) -> int:
    tensor, order = net.tensor(net.names[name]), net.turned[name]
    held, data = tensor.quantisation, made.quantized_data.val
    assert held is not None
    assert tensor.data is not None
    back = np.transpose(data, np.argsort(order)).reshape(tensor.shape)
    equal = data.dtype == np.int8 and np.array_equal(back, tensor.data)
    same = _bits(made.scale.val, held.scale) and np.array_equal(
        np.ravel(made.zero_point.val), held.zero_point
    )
    if not (equal and same):
        raise _differs(package, f"the constant {tensor.name!r}")
    if held.scale.size > 1 and data.shape[int(made.axis.val)] != held.scale.size:
        raise _differs(package, f"the axis of the scales of {tensor.name!r}")
    return int(data.nbytes)


def _same_steps(package: Path, net: Net, index: int, made: Any) -> None:
    tensor = net.tensor(index)
    held, shape = tensor.quantisation, tuple(made.outputs[0].shape)
    assert held is not None
    turned = tuple(tensor.shape[i] for i in (0, 3, 1, 2)) if len(tensor.shape) == 4 else tensor.shape
    if shape not in (tensor.shape, turned):
        raise _differs(package, f"the shape of {tensor.name!r}: {shape}, not {tensor.shape}")
    if not (_bits(made.scale.val, held.scale) and int(made.zero_point.val) == int(held.zero_point[0])):
        raise _differs(package, f"the scale or zero-point of {tensor.name!r}")


def _bits(a: Any, b: Array) -> bool:
    found = np.ravel(np.asarray(a))
    return found.dtype == np.float32 and found.tobytes() == b.astype(np.float32).tobytes()


def _differs(package: Path, what: str) -> UserError:
    return UserError(
        f"{package}: {what} read back otherwise than written: use another version of coremltools"
    )
