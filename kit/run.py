"""Inputs of the user through the board: .npy in, .npy out."""

from __future__ import annotations

import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit.outputs import write_npy
from kit.progress import Progress, silent

if TYPE_CHECKING:
    from firmware.compiler.build import Build
    from firmware.compiler.graph import Quantisation
    from kit.device import Device

Array = npt.NDArray[Any]
MAX_BYTES = 1 << 30  # of one .npy; more belongs into several files


def read_npy(path: Path) -> Array:
    """Return the array of a .npy, read without pickle.

    Raises:
        UserError: it is not there, not a .npy, cut short, or holds Python objects.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file; np.save({path.name!r}, x) makes one")
    if not path.is_file():
        raise UserError(f"{path}: is not a file; a .npy is needed")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: {path.stat().st_size >> 20} MB, at most {MAX_BYTES >> 20} MB; split it")
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read[version](file)
            wanted, have = (
                int(np.prod(shape, dtype=object)) * dtype.itemsize,
                path.stat().st_size - file.tell(),
            )
        if dtype.hasobject:
            raise UserError(
                f"{path}: holds Python objects (pickle), which are not read; save plain int8 or float32"
            )
        if have < wanted:
            raise UserError(f"{path}: cut short: {have} of {wanted} bytes of data; save it again")
        loaded: Array = np.load(path, allow_pickle=False)
    except (
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        SyntaxError,
        OverflowError,
        tokenize.TokenError,
    ) as error:
        raise UserError(f"{path}: not a .npy array ({_short(error)}); np.save makes one") from None
    return loaded


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__


def as_inputs(
    x: Array, shape: Sequence[int], scaling: Quantisation, name: str
) -> tuple[npt.NDArray[np.int8], bool]:
    """Return `x` as int8 inputs of shape (N, *shape), and whether it was a single one.

    Args:
        x: int8 or float32, of the model's shape with or without its leading 1, or a batch of those.
        shape: the model's input shape, its leading 1 (batch) included where it has one.
        scaling: scale and zero-point of the model's input, for float32.
        name: what errors call it.

    Raises:
        UserError: wrong type, shape or a value that is not a number.
    """
    if x.dtype not in (np.dtype(np.int8), np.dtype(np.float32)):
        raise UserError(f"{name}: is {x.dtype}, needs int8 or float32; x.astype(np.float32)")
    one = tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)
    if x.shape in (tuple(shape), one):
        single, batch = True, x.reshape(1, *shape)
    elif x.ndim == len(one) + 1 and x.shape[1:] == one and len(x):
        single, batch = False, x.reshape(len(x), *shape)
    else:
        raise UserError(
            f"{name}: has shape {x.shape}, needs {tuple(shape)}, or a batch {('N', *one)}".replace("'", "")
        )
    return (batch if x.dtype == np.int8 else quantise(batch, scaling, name)).astype(np.int8), single


def quantise(x: Array, scaling: Quantisation, name: str) -> npt.NDArray[np.int8]:
    """Return float32 `x` as int8 by the model's scale and zero-point, ties away from zero as TFLite does."""
    if not np.isfinite(x).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise UserError(
            f"{name}: {int((~np.isfinite(x)).sum())} values are NaN or infinite, the first at {first}"
        )
    steps = x.astype(np.float32) / scaling.scale[0]
    rounded = np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5)) + scaling.zero_point[0]
    clipped: npt.NDArray[np.int8] = np.clip(rounded, -128, 127).astype(np.int8)
    return clipped


def dequantise(y: npt.NDArray[np.int8], scaling: Quantisation) -> npt.NDArray[np.float32]:
    """Return int8 `y` as float32 by the model's scale and zero-point."""
    return (y.astype(np.float32) - np.float32(scaling.zero_point[0])) * np.float32(scaling.scale[0])


@dataclass(frozen=True)
class Given:
    """Inputs of the user, checked: int8 (N, *input); `single` and `real` say how they came."""

    x: npt.NDArray[np.int8]
    single: bool  # without a batch axis
    real: bool  # float32


def prepare(build: Build, source: Path) -> Given:
    """Return the inputs in the .npy `source`, checked and quantised for the build's model.

    Raises:
        UserError: the file or what is in it does not fit the model.
    """
    into = build.graph.tensors[build.graph.inputs[0]]
    array = read_npy(source)
    x, single = as_inputs(array, into.shape, _scaling(into.quantisation), str(source))
    return Given(x, single, array.dtype == np.float32)


def run_inputs(
    build: Build, device: Device, given: Given, target: Path, progress: Progress = silent
) -> dict[str, Any]:
    """Run every input on the board, write the outputs to `target`, return the record that --json prints.

    int8 in gives int8 out; float32 in gives float32 out. The output has a batch axis if the input had one.
    """
    out = build.graph.tensors[build.graph.outputs[0]]
    rows = []
    for done, one in enumerate(given.x):
        progress("run on the board", done, len(given.x))
        rows.append(device.infer(one))
    progress("run on the board", len(rows), len(rows))
    shape = out.shape if given.single else (len(rows), *_without_batch(out.shape))
    result: Array = np.stack(rows).reshape(shape)
    if given.real:
        result = dequantise(result, _scaling(out.quantisation))
    write_npy(target, result)
    return {
        "board": build.board.name,
        "build_id": build.build_id,
        "inputs": len(rows),
        "output": str(target),
        "shape": list(result.shape),
        "dtype": str(result.dtype),
        "origin": device.origin,
    }


def _without_batch(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)


def _scaling(quantisation: Quantisation | None) -> Quantisation:
    if quantisation is None:
        raise UserError("the model's input or output has no scale; an int8 model is needed")
    return quantisation
