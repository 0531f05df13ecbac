"""From model bytes to a firmware image: the whole step, checked before and after, written in one piece."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import firmware
from boards import Board, atomic, computers
from boards import load as load_board
from boards.errors import UserError
from firmware.compiler import (
    dialects,
    emit,
    folder,
    image,
    link_script,
    signing,
    toolchain,
    weights,
)
from firmware.compiler.compiled import Compiled, lower, recorded
from firmware.compiler.dialects import Dialect
from firmware.compiler.elf import Elf
from firmware.compiler.fit import check_fits, copied, explain_overflow, regions, sizes
from firmware.compiler.graph import Graph
from firmware.compiler.host import HostModel, load_library
from firmware.compiler.plan import Plan, plan
from firmware.compiler.toolchain import Toolchain
from firmware.compiler.toolchain import unit as unit_of
from firmware.compiler.toolchain import version as compiler_version

SECOND = "firmware-b.bin"  # the application linked for its second place; empty when only one fits
SPEED = "-O2"  # of model.c; the rest is compiled for size
FILES = (
    *("model.tflite", "model.c", "model.h", "firmware.elf", "firmware.bin", SECOND),
    *("boot.elf", "boot.bin"),
)


@dataclass(frozen=True)
class Build(Compiled):
    """A model compiled to firmware for a microcontroller."""

    board: Board
    image: bytes  # the application, with its header
    second: bytes  # the same for its second place in flash, b"" when only one fits
    boot: bytes  # the bootloader
    dialect: Dialect | None = None  # that it speaks beside the link


def compile_model(
    model: bytes,
    board: Board,
    out: Path,
    *,
    name: str,
    frontend: dict[str, Any] | None = None,
    bundle: dict[str, Any] | None = None,
    frontend_tables: Mapping[str, Any] | None = None,
    hop: int | None = None,
    toolchain: Toolchain = "zig",
    dialect: str | None = None,
) -> Build:
    """Compile an int8 .tflite for a board and write the build directory `out`, whole or not at all.

    Args:
        model: the .tflite file.
        board: what it runs on.
        out: directory to write; an earlier build there is replaced, anything else is refused.
        name: of the model, for messages and build.json.
        frontend: parameters of the front end, stored in build.json.
        bundle: the bundle.json that the model came from; its `labels` and `task` are stored.
        frontend_tables: `models.frontend.tables(fe)`: puts the front end on the board.
        hop: rows of the input that each run of a streaming model takes; None runs whole windows.
        toolchain: "zig" or "gcc" (arm-none-eabi-gcc).
        dialect: one of firmware.DIALECTS that the application speaks beside the link, or `NAME=ID`.

    Raises:
        ModelError: the model is damaged, not int8, or has an op that is not compiled.
        UserError: it does not fit the board, the compiler is missing, or `out` cannot be written.
    """
    start = time.perf_counter()
    window, graph, streamed = lower(model, name, unit_of(board), hop, board.app_size)
    planned = plan(graph, regions(graph, board))
    check_fits(graph, planned, board, frontend_tables)
    text = emit.emit(graph, planned, frontend_tables)
    spoken = dialects.parse(dialect, name) if dialect else None
    told = dialects.header(spoken, board, graph, bundle or {}, hop) if spoken else ""
    build_id = _build_id(text + told, model, board, toolchain)
    with folder.writing(out) as made:
        (made / "model.tflite").write_bytes(model)
        write_c(made, text, emit.header(graph, planned, build_id, frontend_tables))
        _compile(made, board, graph, planned, toolchain, spoken, told)
        _write_images(made, board, build_id)
        record = {
            **_facts(name, board, toolchain, bundle or {}),
            "build_id": build_id,
            "frontend": frontend,
            "stream": streamed,
            "dialect": spoken and spoken.record,
            "sha256": folder.hashes(made, FILES),
            "sizes": sizes(made, graph, planned, board, frontend_tables, time.perf_counter() - start)
            | {"stream": streamed},
        }
        if bundle is not None:
            folder.write_json(made / "bundle.json", bundle)
        folder.write_json(made / folder.RECORD, record)
    return _read(out, record, model, window, graph, planned)


def _facts(name: str, board: Board, kind: Toolchain, bundle: Mapping[str, Any]) -> dict[str, Any]:
    """Return what build.json says of the model and what it was compiled for."""
    return {
        "schema": folder.SCHEMA,
        "name": name,
        "board": board.name,
        "core": board.core,
        "toolchain": compiler_version(kind),
        "flags": [SPEED, *toolchain.core_flags(board, kind)],
        "labels": list(bundle.get("labels", ())),
        "task": bundle.get("task"),
    }


def load(path: Path) -> Build:
    """Return the build in a directory, its files checked against their hashes.

    Raises:
        UserError: there is no build, it is damaged, or another release made it; the cure is to compile again.
    """
    if (name := folder.board(path)) in computers.names():
        raise UserError(f"{path} is a program for {name}, not firmware: compile for a microcontroller")
    record = folder.read(path, FILES)
    board = load_board(record["board"])
    model = (path / "model.tflite").read_bytes()
    hop = record["stream"] and record["stream"]["rows"]
    window, graph, _ = lower(model, record["name"], unit_of(board), hop, board.app_size)
    return _read(path, record, model, window, graph, plan(graph, regions(graph, board)))


def _read(
    path: Path, record: Mapping[str, Any], model: bytes, window: Graph, graph: Graph, planned: Plan
) -> Build:
    """Return the build in a directory whose record and model are at hand."""
    return Build(
        path=path,
        board=load_board(record["board"]),
        window=window,
        graph=graph,
        plan=planned,
        model=model,
        **recorded(record),
        image=(path / "firmware.bin").read_bytes(),
        second=(path / SECOND).read_bytes(),
        boot=(path / "boot.bin").read_bytes(),
        dialect=dialects.parse(record["dialect"], record["name"]) if record.get("dialect") else None,
    )


def host_library(graph: Graph, planned: Plan, made: Path) -> HostModel:
    """Compile model.c for this machine in `made` and return the model, to be called with its inputs.

    A graph that was lowered to "simd" is compiled for speed; in the C of any other, undefined behaviour ends
    the process.
    """
    write_c(made, emit.emit(graph, planned), emit.header(graph, planned))
    library, includes = made / "model.so", (made, firmware.ROOT)
    flags = toolchain.FAST if graph.unit == "simd" else toolchain.CHECKED
    apart = weights.write_apart(emit.constants(graph), made, toolchain.object_form())
    defines = weights.DEFINES if apart else {}
    toolchain.host_library(made / "model.c", includes, library, flags, weights=apart, defines=defines)
    return load_library(library, graph)


def _compile(
    made: Path,
    board: Board,
    graph: Graph,
    planned: Plan,
    kind: Toolchain,
    spoken: Dialect | None,
    told: str,
) -> None:
    """Compile model.c for speed and the rest for size, and link; the bootloader comes from the cache.

    An application that speaks a dialect has its sources too, and dialect.h, whose text is `told`.
    """
    includes = (made, firmware.ROOT)
    model, constants = made / "model.o", made / "weights.o"
    apart = weights.write_apart(emit.constants(graph), made)
    defines = weights.DEFINES if apart else {}
    with ThreadPoolExecutor(2) as pool:
        boot = pool.submit(_boot, made / "boot.elf", board, kind)
        for source in apart:
            toolchain.compile_object(source, includes, board, constants, toolchain=kind)
        toolchain.compile_object(
            made / "model.c",
            includes,
            board,
            model,
            SPEED.removeprefix("-O"),
            defines=defines,
            toolchain=kind,
        )
        boot.result()
    sources = (*firmware.APP, *firmware.chip(board))
    if spoken:
        (made / "dialect.h").write_text(told, encoding="ascii")
        sources += firmware.DIALECTS[spoken.name]
    with explain_overflow(graph, planned, board):
        for offset, name in _places(board).items():
            script = link_script.script(board, "app", copied(graph, planned, board), offset=offset)
            toolchain.compile(
                sources,
                includes,
                board,
                script,
                made / f"{name}.elf",
                "s",
                objects=(model, *(constants for _ in apart)),
                defines={**board.defines, **({"EAR_DIALECT": "1"} if spoken else {})},
                toolchain=kind,
            )
            if image.HEADER_BYTES + len(_body(made / f"{name}.elf", board, offset)) > board.second_image:
                break
    for path in (model, constants, made / weights.BINARY, made / "dialect.h", *apart):
        path.unlink(missing_ok=True)


def _boot(out: Path, board: Board, kind: Toolchain) -> None:
    """Write the board's bootloader to `out`, compiling it only when its sources, flags or board changed."""
    script = link_script.script(board, "boot")
    sources = (*firmware.BOOT, *firmware.chip(board))
    defines = {**board.defines, **signing.defines(signing.public())}
    parts = [script, compiler_version(kind), *toolchain.core_flags(board, kind), str(defines)]
    key = hashlib.sha256("\n".join(parts).encode())
    for path in firmware.sources():
        if path.relative_to(firmware.ROOT).parts[0] != "kernels":
            key.update(path.read_bytes())
    cached = toolchain.cache() / f"boot-{board.name}-{key.hexdigest()[:24]}.elf"
    if not cached.exists():
        with atomic.replacing(cached) as partial:
            toolchain.compile(
                sources, (firmware.ROOT,), board, script, partial, "s", defines=defines, toolchain=kind
            )
    shutil.copyfile(cached, out)


