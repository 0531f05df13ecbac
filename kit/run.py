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
    from firmware.compiler.compiled import Compiled
    from firmware.compiler.graph import Quantisation, Tensor
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


def as_inputs(x: Array, value: Tensor, name: str) -> tuple[Array, bool]:
    """Return `x` as inputs (N, *shape) of the type of `value`, and whether it was a single one.

    Args:
        x: of the model's type, or float32 where the model's type has a scale; of the model's shape with or
            without its leading 1, or a batch of those.
        value: the model's input; the leading 1 (batch) of its shape included where it has one.
        name: what errors call it.

    Raises:
        UserError: wrong type, shape or a value that is not a number.
    """
    shape, scaling = value.shape, value.quantisation
    types = [value.dtype] if scaling is None else [value.dtype, "float32"]
    if str(x.dtype) not in types:
        raise UserError(f"{name}: is {x.dtype}, needs {' or '.join(types)}; x.astype(np.{types[-1]})")
    one = _without_batch(shape)
    if x.shape in (shape, one):
        single, batch = True, x.reshape(1, *shape)
    elif x.ndim == len(one) + 1 and x.shape[1:] == one and len(x):
        single, batch = False, x.reshape(len(x), *shape)
    else:
        raise UserError(
            f"{name}: has shape {x.shape}, needs {shape}, or a batch {('N', *one)}".replace("'", "")
        )
    if str(x.dtype) == value.dtype or scaling is None:
        return batch, single
    return quantise(batch, scaling, name, value.dtype), single


def quantise(x: Array, scaling: Quantisation, name: str, dtype: str = "int8") -> Array:
    """Return float32 `x` as integers by the model's scale and zero-point, ties away from zero as TFLite."""
    if not np.isfinite(x).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise UserError(
            f"{name}: {int((~np.isfinite(x)).sum())} values are NaN or infinite, the first at {first}"
        )
    steps = x.astype(np.float32) / scaling.scale[0]
    rounded = np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5)) + scaling.zero_point[0]
    limits = np.iinfo(dtype)
    clipped: Array = np.clip(rounded, limits.min, limits.max).astype(dtype)
    return clipped


def dequantise(y: Array, scaling: Quantisation) -> npt.NDArray[np.float32]:
    """Return integers `y` as float32 by the model's scale and zero-point."""
    return (y.astype(np.float32) - np.float32(scaling.zero_point[0])) * np.float32(scaling.scale[0])


@dataclass(frozen=True)
class Given:
    """Inputs of the user, checked: an array (N, *shape) an input; `single` and `real` say how they came."""

    arrays: tuple[Array, ...]
    single: bool  # without a batch axis
    real: bool  # float32 that was quantised

    def __len__(self) -> int:
        return len(self.arrays[0])

    def row(self, number: int) -> npt.NDArray[np.int8]:
        """Return the bytes of all inputs of one row, in order, as the board takes them."""
        parts = [np.ascontiguousarray(array[number]).tobytes() for array in self.arrays]
        return np.frombuffer(b"".join(parts), np.int8)


def prepare(build: Compiled, sources: Sequence[Path]) -> Given:
    """Return the inputs in the .npy `sources`, one an input, checked and quantised for the build's model.

    Raises:
        UserError: the number of files, a file, or what is in it does not fit the model.
    """
    values = [build.graph.tensors[i] for i in build.graph.inputs]
    _one_each(build, "input", values, len(sources))
    arrays, alone, real = [], [], False
    for value, source in zip(values, sources, strict=True):
        array = read_npy(source)
        x, single = as_inputs(array, value, str(source))
        arrays.append(x)
        alone.append(single)
        real |= str(array.dtype) != value.dtype
    counts = {len(array) for array in arrays}
    if len(counts) > 1:
        listed = ", ".join(f"{source} {len(x)}" for source, x in zip(sources, arrays, strict=True))
        raise UserError(f"different numbers of rows: {listed}; give the same number of each input")
    return Given(tuple(arrays), all(alone), real)


def run_inputs(
    build: Compiled, device: Device, given: Given, targets: Sequence[Path], progress: Progress = silent
) -> dict[str, Any]:
    """Run every row on the board, write the outputs to `targets`, return the record that --json prints.

    float32 in, where the model takes integers, gives float32 out. An output has a batch axis if the input had
    one. Of a model with states the rows are the steps of one sequence, which begins with the first row.
    """
    values = [build.graph.tensors[i] for i in build.graph.outputs]
    if build.graph.states:
        device.forget()
    rows = []
    for done in range(len(given)):
        progress("run on the board", done, len(given))
        rows.append(device.infer(given.row(done)))
    progress("run on the board", len(rows), len(rows))
    written = []
    for value, target, column in zip(values, targets, _columns(values, rows), strict=True):
        shape = value.shape if given.single else (len(rows), *_without_batch(value.shape))
        result = column.reshape(shape)
        if given.real and value.quantisation is not None:
            result = dequantise(result, value.quantisation)
        write_npy(target, result)
        written.append({"output": str(target), "shape": list(result.shape), "dtype": str(result.dtype)})
    return {
        "board": build.board.name,
        "build_id": build.build_id,
        "inputs": len(rows),
        **written[0],
        "outputs": written,
        "origin": device.origin,
    }


def check_targets(build: Compiled, targets: Sequence[Path]) -> None:
    """Raise UserError unless there is one file for each output."""
    _one_each(build, "output", [build.graph.tensors[i] for i in build.graph.outputs], len(targets))
    if len(set(targets)) != len(targets):
        raise UserError("two outputs would go into one file: name a .npy for each")


def _columns(values: Sequence[Tensor], rows: Sequence[npt.NDArray[np.int8]]) -> list[Array]:
    """Return the rows of each output, (N, elements), from the bytes of all outputs of each row."""
    table = np.stack(rows)
    ends = np.cumsum([value.bytes for value in values])
    parts = [table[:, end - value.bytes : end] for value, end in zip(values, ends, strict=True)]
    return [np.ascontiguousarray(part).view(value.dtype) for value, part in zip(values, parts, strict=True)]


def _one_each(build: Compiled, kind: str, values: Sequence[Tensor], count: int) -> None:
    if len(values) != count:
        listed = ", ".join(f"{value.name!r} {value.dtype} {value.shape}" for value in values)
        raise UserError(
            f"{build.name} has {len(values)} {kind}s ({listed}), got {count} files: give --{kind} a .npy each"
        )


def _without_batch(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[1:]) if len(shape) > 1 and shape[0] == 1 else tuple(shape)
