"""C compilers: which flags each core needs, and how zig or gcc turns sources into an ELF."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import platformdirs

from boards import Board
from boards.errors import UserError
from firmware import MEMORY
from firmware.compiler.graph import Unit

Toolchain = Literal["zig", "gcc"]
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror")
SHAPE = ("-ffreestanding", "-fomit-frame-pointer", "-ffunction-sections", "-fdata-sections", "-fno-common")
CHECKED = ("-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined")  # flags of a host library
PLAIN = ("-O1", "-fno-sanitize=all")
FAST = ("-O3", "-mcpu=native", "-fno-sanitize=all")
WASM = ("-target", "wasm32-freestanding", "-mcpu=generic+simd128+bulk_memory")
TIMEOUT = 300  # seconds: the first zig build of a core compiles its runtime library


@dataclass(frozen=True)
class Core:
    """How each compiler is told about a core."""

    zig: tuple[str, ...]
    gcc: tuple[str, ...]


def _core(zig_cpu: str, abi: str, gcc_cpu: str, fpu: str = "") -> Core:
    gcc_float = (f"-mfpu={fpu}", "-mfloat-abi=hard") if fpu else ("-mfloat-abi=soft",)
    return Core(
        ("-target", f"thumb-freestanding-{abi}", f"-mcpu={zig_cpu}"),
        (f"-mcpu={gcc_cpu}", "-mthumb", *gcc_float),
    )


CORES: Mapping[str, Core] = {
    "cortex-m0": _core("cortex_m0", "eabi", "cortex-m0"),
    "cortex-m0plus": _core("cortex_m0plus", "eabi", "cortex-m0plus"),
    "cortex-m3": _core("cortex_m3", "eabi", "cortex-m3"),
    "cortex-m4": _core("cortex_m4+vfp4d16sp", "eabihf", "cortex-m4", "fpv4-sp-d16"),
    "cortex-m7 single": _core("cortex_m7+fp_armv8d16sp", "eabihf", "cortex-m7", "fpv5-sp-d16"),
    "cortex-m7": _core("cortex_m7+fp_armv8d16", "eabihf", "cortex-m7", "fpv5-d16"),
    "cortex-m33": _core("cortex_m33+dsp+fp_armv8d16sp", "eabihf", "cortex-m33", "fpv5-sp-d16"),
    "cortex-m55": _core("cortex_m55+mve_fp+fp_armv8d16+fullfp16", "eabihf", "cortex-m55", "auto"),
}


def cache() -> Path:
    """Return the folder for compiler caches; UserError when it cannot be made."""
    path = Path(platformdirs.user_cache_dir("earkit"))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the compiler cache {path}: {error.strerror}: set XDG_CACHE_HOME"
        ) from None
    return path


@functools.cache
def driver(toolchain: Toolchain) -> tuple[str, ...]:
    """Return the command that starts the C compiler; UserError with the cure when it is missing."""
    if toolchain == "zig":
        import importlib.util

        if importlib.util.find_spec("ziglang") is None:
            raise UserError("the C compiler is missing: pip install ziglang==0.17.1, or use --toolchain gcc")
        return (sys.executable, "-m", "ziglang", "cc")
    found = shutil.which("arm-none-eabi-gcc")
    if found is None:
        raise UserError(
            "arm-none-eabi-gcc is not on the PATH: apt install gcc-arm-none-eabi, or use --toolchain zig"
        )
    return (found,)


@functools.cache
def version(toolchain: Toolchain) -> str:
    """Return the compiler's name and version."""
    if toolchain == "zig":
        from importlib.metadata import version as installed

        return f"ziglang {installed('ziglang')}"
    return "arm-none-eabi-gcc " + _run((*driver("gcc"), "-dumpfullversion")).strip()


def unit(board: Board) -> Unit:
    """Return which kernels the board's core runs."""
    return "mve" if board.mve else "dsp" if board.dsp else "scalar"


def core_flags(board: Board, toolchain: Toolchain) -> tuple[str, ...]:
    """Return the flags that select the board's core and its floating point."""
    core = CORES["cortex-m7 single" if (board.core, board.fpu) == ("cortex-m7", "single") else board.core]
    return (*core.zig, "-fno-sanitize=all") if toolchain == "zig" else core.gcc


def compile(  # noqa: A001  (the contract's name; modules are imported as toolchain.compile)
    sources: Sequence[Path],
    includes: Sequence[Path],
    board: Board,
    script: str,
    out_elf: Path,
    optimise: str = "s",
    *,
    objects: Sequence[Path] = (),
    defines: Mapping[str, str] | None = None,
    toolchain: Toolchain = "zig",
) -> None:
    """Compile the sources with `-O<optimise>`, link them with `objects` by the linker script to `out_elf`.

    Raises:
        UserError: the compiler is missing, or refuses the sources.
    """
    with tempfile.TemporaryDirectory(prefix="earkit-") as folder:
        linker_script = Path(folder) / "link.ld"
        linker_script.write_text(script, encoding="utf-8")
        flags = (*_common(board, toolchain, includes, optimise, defines), *_link_flags())
        runtime = ("-lcompiler_rt",) if toolchain == "zig" else (str(MEMORY), "-lgcc")
        inputs = (*map(str, (*sources, *objects)), *runtime)
        _run((*driver(toolchain), *flags, "-T", str(linker_script), *inputs, "-o", str(out_elf)))


