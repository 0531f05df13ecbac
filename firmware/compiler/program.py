"""From model bytes to a program for a computer: the whole step, checked before and after, in one piece."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import firmware
from boards import computers
from boards.computers import Computer
from boards.errors import UserError
from firmware.compiler import emit, fit, folder, linux, toolchain
from firmware.compiler.compiled import Compiled, lower, recorded
from firmware.compiler.graph import Graph
from firmware.compiler.plan import Plan, plan

FILES = ("model.tflite", "model.c", "model.h", linux.PROGRAM)
KINDS = ("linux", "jetson", "android")  # that run a program


@dataclass(frozen=True)
class Program(Compiled):
    """A model compiled to a program that runs on a computer and speaks the link."""

    board: Computer

    @property
    def program(self) -> Path:
        """Return where the program lies."""
        return self.path / linux.PROGRAM


def compile_model(
    model: bytes,
    board: Computer,
    out: Path,
    *,
    name: str,
    frontend: dict[str, Any] | None = None,
    bundle: dict[str, Any] | None = None,
    frontend_tables: Mapping[str, Any] | None = None,
    hop: int | None = None,
) -> Program:
    """Compile an int8 .tflite for a computer and write the build directory `out`, whole or not at all.

    Args:
        model: the .tflite file.
        board: what it runs on, of one of KINDS.
        out: directory to write; an earlier build there is replaced, anything else is refused.
        name: of the model, for messages and build.json.
        frontend: parameters of the front end, stored in build.json.
        bundle: the bundle.json that the model came from; its `labels` and `task` are stored.
        frontend_tables: `models.frontend.tables(fe)`: puts the front end into the program.
        hop: rows of the input that each run of a streaming model takes; None runs whole windows.

    Raises:
        ModelError: the model is damaged, not int8, or has an op that is not compiled.
        UserError: this kind of computer runs no program, the compiler is missing, or `out` cannot be written.
    """
    if board.kind not in KINDS:
        cure = {"ios": "earkit export --as coreml", "browser": "earkit phone"}[board.kind]
        raise UserError(f"{board.name} runs no program of the kit: use {cure}")
    start = time.perf_counter()
    window, graph, streamed = lower(model, name, linux.UNIT, hop)
    planned = plan(graph)
    build_id = _build_id(emit.emit(graph, planned, frontend_tables), model, board)
    with folder.writing(out) as made:
        (made / "model.tflite").write_bytes(model)
        linux.compile_program(
            graph,
            planned,
            board.machine,
            board.cpu,
            made,
            frontend_tables,
            build_id=build_id,
            bundle=bundle,
            stream=streamed,
        )
        record = {
            **_facts(name, board, bundle or {}),
            "build_id": build_id,
            "frontend": frontend,
            "stream": streamed,
            "sha256": folder.hashes(made, FILES),
            "sizes": _sizes(made, graph, planned, board, frontend_tables)
            | {"seconds": round(time.perf_counter() - start, 3), "stream": streamed},
        }
        if bundle is not None:
            folder.write_json(made / "bundle.json", bundle)
        folder.write_json(made / folder.RECORD, record)
    return _read(out, record, model, window, graph, planned)


def _facts(name: str, board: Computer, bundle: Mapping[str, Any]) -> dict[str, Any]:
    """Return what build.json says of the model and what it was compiled for."""
    return {
        "schema": folder.SCHEMA,
        "name": name,
        "board": board.name,
        "toolchain": toolchain.version("zig"),
        "flags": list(linux.flags(board.machine, board.cpu)),
        "labels": list(bundle.get("labels", ())),
        "task": bundle.get("task"),
    }


def load(path: Path) -> Program:
    """Return the build in a directory, its files checked against their hashes.

    Raises:
        UserError: there is no build, it is damaged, or another release made it; the cure is to compile again.
    """
    record = folder.read(path, FILES)
    model = (path / "model.tflite").read_bytes()
    hop = record["stream"] and record["stream"]["rows"]
    window, graph, _ = lower(model, record["name"], linux.UNIT, hop)
    return _read(path, record, model, window, graph, plan(graph))


def _read(
    path: Path, record: Mapping[str, Any], model: bytes, window: Graph, graph: Graph, planned: Plan
) -> Program:
    return Program(
        path=path,
        board=computers.load(record["board"]),
        window=window,
        graph=graph,
        plan=planned,
        model=model,
        **recorded(record),
    )


def _sizes(
    made: Path, graph: Graph, planned: Plan, board: Computer, frontend_tables: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the object of `compile --json`: bytes of the file, and of memory that the model takes."""
    total, weights = (made / linux.PROGRAM).stat().st_size, emit.constant_bytes(graph, frontend_tables)
    ram = {"arena": planned.arena, "state": planned.state}
    return {
        "board": board.name,
        "core": board.core,
        "proof": board.proof,
        "flash_bytes": {"code": total - weights, "weights": weights, "total": total},
        "ram_bytes": {**ram, "total": sum(ram.values())},
        **fit.work(graph, planned),
    }


def _build_id(text: str, model: bytes, board: Computer) -> str:
    key = hashlib.sha256(text.encode())
    key.update(model)
    key.update(f"{board.name} {board.cpu} {toolchain.version('zig')}".encode())
    for path in firmware.sources():
        key.update(path.read_bytes())
    return key.hexdigest()[:16]
