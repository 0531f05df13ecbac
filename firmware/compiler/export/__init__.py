"""Exports: a model as C sources that build alone, as a plain folder or a project of CMake, Arduino or Zephyr.

A form is one module here: FILES(project) gives the files that it adds around the sources.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import firmware
from boards import atomic
from boards.errors import UserError
from firmware.compiler import emit
from firmware.compiler.export import arduino, cmake, plain, zephyr
from firmware.compiler.export.project import Project
from firmware.compiler.graph import Graph
from firmware.compiler.plan import Plan

FORMS: Mapping[str, Callable[[Project], dict[str, str]]] = {
    "c": plain.files,
    "cmake": cmake.files,
    "arduino": arduino.files,
    "zephyr": zephyr.files,
}
RECORD = "earkit.json"  # marks a folder as an export, which the next one may replace
INCLUDE = re.compile(r'^#include "([\w/.]+)"', re.MULTILINE)


def export(
    graph: Graph,
    planned: Plan,
    form: str,
    out: Path,
    *,
    name: str,
    frontend_tables: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the model as a project of one of FORMS to the folder `out`, whole or not at all.

    Args:
        graph: after passes.run, lowered to the unit that the code is for.
        planned: of this graph.
        form: a key of FORMS.
        out: folder; an earlier export there is replaced, anything else is refused.
        name: of the model; letters and digits of it name the project.
        frontend_tables: `models.frontend.tables(fe)`: exports the front end too.

    Returns:
        The record that lies in `out`: form, unit, files, bytes of arena, states and constants.

    Raises:
        UserError: `out` cannot be written.
    """
    if out.exists() and not (out / RECORD).exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not an export: choose another -o")
    found, build_id = sources(graph, planned, frontend_tables)
    project = Project(
        _identifier(name), name, graph.unit, frontend_tables is not None, bool(graph.states), found
    )
    files = FORMS[form](project)
    record = {
        "schema": 1,
        "name": name,
        "form": form,
        "unit": graph.unit,
        "build_id": build_id,
        "arena_bytes": planned.arena,
        "state_bytes": planned.state,
        "constant_bytes": emit.constant_bytes(graph, frontend_tables),
        "files": sorted(files),
    }
    _write(out, {**files, RECORD: json.dumps(record, indent=2) + "\n"})
    return record


def sources(
    graph: Graph, planned: Plan, frontend_tables: Mapping[str, Any] | None, more: Sequence[str] = ()
) -> tuple[dict[str, str], str]:
    """Return path → text of what builds alone, and the build id.

    `more` are further files of the firmware.
    """
    text = emit.emit(graph, planned, frontend_tables)
    build_id = hashlib.sha256(text.encode()).hexdigest()[:16]
    found = {"model.c": text, "model.h": emit.header(graph, planned, build_id, frontend_tables)}
    files = () if frontend_tables is None else ("frontend.c", "frontend.h")
    found |= {file: _read(file) for file in (*files, *more)}
    return found | _headers(found), build_id


def _headers(sources: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the sources include, and those that these include, by their path."""
    found: dict[str, str] = {}
    waiting = [("", text) for text in sources.values()]
    while waiting:
        folder, text = waiting.pop()
        for included in INCLUDE.findall(text):
            path = _normal(f"{folder}/{included}" if folder else included)
            if path in sources or path in found:
                continue
            found[path] = _read(path)
            waiting.append((path.rpartition("/")[0], found[path]))
    return found


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def _read(path: str) -> str:
    return (firmware.ROOT / path).read_text(encoding="ascii")


def _identifier(name: str) -> str:
    made = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    return made if made and not made[0].isdigit() else f"model_{made}".rstrip("_")


def _write(out: Path, files: Mapping[str, str]) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing_folder(out) as made:
            for path, text in files.items():
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}: choose another -o") from None