def write_c(made: Path, text: str, header: str) -> None:
    """Write model.c and model.h to the folder `made`."""
    (made / "model.c").write_text(text, encoding="ascii")
    (made / "model.h").write_text(header, encoding="ascii")


def _places(board: Board) -> dict[int, str]:
    """Return where an application may lie, as offset → stem of its files."""
    return {0: "firmware", **({board.second_image: "firmware-b"} if board.second_image else {})}


def _body(elf: Path, board: Board, offset: int) -> bytes:
    return Elf(elf.read_bytes()).image(board.app_origin + offset + image.HEADER_BYTES)


def _write_images(made: Path, board: Board, build_id: str) -> None:
    (made / SECOND).write_bytes(b"")
    for offset, name in _places(board).items():
        elf = made / f"{name}.elf"
        if elf.exists():
            packed = image.pack(_body(elf, board, offset), build_id, board.app_origin + offset)
            (made / f"{name}.bin").write_bytes(packed)
    (made / "firmware-b.elf").unlink(missing_ok=True)
    (made / "boot.bin").write_bytes(Elf((made / "boot.elf").read_bytes()).image(board.flash_memory.origin))


def _build_id(text: str, model: bytes, board: Board, kind: Toolchain) -> str:
    key = hashlib.sha256(text.encode())
    key.update(model)
    key.update(f"{board.name} {board.defines} {compiler_version(kind)}".encode())
    for path in firmware.sources():
        key.update(path.read_bytes())
    return key.hexdigest()[:16]
