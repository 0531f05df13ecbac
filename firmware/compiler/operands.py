"""Index arithmetic of operands, done when compiling: broadcast, merged axes, strides, many clips at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from firmware.compiler.graph import Array, Tensor

MAX_AXES = 5  # loops of the kernels that walk strides


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the row-major strides of a shape, in elements."""
    steps = [1]
    for size in reversed(shape[1:]):
        steps.append(steps[-1] * size)
    return tuple(reversed(steps))[: len(shape)]


def broadcast_strides(shape: Sequence[int], result: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of `shape` along the axes of `result`, 0 where it repeats."""
    own = strides(shape)
    aligned = tuple(step if size > 1 else 0 for size, step in zip(shape, own, strict=True))
    return (0,) * (len(result) - len(shape)) + aligned


def spans(result: Sequence[int], *shapes: Sequence[int]) -> bool:
    """Tell whether the shapes broadcast to `result`."""
    try:
        return np.broadcast_shapes(*map(tuple, shapes)) == tuple(result)
    except ValueError:
        return False


def merge(sizes: Sequence[int], *steps: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Return (sizes, *steps) without axes of size 1, neighbours joined where one step serves both."""
    axes: list[tuple[int, ...]] = []
    for size, *step in zip(sizes, *steps, strict=True):
        if size == 1:
            continue
        if axes and all(outer == size * inner for outer, inner in zip(axes[-1][1:], step, strict=True)):
            axes[-1] = (axes[-1][0] * size, *step)
        else:
            axes.append((size, *step))
    return tuple(zip(*axes, strict=True)) if axes else ((),) * (1 + len(steps))


def lead(values: Iterable[int], count: int, filler: int) -> tuple[int, ...]:
    """Return the values with `filler` put before them until there are `count`."""
    kept = tuple(values)
    return (filler,) * (count - len(kept)) + kept


def c_list(values: Iterable[int]) -> str:
    """Return a C initialiser, such as { 1, 2 }."""
    return "{ " + ", ".join(str(int(value)) for value in values) + " }"


def by_clip(x: Array, value: Tensor, rank: int = 0) -> Array:
    """Return x, which is `value` for one or more clips stacked along axis 0, as (clips, *value.shape).

    Axes of size 1 are put before those of the value until there are `rank`, as broadcasting does.
    """
    return x.reshape(x.size // value.elements, *lead(value.shape, rank, 1))


def stacked(y: Array, value: Tensor) -> Array:
    """Return (clips, *value.shape) with the clips stacked along axis 0 of the value."""
    return y.reshape((y.shape[0] * value.shape[0], *value.shape[1:]) if value.shape else ())


def positive_axis(axis: int, rank: int) -> int | None:
    """Return the axis counted from the front, None when the tensor has no such axis."""
    return axis % rank if -rank <= axis < rank else None


def byte_walk(sizes: Sequence[int], steps: Sequence[int], itemsize: int) -> tuple[list[int], list[int], int]:
    """Return (sizes, byte steps, run): the loops of a strided copy of `run` adjacent bytes."""
    merged, walked = merge(sizes, steps)
    if walked and walked[-1] == 1:
        return list(merged[:-1]), [step * itemsize for step in walked[:-1]], merged[-1] * itemsize
    return list(merged), [step * itemsize for step in walked], itemsize


def product(sizes: Iterable[int]) -> int:
    """Return the product of the sizes, 1 for none."""
    return int(np.prod([*sizes], dtype=np.int64))
