"""C text of the front end's constants: defines and declarations for model.h, tables for model.c."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware.compiler.fixed_point import quantise_multiplier
from firmware.compiler.graph import Array

ARRAYS = ("hann", "twiddles", "mel_edges", "mel_weights", "mel_offsets", "log2", "dct")
DEFINES = {  # constant of model.h -> key of the tables
    "RATE": "rate",
    "WINDOW": "window",
    "HOP": "hop",
    "FFT": "fft",
    "BANDS": "bands",
    "COEFFICIENTS": "coefficients",
    "FEATURES": "features",
    "FRAMES": "frames",
    "FRACTION": "fraction",
    "FLOOR": "floor",
    "DECIBELS": "decibels",
    "DECIBEL_BITS": "decibel_bits",
    "DCT_FRACTION": "dct_fraction",
}
COLUMNS = 12  # values in a line of a table


def declarations(tables: Mapping[str, Any] | None, scale: float = 1.0, zero_point: int = 0) -> str:
    """Return what model.h says of the front end: `EAR_FRONTEND`, `EAR_FE_*`, the tables as extern.

    Args:
        tables: `models.frontend.tables(fe)`; None for a model that takes its input over the link.
        scale: of the model's int8 input.
        zero_point: of the model's int8 input.
    """
    if tables is None:
        return "#define EAR_FRONTEND 0\n"
    multiplier, exponent = quantise_multiplier(1 / (scale * (1 << tables["fraction"])))
    values = {name: tables[key] for name, key in DEFINES.items()} | {
        "SCRATCH_BYTES": scratch_bytes(tables),
        "MULTIPLIER": multiplier,
        "SHIFT": 31 - exponent,
        "ZERO_POINT": zero_point,
    }
    lines = [
        "#define EAR_FRONTEND 1",
        *(f"#define EAR_FE_{name} {_literal(v)}" for name, v in values.items()),
    ]
    lines += [f"extern {_declare(name, tables[name])};" for name in _present(tables)]
    return "\n".join(lines) + "\n"


def constants(tables: Mapping[str, Any] | None) -> str:
    """Return the tables as C definitions for model.c; empty without a front end."""
    if tables is None:
        return ""
    return (
        "\n".join(f"{_declare(name, tables[name])} = {_values(tables[name])};" for name in _present(tables))
        + "\n"
    )


def scratch_bytes(tables: Mapping[str, Any]) -> int:
    """Return the bytes of RAM that firmware/frontend.c works in."""
    return 4 * (int(tables["fft"]) + int(tables["bands"]))


def table_bytes(tables: Mapping[str, Any] | None) -> int:
    """Return the bytes of flash that the tables take."""
    return 0 if tables is None else sum(int(tables[name].nbytes) for name in _present(tables))


def _present(tables: Mapping[str, Any]) -> list[str]:
    return [name for name in ARRAYS if tables[name].size]


def _declare(name: str, values: Array) -> str:
    return f"const {values.dtype.name}_t ear_fe_{name}[{values.size}]"


def _values(values: Array) -> str:
    texts = [_literal(int(v)) for v in np.asarray(values).ravel()]
    rows = [", ".join(texts[i : i + COLUMNS]) for i in range(0, len(texts), COLUMNS)]
    return "{\n    " + ",\n    ".join(rows) + "}"


def _literal(value: int) -> str:
    """Return an int as a C expression that can stand anywhere."""
    return f"({value})" if value < 0 else str(value)
