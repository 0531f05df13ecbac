"""The MIL program of a Core ML package, evaluated in numpy from what the file says, without Core ML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from firmware.compiler.graph import Array

Values = Mapping[str, Any]


def load(package: Path) -> Any:
    """Return the main function of the package at `package`, read back with coremltools."""
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load as read

    held = ct.models.MLModel(str(package), skip_model_load=True)
    spec = held.get_spec()
    program = read(spec, specification_version=spec.specificationVersion, file_weights_dir=held.weights_dir)
    return program.functions["main"]


def run(function: Any, features: Array) -> Array:
    """Return the scores for one input of real numbers."""
    (name,) = function.inputs
    known: dict[str, Any] = {name: features.astype(np.float32)}

    for operation in function.operations:
        if operation.op_type != "const":
            known[operation.outputs[0].name] = meaning(operation, known)
    scores: Array = known[function.outputs[0].name]
    return scores


def meaning(operation: Any, known: Mapping[str, Any]) -> Array:
    """Return what an operation computes of the values that are `known` by their names."""

    def value(given: Any) -> Any:
        if isinstance(given, (list, tuple)):
            return [value(one) for one in given]
        return given.val if given.val is not None else known[given.name]

    values = {key: value(given) for key, given in operation.inputs.items() if given is not None}
    made: Array = MEANINGS[operation.op_type](values)
    return made


def _quantize(v: Values) -> Array:
    with np.errstate(all="ignore"):
        steps = np.rint(v["input"] / v["scale"]) + np.float32(v.get("zero_point", 0))
    steps = np.nan_to_num(steps, nan=0.0, posinf=127.0, neginf=-128.0)
    made: Array = np.clip(steps, -128, 127).astype(np.int8)
    return made


def _dequantize(v: Values) -> Array:
    steps = v["input"].astype(np.float32) - np.float32(v.get("zero_point", 0))
    made: Array = steps * np.float32(v["scale"])
    return made


def constant(v: Values) -> Array:
    """Return what a constexpr_affine_dequantize stands for."""
    data = v["quantized_data"]
    shape = [1] * data.ndim
    shape[int(v["axis"])] = -1
    steps = data.astype(np.float32) - np.reshape(v["zero_point"], shape if np.ndim(v["zero_point"]) else ())
    made: Array = (steps * np.reshape(v["scale"], shape if np.ndim(v["scale"]) else ())).astype(np.float32)
    return made


def _windows(v: Values, kernel: Any, fill: float) -> Array:
    """Return (N, C, H, W, kh, kw): what each place of the output reads."""
    top, bottom, left, right = (0, 0, 0, 0) if v["pad_type"] == "valid" else map(int, v["pad"])
    x = np.pad(v["x"], ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    apart = [int(d) for d in v.get("dilations", (1, 1))]
    reach = [(int(k) - 1) * d + 1 for k, d in zip(kernel, apart, strict=True)]
    every = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    steps = [int(s) for s in v.get("strides", (1, 1))]
    return every[:, :, :: steps[0], :: steps[1], :: apart[0], :: apart[1]]


def _conv(v: Values) -> Array:
    weight, groups = v["weight"], int(v.get("groups", 1))
    seen = _windows(v, weight.shape[2:], 0.0)
    n, channels, height, width = seen.shape[:4]
    seen = seen.reshape(n, groups, channels // groups, height, width, *weight.shape[2:])
    split = weight.reshape(groups, -1, *weight.shape[1:])
    made = np.einsum("ngchwij,gkcij->ngkhw", seen, split, optimize=True)
    made = made.reshape(n, -1, height, width)
    result: Array = made + v["bias"][:, None, None] if "bias" in v else made
    return result


def _linear(v: Values) -> Array:
    made: Array = v["x"] @ v["weight"].T
    return made + v["bias"] if "bias" in v else made


def _matmul(v: Values) -> Array:
    x, y = v["x"], v["y"]
    x = np.swapaxes(x, -1, -2) if v.get("transpose_x") else x
    y = np.swapaxes(y, -1, -2) if v.get("transpose_y") else y
    made: Array = x @ y
    return made


def _mean_pool(v: Values) -> Array:
    seen = _windows(v, v["kernel_sizes"], np.nan)
    made: Array = np.nanmean(seen, axis=(-2, -1))
    return made


def _softmax(v: Values) -> Array:
    powers = np.exp(v["x"] - v["x"].max(int(v["axis"]), keepdims=True))
    made: Array = powers / powers.sum(int(v["axis"]), keepdims=True)
    return made


def _sigmoid(v: Values) -> Array:
    with np.errstate(over="ignore"):
        made: Array = np.float32(1) / (np.float32(1) + np.exp(-v["x"]))
    return made


def _root(v: Values) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        made: Array = np.float32(1) / np.sqrt(v["x"] + np.float32(v.get("epsilon", 1e-12)))
    return made


def _slice(v: Values) -> Array:
    ends = zip(v["begin"], v["size"], strict=True)
    made: Array = v["x"][tuple(slice(int(b), int(b) + int(s)) for b, s in ends)]
    return made


def _pad(v: Values) -> Array:
    sizes = np.reshape(v["pad"], (-1, 2)).tolist()
    return np.pad(v["x"], [(0, 0)] * (v["x"].ndim - len(sizes)) + sizes, constant_values=v["constant_val"])


def _pair(function: Callable[[Any, Any], Any]) -> Callable[[Values], Array]:
    return lambda v: function(v["x"], v["y"])


def _single(function: Callable[[Any], Any]) -> Callable[[Values], Array]:
    return lambda v: function(v["x"])


def _along(function: Callable[..., Any]) -> Callable[[Values], Array]:
    return lambda v: function(v["x"], axis=tuple(int(a) for a in v["axes"]), keepdims=bool(v["keep_dims"]))


MEANINGS: Mapping[str, Callable[[Values], Array]] = {
    "abs": _single(np.abs),
    "add": _pair(np.add),
    "avg_pool": _mean_pool,
    "clip": lambda v: np.clip(v["x"], v["alpha"], v["beta"]),
    "concat": lambda v: np.concatenate(v["values"], int(v["axis"])),
    "constexpr_affine_dequantize": constant,
    "conv": _conv,
    "cos": _single(np.cos),
    "dequantize": _dequantize,
    "exp": _single(np.exp),
    "identity": _single(lambda x: x),
    "linear": _linear,
    "matmul": _matmul,
    "max_pool": lambda v: _windows(v, v["kernel_sizes"], -np.inf).max((-2, -1)),
    "maximum": _pair(np.maximum),
    "minimum": _pair(np.minimum),
    "mul": _pair(np.multiply),
    "pad": _pad,
    "quantize": _quantize,
    "real_div": _pair(np.divide),
    "reduce_max": _along(np.max),
    "reduce_mean": _along(np.mean),
    "reduce_min": _along(np.min),
    "reduce_sum": _along(np.sum),
    "relu": _single(lambda x: np.maximum(x, 0)),
    "relu6": _single(lambda x: np.clip(x, 0, 6)),
    "reshape": lambda v: np.reshape(v["x"], [int(size) for size in v["shape"]]),
    "rsqrt": _root,
    "sigmoid": _sigmoid,
    "sin": _single(np.sin),
    "slice_by_size": _slice,
    "softmax": _softmax,
    "sqrt": _single(np.sqrt),
    "square": _single(np.square),
    "sub": _pair(np.subtract),
    "tanh": _single(np.tanh),
    "transpose": lambda v: np.transpose(v["x"], [int(axis) for axis in v["perm"]]),
}
