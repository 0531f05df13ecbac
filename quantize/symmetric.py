"""An int8 .tflite as Q/DQ ONNX for TensorRT: the same int8 weights, activations symmetric, float in and out.

TensorRT wants zero-points of 0, pairs in front of what it multiplies, every weight behind a pair of its own,
and biases in float. So each weight keeps its int8 values and scales. An activation with a zero-point gets the
scale that holds its range on both sides of 0; for ranges on one side of 0 that is one bit less. Pairs stay
only where a value goes into a convolution or a matrix product: in between, TensorRT computes in float.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.atomic import write
from boards.errors import UserError
from quantize.export import INPUT, OUTPUT
from quantize.worker import Worker, borrowed

Array = npt.NDArray[Any]
OPSET = 13  # the first with scales for each channel; TensorRT has it since 8.0
IR = 8
PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
MOVES = (  # take int8 as it is, which is the same with real numbers
    {"Concat", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "ReduceMax", "ReduceMin"}
    | {"Reshape", "Resize", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)


def quantise(model: bytes, *, worker: Worker | None = None) -> bytes:
    """Return the ONNX of an int8 .tflite with one input and one output.

    Raises:
        UserError: it has an op that ONNX has no word for.
    """
    with tempfile.TemporaryDirectory() as folder, borrowed(worker) as process:
        source, out = Path(folder) / "model.tflite", Path(folder) / "model.onnx"
        source.write_bytes(model)
        process.call("quantize.symmetric", "convert", model=str(source), out=str(out))
        return out.read_bytes()


def convert(model: str, out: str) -> None:
    """Convert the file `model` to the file `out`. Runs in the worker."""
    write(Path(out), rewritten(imported(Path(model))).SerializeToString())


def imported(path: Path) -> Any:
    """Return what tf2onnx makes of an int8 .tflite: asymmetric pairs around every op."""
    import tf2onnx
    from tensorflow.lite.tools import flatbuffer_utils

    tree = flatbuffer_utils.convert_bytearray_to_object(bytearray(path.read_bytes()))
    for code in tree.operatorCodes:  # tf2onnx reads the old field only, which newer writers leave at 0
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(tree)))
    made, _ = tf2onnx.convert.from_tflite(str(path), opset=OPSET, output_path=str(path.with_suffix(".raw")))
    return made


def rewritten(model: Any) -> Any:
    """Return the model of `imported` with symmetric pairs and float ends.

    Raises:
        UserError: its int8 values go where their meaning is lost.
    """
    import onnx

    made = _Rewriting(model.graph).run()
    onnx.checker.check_model(made, full_check=True)
    return made


class _Rewriting:
    """Follows real values through a graph of pairs; int8 tensors are known by the real ones they mean."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self.graph = graph
        self.constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self.users = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.users[name].append(node)
        self.real: dict[str, str] = {graph.input[0].name: INPUT}  # tensor -> the real values it stands for
        self.int8 = {graph.input[0].name}  # of them
        self.nodes: list[Any] = []
        self.kept: dict[str, Array] = {}  # constants of the new graph

    def run(self) -> Any:
        """Return the new model."""
        from onnx import TensorProto, helper, numpy_helper

        for node in self.graph.node:
            step: Callable[[Any], None] = {
                "QuantizeLinear": self._quantise,
                "DequantizeLinear": self._dequantise,
            }.get(node.op_type, self._other)
            step(node)
        into, out = self.graph.input[0], self.graph.output[0]
        self._node("Identity", [self.real[out.name]], OUTPUT)
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, _sizes(value))
            for name, value in ((INPUT, into), (OUTPUT, out))
        ]
        constants = [numpy_helper.from_array(np.asarray(v, order="C"), name) for name, v in self.kept.items()]
        made = helper.make_graph(self.nodes, "earkit", ends[:1], ends[1:], constants)
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)

    def _node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def _quantise(self, node: Any) -> None:
        self.real[node.output[0]] = self.real.get(node.input[0], node.input[0])
        self.int8.add(node.output[0])

    def _dequantise(self, node: Any) -> None:
        source, out = node.input[0], node.output[0]
        scale, zero = self.constants[node.input[1]], self.constants[node.input[2]]
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        if source in self.constants:
            self._constant(self.constants[source], scale, zero, axis, out)
            return
        if not self._multiplied(out):
            self.real[out] = self.real[source]
            return
        low, high = ((edge - int(zero)) * float(scale) for edge in (-128, 127))
        wide = np.float32(max(-low, high) / 127 if zero else scale)
        self._pair(self.real[source], wide, out)

    def _constant(self, value: Array, scale: Array, zero: Array, axis: int, out: str) -> None:
        """Keep a constant in float, behind a pair if it is the weight of a product."""
        along = [-1 if i == axis else 1 for i in range(value.ndim)] if scale.size > 1 else []
        step = scale.reshape(along).astype(np.float64)
        real = ((value.astype(np.float64) - zero.reshape(along if zero.size > 1 else [])) * step).astype(
            np.float32
        )
        weight = value.dtype == np.int8 and value.ndim > 1 and not zero.any()
        if not weight or not any(user.op_type in PRODUCTS for user in self.users[out]):
            self.kept[out] = real
            return
        self.kept[f"{out}_float"] = real
        flat = scale.astype(np.float32).reshape(-1 if scale.size > 1 else [])
        self._pair(f"{out}_float", flat, out, **({"axis": axis} if scale.size > 1 else {}))

    def _pair(self, source: str, scale: Any, out: str, **axis: int) -> None:
        self.kept[f"{out}_scale"] = np.asarray(scale, np.float32)
        self.kept[f"{out}_zero"] = np.zeros(np.shape(scale), np.int8)
        terms = [f"{out}_scale", f"{out}_zero"]
        self._node("QuantizeLinear", [source, *terms], f"{out}_int8", **axis)
        self._node("DequantizeLinear", [f"{out}_int8", *terms], out, **axis)

    def _multiplied(self, name: str) -> bool:
        """Tell whether a value goes into a product, straight or moved only."""
        return any(
            user.op_type in PRODUCTS or (user.op_type in MOVES and self._multiplied(user.output[0]))
            for user in self.users[name]
        )

    def _other(self, node: Any) -> None:
        """Keep an op; one that moves int8 values moves the real ones."""
        integer = bool(self.int8.intersection(node.input))
        if integer and node.op_type not in MOVES:
            raise UserError(f"{node.op_type} of int8 values has no meaning in real numbers")
        if integer and node.op_type == "Pad" and len(node.input) > 2:
            raise UserError("Pad of int8 values with a value of its own has no pair to say what it means")
        copy = type(node)()
        copy.CopyFrom(node)
        for at, name in enumerate(node.input):
            copy.input[at] = self.real.get(name, name)
            if name in self.constants:
                self.kept[name] = self.constants[name]
        for at, name in enumerate(node.output):
            if integer:
                self.real[name] = copy.output[at] = f"{name}_real"
                self.int8.add(name)
        self.nodes.append(copy)


def _sizes(value: Any) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
