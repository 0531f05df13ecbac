"""Float .tflite to full int8 .tflite: per-channel weights, per-tensor activations, int8 at both ends.

ai-edge-quantizer does the work. Calibration keeps the smallest and the largest value seen: its default, a
moving average of the ranges, cuts peaks off and costs 5 to 20 dB. Measured on a CNN14-style net and on a
transformer with manual LayerNorm: 39 and 34 dB signal-to-quantisation-noise at the logits, so the
TensorFlow converter's own quantiser is not needed beside it. The net gives logits; no softmax is added.

Left float by ai-edge-quantizer 0.10 and refused here, by name: NEG, LEAKY_RELU, PRELU, EXP, LOG, ARG_MAX,
TILE, REVERSE, CUMSUM, ELU and others. REDUCE_MAX is mended: a maximum commutes with the quantisation.

What int8 cannot carry is a float island: a net says so by the name of a layer, which ends in `_island`. All
ops of that layer stay float between DEQUANTIZE and QUANTIZE; the compiler has kernels of its own for them.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.atomic import write
from boards.errors import UserError
from quantize.silence import native_silence
from quantize.worker import Worker, borrowed

Array = npt.NDArray[Any]
BORDERS = ("QUANTIZE", "DEQUANTIZE")
MONOTONE = ("REDUCE_MAX",)  # ops that pick values: int8 in and out with one scale is exact
Recipe = tuple[tuple[str, str], ...]  # pattern of the output's name, "int8" | "int16" | "float"
BITS = {"int8": 8, "int16": 16}  # of activations; weights have 8
ISLAND = r"_island(_\d+)?/"  # in the name of an op of a layer that stays float; Keras counts layers as _1
EVERYTHING: Recipe = ((".*", "int8"), (f".*{ISLAND}.*", "float"))
LOWEST_SQNR_DB = 1.0  # a model below computes something else; QAT may still mend what is above
CHECKED = 16  # calibration samples that the finished model is compared on


@dataclass(frozen=True)
class Operation:
    """One op of a .tflite file, as far as the checks need it."""

    name: str
    version: int
    types: tuple[str, ...]  # of all inputs and outputs
    output: str


def quantise(float_model: bytes, calibration: Array, *, worker: Worker | None = None) -> bytes:
    """Return the int8 .tflite of a float one with one input, calibrated on float32 (N, *input shape).

    Raises:
        UserError: the calibration is empty, of another shape or not finite; an op stays float; or the int8
            model is nothing like the float one (below 1 dB).
    """
    samples = np.ascontiguousarray(calibration, np.float32)
    if samples.ndim < 2 or not samples.size:
        raise UserError(f"calibration needs samples of shape (N, frames, bands); it is {samples.shape}")
    if not np.isfinite(samples).all():
        raise UserError(
            f"calibration has {int((~np.isfinite(samples)).sum())} values that are NaN or infinite"
        )
    with tempfile.TemporaryDirectory() as folder, borrowed(worker) as process:
        model, data, out = (
            str(Path(folder) / name) for name in ("float.tflite", "calibration.npy", "int8.tflite")
        )
        Path(model).write_bytes(float_model)
        np.save(data, samples, allow_pickle=False)
        sqnr = process.call("quantize.int8", "convert", model=model, calibration=data, out=out)
        result = Path(out).read_bytes()
    refuse_float(result)
    if sqnr < LOWEST_SQNR_DB:
        raise UserError(
            f"int8 gives {sqnr:.1f} dB of signal to quantisation noise at the output (at least "
            f"{LOWEST_SQNR_DB:.0f} needed): train longer, or ask `sensitivity` which layer loses it"
        )
    return result


def refuse_float(model: bytes) -> None:
    """Raise UserError, naming ops, if one outside islands is float, or the input or output is not int8."""
    left = [f"{op.name} ({op.output})" for op in _astray(model)]
    if left:
        raise UserError(
            f"{len(left)} ops stay float after int8 quantisation: {', '.join(left[:4])}; rewrite them"
        )
    ends = _ends(model)
    if set(ends) != {"INT8"}:
        raise UserError(f"input and output must be int8; they are {', '.join(ends)}")


def operations(model: bytes) -> list[Operation]:
    """Return the ops of a .tflite file in execution order; only for files that we made ourselves."""
    parsed = _parse(model)
    names, types = _names("BuiltinOperator"), _names("TensorType")
    graph = parsed.subgraphs[0]
    found = []
    for op in graph.operators:
        code = parsed.operatorCodes[op.opcodeIndex]
        tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i >= 0]
        found.append(
            Operation(
                names[max(code.builtinCode, code.deprecatedBuiltinCode)],
                code.version,
                tuple(types[tensor.type] for tensor in tensors),
                tensors[-1].name.decode(),
            )
        )
    return found


def _ends(model: bytes) -> list[str]:
    graph = _parse(model).subgraphs[0]
    types = _names("TensorType")
    return [types[graph.tensors[i].type] for i in (*graph.inputs, *graph.outputs)]


def _parse(model: bytes) -> Any:
    from ai_edge_litert.tools import flatbuffer_utils

    parsed = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    for buffer in parsed.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, np.uint8)
    return parsed


def _serialise(parsed: Any) -> bytes:
    """Return the file of a parsed model, every constant inside the flatbuffer.

    Above 256 KB ai-edge-quantizer puts them behind it, by offset, where TFLM does not look.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    return bytes(flatbuffer_utils.convert_object_to_bytearray(parsed))


