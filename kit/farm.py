"""`earkit farm`: one model compiled, flashed and profiled on many boards at once; one that fails stays alone.

Each board has a process of its own while it is worked on: a crash of an emulator takes no other board along.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import as_completed
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

import boards
from boards import atomic
from boards.errors import UserError
from boards.flashing import Checked
from firmware.compiler import build as compiler
from kit import arguments, errors, pipeline, runs, shelf
from kit.figures import measure_of
from kit.outputs import room_for
from kit.progress import Progress, silent
from kit.serial_port import EMULATOR
from quantize.worker import processes

MAX_TOML = 1 << 20  # bytes
LIMIT_S = 6 * 3600.0  # of one board
COUNTS = ("cycles", "instructions", "milliseconds", "accuracy", "ccc", "mismatches")  # columns, by origin

SIZES = {
    "samples": "clips or inputs",
    "ram_bytes": "RAM bytes, measured",
    "flash_bytes": "flash bytes, measured",
}

Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]


class Entry(Checked):
    """One board of a fleet."""

    board: Text
    port: Text | None = None  # of a real board; None: the only one with its USB id
    name: Annotated[str, Field(pattern=f"^{arguments.NAME.pattern}$")] | None = None


class Fleet(Checked):
    """A fleet as its TOML says; `model` is looked for beside that file."""

    model: Text | None = None
    boards: Annotated[list[Entry], Field(min_length=1)]

    @property
    def names(self) -> list[str]:
        """Return a name for each entry: its own, else its board's, numbered where it comes again."""
        given, taken = [entry.name or entry.board for entry in self.boards], set[str]()
        for at, name in enumerate(given):
            number = 1
            while given[at] in taken:
                number += 1
                given[at] = f"{name}-{number}"
            taken.add(given[at])
        return given


def read(path: Path) -> Fleet:
    """Return the fleet that a TOML file lists.

    Raises:
        UserError: no such file, not TOML, a wrong key, an unknown board, or two entries for one board.
    """
    try:
        if path.stat().st_size > MAX_TOML:
            raise UserError(f"{path}: {path.stat().st_size >> 20} MB, a fleet is a short TOML file")
        fleet = Fleet.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a fleet is a TOML with [[boards]] entries") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not TOML: {' '.join(str(error).split())[:200]}") from None
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from None
    seen: dict[str, int] = {}
    for number, entry in enumerate(fleet.boards, 1):
        where = f"{path}: entry {number}"
        for place in _places(entry, where):
            if place in seen:
                raise UserError(f"{where}: {place} is that of entry {seen[place]} already; give it its own")
            seen[place] = number
    return fleet


def _places(entry: Entry, where: str) -> list[str]:
    """Return what no other entry may have, in words: its name, its port, or to be found by its USB id."""
    try:
        board = boards.load(entry.board)
    except UserError as error:
        raise UserError(f"{where}: board: {error}") from None
    places = [] if entry.name is None else [f"name {entry.name!r}"]
    if board.kind == "virtual":
        if entry.port is not None:
            raise UserError(f"{where}: port: {board.name} is emulated and has none; leave it out")
    elif entry.port is None:
        places.append(f"the only {board.name} by its USB id (port is missing)")
    elif entry.port != EMULATOR:
        real = os.path.realpath(entry.port) if entry.port.startswith("/") else entry.port
        places.append(f"port {real!r}")
    return places


