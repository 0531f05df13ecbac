"""What every compiled model has, whether it became firmware or a program: on disk and as a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from boards import Board
from boards.computers import Computer
from firmware.compiler import passes, read_tflite
from firmware.compiler.graph import Graph, Unit
from firmware.compiler.order import order
from firmware.compiler.plan import Plan
from firmware.compiler.stream import stream


@dataclass(frozen=True)
class Compiled:
    """A compiled model: what is on disk in `path`, and the graph and plan that it was made from."""

    path: Path
    board: Board | Computer
    name: str
    window: Graph  # of whole windows, after the passes
    graph: Graph  # what the board runs: the same, or a step of the stream
    plan: Plan
    model: bytes  # the .tflite file
    frontend: dict[str, Any] | None
    stream: dict[str, Any] | None  # of a streaming model: see stream.Streamed.record()
    labels: tuple[str, ...]  # of the classes, or the names of a regression's targets
    task: str | None  # of the bundle
    build_id: str  # 16 hexadecimal digits
    toolchain: str  # name and version of the C compiler
    flags: tuple[str, ...]  # that model.c was compiled with
    sizes: dict[str, Any]  # the object of `compile --json`


def recorded(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of Compiled that build.json holds."""
    return {
        "name": record["name"],
        "frontend": record["frontend"],
        "stream": record["stream"],
        "labels": tuple(record["labels"]),
        "task": record.get("task"),
        "build_id": record["build_id"],
        "toolchain": record["toolchain"],
        "flags": tuple(map(str, record["flags"])),
        "sizes": record["sizes"],
    }


def lower(
    model: bytes, name: str, unit: Unit, hop: int | None = None, flash_budget: int = Graph.flash_budget
) -> tuple[Graph, Graph, dict[str, Any] | None]:
    """Return (window model, what is compiled, how it streams when it takes `hop` rows at a time)."""
    window = replace(passes.run(read_tflite.read(model, name), unit), flash_budget=flash_budget)
    if hop is None:
        return window, window, None
    streamed = stream(window, hop)
    return window, order(streamed.graph), streamed.record()