def _names(enum: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in vars(getattr(schema, enum)).items() if isinstance(value, int)}


def convert(model: str, calibration: str, out: str) -> float:
    """Quantise `model` to the file `out`; return the output's SQNR in dB. Runs in the worker."""
    source = Path(model).read_bytes()
    samples = np.load(calibration, allow_pickle=False)
    result = mend_monotone(quantise_all(source, samples))
    write(Path(out), result)
    some = samples[:: max(1, len(samples) // CHECKED)][:CHECKED]
    expected = run(source, some)
    if not np.isfinite(expected).all():
        raise UserError(
            "the float model gives NaN or infinity on the calibration set: its weights are broken"
        )
    return sqnr_db(expected, run(result, some)) if not _astray(result) else float("inf")


def quantise_all(model: bytes, samples: Array) -> bytes:
    """Return `model` with every op that ai-edge-quantizer knows in int8."""
    return apply(model, calibrate(model, samples), EVERYTHING)


def calibrate(model: bytes, samples: Array) -> dict[str, Any]:
    """Return the smallest and largest value of every tensor over `samples`, by tensor name."""
    from ai_edge_quantizer import calibrator, quantizer
    from ai_edge_quantizer.utils import qsv_utils

    job = quantizer.Quantizer(bytearray(model))
    _add(job, *EVERYTHING[0])
    ranges = calibrator.Calibrator(bytearray(model), num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    signature, name = _signature(model)
    ranges.calibrate({signature: [{name: sample[None]} for sample in samples]}, job._recipe_manager)
    found: dict[str, Any] = ranges.get_model_qsvs()
    return found


def apply(model: bytes, ranges: dict[str, Any], recipe: Recipe) -> bytes:
    """Return `model` quantised as `recipe` says: later patterns win, what none matches stays float."""
    from ai_edge_quantizer import quantizer

    job = quantizer.Quantizer(bytearray(model))
    for pattern, precision in recipe:
        _add(job, pattern, precision)
    result = job.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _add(job: Any, pattern: str, precision: str) -> None:
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    every = TFLOperationName.ALL_SUPPORTED
    if precision == "float":
        job.update_quantization_recipe(pattern, every, algorithm_key=AlgorithmName.NO_QUANTIZE)
    else:
        job.add_static_config(pattern, every, activation_num_bits=BITS[precision], weight_num_bits=8)


def outputs(model: bytes) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Return, by the name of each op's output: its number of values, and the outputs of its readers."""
    graph = _parse(model).subgraphs[0]
    names = [graph.tensors[op.outputs[-1]].name.decode() for op in graph.operators]
    found = {}
    for name, op in zip(names, graph.operators, strict=True):
        index = op.outputs[-1]
        readers = tuple(
            n for n, other in zip(names, graph.operators, strict=True) if index in list(other.inputs)
        )
        found[name] = (int(np.prod(graph.tensors[index].shape)), readers)
    return found


def _signature(model: bytes) -> tuple[str, str]:
    signatures = _parse(model).signatureDefs
    if not signatures or len(signatures) != 1 or len(signatures[0].inputs) != 1:
        raise UserError(
            "int8 needs a .tflite with one named signature of one input, as quantize.export writes it"
        )
    return signatures[0].signatureKey.decode(), signatures[0].inputs[0].name.decode()


def _astray(model: bytes) -> list[Operation]:
    """Return the ops that compute in float and stand in no island."""
    return [
        op
        for op in operations(model)
        if "FLOAT32" in op.types and op.name not in BORDERS and not re.search(ISLAND, op.output)
    ]


def mend_monotone(model: bytes) -> bytes:
    """Return the model with each DEQUANTIZE → REDUCE_MAX → QUANTIZE in int8 throughout.

    A maximum of quantised values is the quantised maximum, so the op takes the scale of its input and
    nothing is lost; QUANTIZE stays and goes from that scale to the one that its readers expect.
    """
    parsed = _parse(model)
    graph, names = parsed.subgraphs[0], _names("BuiltinOperator")
    kinds = [names[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in parsed.operatorCodes]
    writer = {op.outputs[0]: op for op in graph.operators}
    for op in [op for op in graph.operators if kinds[op.opcodeIndex] in MONOTONE]:
        before, out = writer.get(op.inputs[0]), op.outputs[0]
        readers = [kinds[other.opcodeIndex] for other in graph.operators if out in list(other.inputs)]
        if before is None or kinds[before.opcodeIndex] != "DEQUANTIZE" or set(readers) != {"QUANTIZE"}:
            continue
        source = graph.tensors[before.inputs[0]]
        graph.tensors[out].type, graph.tensors[out].quantization = source.type, source.quantization
        op.inputs[0] = before.inputs[0]
        if not any(before.outputs[0] in list(other.inputs) for other in graph.operators):
            graph.operators.remove(before)
    return _serialise(parsed)


def run(model: bytes, samples: Array) -> Array:
    """Return the output of a float or int8 model with LiteRT for float32 samples (N, …) as float32 (N, …)."""
    loaded = interpreter(model)
    entry, end = loaded.get_input_details()[0], loaded.get_output_details()[0]
    rows = []
    for sample in samples:
        loaded.set_tensor(entry["index"], _encode(sample[None], entry))
        loaded.invoke()
        rows.append(_decode(loaded.get_tensor(end["index"])[0], end))
    return np.stack(rows)


def interpreter(model: bytes) -> Any:
    """Return LiteRT's interpreter of `model`, ready to run."""
    from ai_edge_litert.interpreter import Interpreter

    with native_silence():
        loaded = Interpreter(model_content=model, num_threads=1)
        loaded.allocate_tensors()
    return loaded


def _encode(values: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] == np.float32:
        return values.astype(np.float32)
    scale, zero_point = detail["quantization"]
    return np.clip(np.round(values / scale) + zero_point, -128, 127).astype(detail["dtype"])


def _decode(values: Array, detail: dict[str, Any]) -> Array:
    if detail["dtype"] == np.float32:
        return values
    scale, zero_point = detail["quantization"]
    return ((values.astype(np.float32) - zero_point) * np.float32(scale)).astype(np.float32)


def sqnr_db(expected: Array, actual: Array) -> float:
    """Return the signal-to-quantisation-noise ratio of `actual` against `expected` in dB (200 if equal)."""
    signal = float(np.sum(np.square(expected, dtype=np.float64)))
    noise = float(np.sum(np.square(expected.astype(np.float64) - actual)))
    if noise == 0:
        return 200.0
    return float(10 * np.log10(max(signal, 1e-300) / noise))
