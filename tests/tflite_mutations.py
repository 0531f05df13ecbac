"""Changes fields of a .tflite at random: what is left is a whole file that says odd things."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

import flatbuffers
import numpy as np
from tflite_micro.tensorflow.lite.micro.python import schema_py_generated as schema

LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1
INTEGERS = (LOWEST, -128, -2, -1, 0, 1, 2, 3, 4, 7, 8, 16, 127, 128, 255, 1000, 1 << 16, 1 << 28, HIGHEST)
FLOATS = (0.0, -1.0, 0.5, 1e-45, 1e-20, 1e-6, 0.1, 2.0, 1e10, 1e38, math.inf, -math.inf, math.nan)
TYPES = (0, 2, 4, 6, 7, 9, 17)  # of tensors: float32, int32, int64, bool, int16, int8, int4
BYTES = {0: 4, 2: 4, 4: 8, 6: 1, 7: 2, 9: 1, 17: 0.5}  # of one value
OPS = 165


def mutated(data: bytes, seed: int) -> bytes:
    """Return the file with one to six fields changed.

    Raises:
        Exception: of whatever kind, when the file cannot be read, or a change cannot be written.
    """
    generator = random.Random(seed)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(data), 0))
    for _ in range(generator.choice((1, 1, 1, 2, 3, 6))):
        owner, name = generator.choice(list(_fields(model)))
        setattr(owner, name, _changed(name, getattr(owner, name), generator))
    if generator.random() < 0.8:
        _fit(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _fields(owner: Any) -> Iterator[tuple[Any, str]]:
    """Yield the fields of an object of the schema and of all that it holds."""
    for name, held in vars(owner).items():
        yield owner, name
        for part in held if isinstance(held, list) else [held]:
            if type(part).__module__ == schema.__name__:
                yield from _fields(part)


def _changed(name: str, held: Any, generator: random.Random) -> Any:
    if name == "type":
        return generator.choice(TYPES)
    if name in ("builtinCode", "deprecatedBuiltinCode"):
        return generator.randrange(OPS)
    if isinstance(held, bool):
        return not held
    if isinstance(held, int):
        return _integer(held, generator)
    if isinstance(held, float):
        return generator.choice(FLOATS)
    if isinstance(held, np.ndarray) and held.dtype == np.uint8:
        return _bytes(held, generator)
    if isinstance(held, np.ndarray):
        return _numbers(held, generator)
    if isinstance(held, list) and held:
        return _listed(held, generator)
    return (
        np.array([generator.randrange(-1, 4)], np.int32) if name in ("inputs", "outputs", "shape") else held
    )


def _integer(held: int, generator: random.Random) -> int:
    return generator.choice((held - 1, held + 1, 2 * held, generator.randrange(8), *INTEGERS[::3]))


def _listed(held: list[Any], generator: random.Random) -> list[Any]:
    """Return the list with one entry repeated or left out."""
    at = generator.randrange(len(held))
    return held[:at] + ([held[at]] * 2 if generator.random() < 0.5 else []) + held[at + 1 :]


def _numbers(held: Any, generator: random.Random) -> Any:
    """Return the vector with a number changed, put in or left out."""
    values = held.tolist()
    at = generator.randrange(len(values) + 1)
    entry = values[at] if at < len(values) else 0
    new = generator.choice(FLOATS) if held.dtype.kind == "f" else _integer(int(entry), generator)
    kept = generator.choice(((), (new,), (new,), (new,), (entry, new)))
    made = [*values[:at], *kept, *values[at + 1 :]]
    if held.dtype.kind != "f":
        made = [min(max(value, LOWEST), HIGHEST) for value in made]
    return np.array(made, held.dtype)


def _bytes(held: Any, generator: random.Random) -> Any:
    """Return the bytes of a constant with one number changed."""
    made = np.array(held)
    width = generator.choice((1, 2, 4, 8))
    if made.size < width:
        return made
    at = generator.randrange(made.size // width) * width
    kinds = {4: generator.choice((np.int32, np.float32)), 8: np.int64, 2: np.int16, 1: np.int8}
    number = np.array(generator.choice(FLOATS) if kinds[width] is np.float32 else generator.choice(INTEGERS))
    with np.errstate(all="ignore"):
        made[at : at + width] = np.frombuffer(number.astype(kinds[width]).tobytes(), np.uint8)
    return made


def _fit(model: Any) -> None:
    """Give each constant as many bytes as its shape and type need."""
    for graph in model.subgraphs or ():
        for tensor in graph.tensors or ():
            buffer = model.buffers[tensor.buffer]
            wanted = math.ceil(math.prod(map(int, tensor.shape)) * BYTES.get(tensor.type, 4))
            if buffer.data is not None and len(buffer.data) and 0 < wanted < 1 << 14:
                buffer.data = np.resize(np.asarray(buffer.data, np.uint8), wanted)