def compile_object(
    source: Path,
    includes: Sequence[Path],
    board: Board,
    out: Path,
    optimise: str = "2",
    *,
    defines: Mapping[str, str] | None = None,
    toolchain: Toolchain = "zig",
) -> None:
    """Compile one source with `-O<optimise>` to the object file `out`; UserError when it is refused."""
    flags = _common(board, toolchain, includes, optimise, defines)
    _run((*driver(toolchain), *flags, "-c", str(source), "-o", str(out)))


def host_library(
    source: Path,
    includes: Sequence[Path],
    out: Path,
    flags: Sequence[str] = CHECKED,
    *,
    weights: Sequence[Path] = (),
    defines: Mapping[str, str] | None = None,
) -> None:
    """Compile a source and its assembled weights for this machine to a shared library.

    With the flags CHECKED undefined behaviour traps.
    """
    shared = ("-g0", "-ffreestanding", "-fPIC", "-shared", "-nostdlib")
    inputs = (*_include_flags(includes), *_macros(defines), *map(str, (source, *weights)))
    _run((*driver("zig"), *WARNINGS, *shared, *flags, *inputs, "-o", str(out)))


def wasm_module(
    sources: Sequence[Path],
    includes: Sequence[Path],
    out: Path,
    exports: Sequence[str],
    *,
    weights: Sequence[Path] = (),
    defines: Mapping[str, str] | None = None,
) -> None:
    """Compile sources to a wasm module: it imports nothing, and exports memory and the named symbols."""
    linked = ("-nostdlib", "-lcompiler_rt", "-Wl,--no-entry", *(f"-Wl,--export={name}" for name in exports))
    inputs = (*_include_flags(includes), *_macros(defines), *map(str, (*sources, *weights)))
    flags = (*WASM, *WARNINGS, "-O3", "-g0", "-ffreestanding", "-fno-sanitize=all")
    _run((*driver("zig"), *flags, *inputs, *linked, "-o", str(out)))


def program(
    sources: Sequence[Path],
    includes: Sequence[Path],
    out: Path,
    flags: Sequence[str],
    *,
    defines: Mapping[str, str] | None = None,
) -> None:
    """Compile sources with zig to a static program that has no C library and begins at `_start`."""
    linked = ("-static", "-nostdlib", "-Wl,--gc-sections", "-Wl,-s", "-lcompiler_rt")
    inputs = (*_include_flags(includes), *_macros(defines), *map(str, sources))
    _run((*driver("zig"), *flags, *WARNINGS, *SHAPE, "-g0", *inputs, *linked, "-o", str(out)))


def object_form() -> str | None:
    """Return the format of this machine's objects as `weights.write_apart` names it, None where it cannot."""
    return "elf" if sys.platform.startswith(("linux", "freebsd")) else None


def _common(
    board: Board,
    toolchain: Toolchain,
    includes: Sequence[Path],
    optimise: str,
    defines: Mapping[str, str] | None,
) -> tuple[str, ...]:
    return (
        *core_flags(board, toolchain),
        *WARNINGS,
        *SHAPE,
        f"-O{optimise}",
        "-g",  # without it zig strips the symbols; the flash image carries none of it
        *_include_flags(includes),
        *_macros(defines),
    )


def _macros(defines: Mapping[str, str] | None) -> tuple[str, ...]:
    return tuple(f"-D{name}={setting}" for name, setting in sorted((defines or {}).items()))


def _include_flags(includes: Sequence[Path]) -> tuple[str, ...]:
    return tuple(f"-I{path}" for path in includes)


def _link_flags() -> tuple[str, ...]:
    return ("-nostdlib", "-Wl,--entry=Reset_Handler", "-Wl,--gc-sections")


def _run(command: Sequence[str]) -> str:
    home = str(cache() / "zig")
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": home, "ZIG_LOCAL_CACHE_DIR": home}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"the C compiler did not finish in {TIMEOUT} s: {' '.join(command[:4])} …") from None
    except OSError as error:
        raise UserError(f"cannot start the C compiler {command[0]}: {error.strerror}") from None
    if done.returncode:
        raise UserError(f"the C compiler refused the sources: {_first_error(done.stderr)}")
    return done.stdout


def _first_error(text: str) -> str:
    if re.search(r"error: failed to parse 'tmp/.*\.d'", text):  # zig's own lists of files
        return "zig cannot read paths with a backslash, or with quotes and blanks: choose another folder"
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if "collect2" in line:
            continue
        if "error" in line or "undefined reference" in line or "overflowed" in line or "No space" in line:
            return line.strip()
    return lines[-1].strip() if lines else "no message"
