"""Constants of model.c: as text that a C compiler and a person read, and the large ones as bytes beside it.

A C compiler takes seconds for the numbers of a large model. So model.c says both: the numbers, and, when it
is compiled with EAR_WEIGHTS_APART, that an assembler file brings the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firmware.compiler.ends import C_TYPES
from firmware.compiler.floats import c_float
from firmware.compiler.graph import Array

APART = "EAR_WEIGHTS_APART"
DEFINES = {APART: "1"}
BINARY = "weights.bin"
LARGE = 16384  # bytes: what is smaller stays in the C
LINE = 108  # characters of a line of numbers
BYTES = np.array([f"{value:4d}, ".encode() for value in range(-128, 128)]).view(np.uint8).reshape(256, -1)
SECTIONS = {"elf": ('"a",%progbits', "%"), "wasm": ('"",@', "@")}  # object format: flags, mark of a type


@dataclass(frozen=True)
class Constant:
    """A static const array of model.c."""

    name: str
    data: Array
    align: int = 4  # bytes

    @property
    def large(self) -> bool:
        """Tell whether the bytes may lie beside the C."""
        return self.data.nbytes >= LARGE

    def definition(self) -> str:
        """Return the C that defines the array."""
        kind = f"{C_TYPES[str(self.data.dtype)]} {self.name}[{self.data.size}]"
        shape = f" /* {self.data.shape} */" if self.data.ndim > 1 else ""
        numbers = (
            f"static const {kind} __attribute__((aligned({self.align}))) = {{{shape}\n{self._rows()}\n}};\n"
        )
        return f"#ifdef {APART}\nextern const {kind};\n#else\n{numbers}#endif\n" if self.large else numbers

    def _rows(self) -> str:
        flat = self.data.reshape(-1)
        if flat.dtype == np.int8:
            return _lines(BYTES[flat.astype(np.int16) + 128])
        if flat.dtype == np.uint32:
            return _lines(_hexadecimal(flat))
        texts = list(map(c_float, flat)) if flat.dtype.kind == "f" else _decimal(flat)
        per_line = max(1, (LINE - 4) // (max(map(len, texts)) + 2))
        rows = (", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line))
        return ",\n".join(f"    {row}" for row in rows)


def write_apart(constants: Sequence[Constant], folder: Path, form: str | None = "elf") -> tuple[Path, ...]:
    """Write the bytes of the large constants and the assembler file that brings them; compile with DEFINES.

    Args:
        constants: of model.c.
        folder: to write to; it must be among the include folders.
        form: of objects, "elf" or "wasm"; None leaves all constants in the C.

    Returns:
        The assembler file; nothing when no constant lies apart.
    """
    large = [constant for constant in constants if constant.large]
    if not large or form is None:
        return ()
    flags, mark = SECTIONS[form]
    binary, source = folder / BINARY, folder / "weights.S"
    lines, offset = ["/* weights.S: the large constants of model.c. */"], 0
    with binary.open("wb") as file:
        for constant in large:
            name, size = constant.name, constant.data.nbytes
            lines += [
                f"    .section .rodata.{name},{flags}",
                f"    .globl {name}",
                f"    .type {name},{mark}object",
                f"    .p2align {constant.align.bit_length() - 1}",
                f'{name}:\n    .incbin "{binary.name}", {offset}, {size}',
                f"    .size {name}, {size}",
            ]
            file.write(np.ascontiguousarray(constant.data).tobytes())
            offset += size
    source.write_text("\n".join(lines) + "\n", encoding="ascii")
    return (source,)


def _decimal(flat: Array) -> list[str]:
    return list(map(str, flat.astype(np.int64).tolist()))


def _hexadecimal(words: Array) -> npt.NDArray[np.uint8]:
    """Return the characters (words, 12) of `0x%08x, `."""
    digits = np.frombuffer(words.astype(">u4").tobytes().hex().encode(), np.uint8).reshape(-1, 8)
    made = np.empty((len(words), 12), np.uint8)
    made[:, :2], made[:, 2:10], made[:, 10:] = (
        np.frombuffer(b"0x", np.uint8),
        digits,
        np.frombuffer(b", ", np.uint8),
    )
    return made


def _lines(numbers: npt.NDArray[np.uint8]) -> str:
    """Return lines of numbers, each given as the same count of characters that end in a comma and a space."""
    count, width = numbers.shape
    per_line = (LINE - 4) // width
    whole = count // per_line
    rows = np.full((whole, 4 + per_line * width), ord(" "), np.uint8)
    rows[:, 4:] = numbers[: whole * per_line].reshape(whole, per_line * width)
    rows[:, -1] = ord("\n")
    rest = numbers[whole * per_line :].tobytes().decode("ascii").rstrip(", ")
    text = rows.tobytes().decode("ascii") + (f"    {rest}" if rest else "")
    return text.rstrip(",\n")
