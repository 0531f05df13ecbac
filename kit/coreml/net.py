"""A graph of a .tflite as a MIL program under construction: values as float, each behind its own int8 steps.

Every int8 tensor is a `quantize` and a `dequantize` with the scale and zero-point of the .tflite, every int8
constant a `constexpr_affine_dequantize` over the very bytes of it. Core ML wants planes (N, C, H, W) where
.tflite has rows (N, H, W, C): a value may be held in either order, and is turned when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder

from boards.errors import UserError
from firmware.compiler.graph import Array, Graph, Node, Tensor, same_scale

TO_PLANES, TO_ROWS = (0, 3, 1, 2), (0, 2, 3, 1)
MOST_AXES = 5  # of a Core ML tensor
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


class Net:
    """What is known of each tensor while the program grows."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._rows: dict[int, Any] = {}
        self._planes: dict[int, Any] = {}
        self.names: dict[str, int] = {}  # of what holds int8 constants -> the tensor
        self.turned: dict[str, tuple[int, ...]] = {}  # the same -> order of axes in which its bytes lie

    def tensor(self, index: int) -> Tensor:
        """Return a tensor of the graph."""
        return self.graph.tensors[index]

    def begin(self, index: int, value: Any) -> None:
        """Take the value of an input of the model: real numbers, which become int8 as on a board."""
        self._rows[index] = self._steps(index, value)

    def put(self, node: Node, value: Any, *, planes: bool = False, same_bytes: bool = False) -> None:
        """Take what `node` computes in real numbers; `same_bytes`: it only moves values."""
        index = node.outputs[0]
        activation = node.options.get("fused_activation_function", "NONE")
        if activation == "RELU":
            value = Builder.relu(x=value)
        elif activation != "NONE":
            low, high = (0.0, 6.0) if activation == "RELU6" else (-1.0, 1.0)
            value = Builder.clip(x=value, alpha=np.float32(low), beta=np.float32(high))
        if not (same_bytes and same_scale(self.tensor(node.inputs[0]), self.tensor(index))):
            value = self._steps(index, value)
        (self._planes if planes else self._rows)[index] = value

    def rows(self, index: int) -> Any:
        """Return a value in the order of the .tflite."""
        if index not in self._rows:
            if self.tensor(index).constant:
                self._rows[index] = self.constant(index)
            else:
                self._rows[index] = Builder.transpose(x=self._planes[index], perm=TO_ROWS)
        return self._rows[index]

    def planes(self, index: int) -> Any:
        """Return a value of four axes with its channels before rows and columns."""
        if index not in self._planes:
            if self.tensor(index).constant:
                shape = (1,) * (4 - len(self.tensor(index).shape)) + self.tensor(index).shape
                self._planes[index] = self.constant(index, shape, TO_PLANES)
            else:
                self._planes[index] = Builder.transpose(x=self.rows(index), perm=TO_PLANES)
        return self._planes[index]

    def in_planes(self, node: Node, *indices: int) -> bool:
        """Tell whether `node` is best done in planes: what it reads of these lies so already."""
        live = [i for i in indices if not self.tensor(i).constant]
        four = all(len(self.tensor(i).shape) == 4 for i in (*live, *node.outputs))
        few = all(len(self.tensor(i).shape) <= 4 for i in indices)
        return four and few and any(i in self._planes for i in live)

    def constant(
        self, index: int, shape: Sequence[int] | None = None, order: Sequence[int] | None = None
    ) -> Any:
        """Return an int8 or float32 constant, of another `shape` and its axes in another `order`.

        Several scales lie along an axis that `shape` keeps in its place.
        """
        tensor = self.tensor(index)
        assert tensor.data is not None
        data = tensor.data.reshape((tensor.shape or (1,)) if shape is None else shape)
        order = tuple(range(data.ndim)) if order is None else tuple(order)
        data = np.ascontiguousarray(data.transpose(order))
        if tensor.dtype == "float32":
            return data
        held = tensor.quantisation
        assert held is not None
        axis = 0
        if held.scale.size > 1:
            axis = order.index(held.axis)
        made = Builder.constexpr_affine_dequantize(
            quantized_data=data,
            zero_point=_few(held.zero_point.astype(np.int8)),
            scale=_few(held.scale),
            axis=np.int32(axis),
            name=f"constant_{len(self.names)}",
        )
        self.names[made.name], self.turned[made.name] = index, order
        return made

    def bias(self, node: Node) -> Mapping[str, Array]:
        """Return the argument `bias` of a layer: int32 steps of scale(input) x scale(weights), as float32."""
        if len(node.inputs) < 3 or node.inputs[2] < 0:
            return {}
        x, w, b = (self.tensor(i) for i in node.inputs[:3])
        assert b.data is not None
        if b.dtype == "float32":
            return {"bias": b.data.ravel()}
        assert x.quantisation is not None
        assert w.quantisation is not None
        scale = x.quantisation.scale.astype(np.float64) * w.quantisation.scale.astype(np.float64)
        return {"bias": (b.data.ravel() * scale).astype(np.float32)}

    def _steps(self, index: int, value: Any) -> Any:
        tensor = self.tensor(index)
        if tensor.dtype != "int8":
            return value
        held = tensor.quantisation
        assert held is not None
        steps = {"scale": np.float32(held.scale[0]), "zero_point": np.int8(held.zero_point[0])}
        value = Builder.quantize(input=value, output_dtype="int8", name=f"int8_{index}", **steps)
        return Builder.dequantize(input=value, name=f"real_{index}", **steps)


def ints(net: Net, index: int) -> list[int]:
    """Return a constant tensor of whole numbers as a list."""
    data = net.tensor(index).data
    assert data is not None
    return [int(value) for value in np.ravel(data)]


def refuse(graph: Graph, node: Node, why: str, cure: str) -> UserError:
    """Return the error that says which op does not go into Core ML, where it is, and what helps."""
    place = graph.tensors[node.outputs[0]].name if node.outputs else node.name
    return UserError(f"{graph.name}: {node.op} at {place!r} {why}: {cure}")


def _few(values: Array) -> Any:
    return values[0] if values.size == 1 else values