def _explain(error: ValidationError) -> str:
    first: Any = max(error.errors(), key=lambda item: item["type"] == "extra_forbidden")
    parts = [f"entry {part + 1}" if isinstance(part, int) else str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = Entry if len(parts) > 1 else Fleet
        return f"{' '.join(parts[:-1])} unknown key {parts[-1]!r}; there are: {', '.join(known.model_fields)}"
    return f"{': '.join(parts)}: {first['msg']}"


def run(
    fleet: Fleet,
    model: str,
    out: Path,
    *,
    jobs: int | None = None,
    progress: Progress = silent,
    **choices: Any,
) -> list[dict[str, Any]]:
    """Return a row for each board, in the fleet's order; a row with an `error` has no figures.

    Args:
        fleet: the boards.
        model: a bundle, an int8 .tflite, a model of the shelf, or a build where all boards are that of it.
        out: gets build/NAME and run/NAME of each board.
        jobs: boards at a time; one a core by default.
        progress: told about every board that is done.
        choices: data, held_out, against, samples and seed of `pipeline.profile`.
    """
    names = fleet.names
    rows: list[dict[str, Any]] = [
        {"name": name, "board": entry.board, "port": entry.port}
        for name, entry in zip(names, fleet.boards, strict=True)
    ]
    with processes(min(jobs or os.cpu_count() or 1, len(rows)), "kit.farm", LIMIT_S) as call:
        waiting = {call("one", model=model, place=str(out), choices=choices, **row): row for row in rows}
        for row in rows:
            row["proof"] = boards.load(row["board"]).proven
        progress("boards", 0, len(rows))
        for done, future in enumerate(as_completed(waiting), 1):
            try:
                waiting[future] |= future.result()
            except UserError as error:  # its process died
                waiting[future]["error"] = str(error)
            progress("boards", done, len(rows))
    return rows


def one(
    name: str, board: str, port: str | None, model: str, place: str, choices: Mapping[str, Any]
) -> dict[str, Any]:
    """Take one board from the model to its profile; a failure is a row too: {"error": one line}.

    It is called in a process of its own, with JSON.
    """
    stage = "compile"
    try:
        out = Path(place)
        build = out / "build" / name
        _compiled(model, board, build)
        stage = "flash"
        if port != EMULATOR or boards.load(board).emulated_flash:  # else the image lies there from the start
            now = pipeline.flash(build, port=port)["port"]
            port = now if port not in (None, EMULATOR) else port  # on its own USB a board may have another
        stage = "profile"
        made = pipeline.profile(build, port=port, **choices)
        runs.save(made, out / "run" / name)
        assert made.profile is not None
        return {"error": None, **figures(made.profile)}
    except Exception as error:  # one board must not take the others with it
        line = errors.explain("farm", error)
        return {"error": f"{stage}: {line or f'{type(error).__name__}: {error}'}"}


def _compiled(model: str, board: str, out: Path) -> None:
    """Compile a model for a board, or copy a build for it."""
    source = shelf.find(model)
    if not (source / "build.json").is_file():
        pipeline.compile(source, board, out)
        return
    made = compiler.load(source)
    if made.board.name != board:
        raise UserError(f"{source} is a build for {made.board.name}; give the bundle, which fits any board")
    room_for(out, folder=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing_folder(out) as copy:
        shutil.copytree(source, copy, dirs_exist_ok=True)


def figures(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return of a profile what a row holds: each count with its origin, sizes of files, the scores."""
    metric = measure_of(profile).key
    origins = profile["origins"]
    counts = {
        **{key: profile[key] for key in ("cycles", "instructions", "milliseconds")},
        metric: profile[metric]["device"],
        "mismatches": profile["mismatches"],
    }
    return {
        "build_id": profile["build_id"],
        "counts": {
            key: {"value": value, "origin": origins[f"{metric}.device" if key == metric else key]}
            for key, value in counts.items()
            if value is not None
        },
        "samples": profile["samples"],
        "host_int8": profile[metric]["host_int8"],
        "ram_bytes": profile["ram_bytes"]["total"],
        "flash_bytes": profile["flash_bytes"]["total"],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Return columns and cells: a column holds figures of one origin only, and none is empty."""
    kinds = [
        (key, origin)
        for key in COUNTS
        for origin in ("measured", "emulated")
        if any(_count(row, key, origin) is not None for row in rows)
    ]
    columns = ["name", "board", "proof", *(f"{key}, {origin}" for key, origin in kinds)]
    sizes = [key for key in SIZES if any(key in row for row in rows)]
    columns += [SIZES[key] for key in sizes]
    failed = any(row["error"] for row in rows)
    cells = [
        [
            row["name"],
            row["board"],
            row["proof"],
            *(_count(row, *kind) for kind in kinds),
            *(row.get(key) for key in sizes),
            *([row["error"]] if failed else []),
        ]
        for row in rows
    ]
    return columns + (["trouble"] if failed else []), cells


def _count(row: Mapping[str, Any], key: str, origin: str) -> Any:
    told = row.get("counts", {}).get(key)
    return told["value"] if told and told["origin"] == origin else None
