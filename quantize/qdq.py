"""Q/DQ ONNX for TensorRT from the same float net: symmetric int8, per-channel weights, float bias.

Float islands (see quantize.int8) have no pairs inside.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.atomic import write
from boards.errors import UserError
from quantize.int8 import ISLAND
from quantize.worker import Worker, borrowed

Array = npt.NDArray[Any]
# TensorRT fuses only symmetric pairs, keeps biases in float, and wants every weight behind a pair of its own.
OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "QuantizeBias": False,
    "DedicatedQDQPair": True,
    "AddQDQPairToWeight": True,
}


def quantise(float_onnx: bytes, calibration: Array, *, worker: Worker | None = None) -> bytes:
    """Return `float_onnx` with Q/DQ pairs, calibrated (min/max) on float32 (N, *input shape).

    Raises:
        UserError: onnxruntime refuses the model, or a zero-point is not 0, which TensorRT would refuse.
    """
    with tempfile.TemporaryDirectory() as folder, borrowed(worker) as process:
        model, data, out = (
            str(Path(folder) / name) for name in ("float.onnx", "calibration.npy", "qdq.onnx")
        )
        Path(model).write_bytes(float_onnx)
        np.save(data, np.ascontiguousarray(calibration, np.float32), allow_pickle=False)
        process.call("quantize.qdq", "convert", model=model, calibration=data, out=out)
        return Path(out).read_bytes()


def convert(model: str, calibration: str, out: str) -> None:
    """Quantise the file `model` to the file `out`. Runs in the worker."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folder = Path(out).parent
    prepared, result = folder / "prepared.onnx", folder / "result.onnx"
    quant_pre_process(model, prepared, skip_symbolic_shape=True)  # static shapes need no symbolic inference
    graph = onnx.load(prepared).graph
    quantize_static(
        prepared,
        result,
        _reader(graph.input[0].name, np.load(calibration, allow_pickle=False)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[node.name for node in graph.node if re.search(ISLAND, node.name)],
        extra_options=OPTIONS,
    )
    refuse_asymmetric(onnx.load(result))
    write(Path(out), result.read_bytes())


def _reader(name: str, samples: Array) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        """Gives one window at a time."""

        def __init__(self) -> None:
            self._left: Iterator[Array] = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            """Return the next input, None at the end."""
            sample = next(self._left, None)
            return None if sample is None else {name: sample[None]}

    return Reader()


def refuse_asymmetric(model: Any) -> None:
    """Raise UserError if a Q or DQ node has a zero-point other than 0."""
    from onnx import numpy_helper

    values = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or len(node.input) < 3:
            continue
        if numpy_helper.to_array(values[node.input[2]]).any():
            raise UserError(f"{node.name}: zero-point is not 0; TensorRT takes symmetric int8 only")


def run(model: bytes, samples: Array) -> Array:
    """Return the logits (N, classes) of an ONNX model of batch 1 with onnxruntime."""
    loaded = session(model)
    name = loaded.get_inputs()[0].name
    return np.concatenate(
        [loaded.run(None, {name: sample[None].astype(np.float32)})[0] for sample in samples]
    )


def session(model: bytes) -> Any:
    """Return `model` loaded by onnxruntime, on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
