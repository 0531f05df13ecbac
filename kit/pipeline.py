"""The road on one page: compress → compile → flash → listen → profile → report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boards
from boards import computers
from boards.errors import UserError
from kit.outputs import room_for
from kit.progress import Progress, silent
from quantize.silence import import_keras

if TYPE_CHECKING:
    from boards import Board
    from firmware.compiler.build import Build
    from firmware.compiler.program import Program
    from kit.listen import Heard
    from kit.listen_view import View
    from kit.records import Run
    from models.frontend import FrontEnd
    from quantize.bundle import Bundle

BUNDLE = "bundle.zip"  # inside a BUILD that was made from one, so that profile needs nothing else
MAX_MODEL = 256 << 20  # bytes of a .tflite


def compress(
    family: str,
    size: str,
    data: str,
    out: Path,
    *,
    board: str | None = None,
    teacher: str | None = None,
    progress: Progress = silent,
    **choices: Any,
) -> Bundle:
    """Train, distil, prune and quantise `family` on `data` into the bundle `out`.

    `choices` go to `quantize.compress.compress` as they are: held_out, seed, keep, epochs …

    Raises:
        UserError: any that the stages raise, or the finished model does not fit `board`.
    """
    from quantize import compress as stages

    target = boards.load(board) if board else None
    check_request(family, size, data, teacher)
    made = stages.compress(family, size, data, out=out, teacher=teacher, progress=progress, **choices)
    if target is not None:
        fits(made, target)
    return made


def check_request(family: str, size: str, data: str, teacher: str | None) -> None:
    """Raise UserError for what can be told before Keras is imported, which takes a while; then import it."""
    from models import registry
    from models.data.layouts import MADE

    if size not in (sizes := registry.card(family).sizes):
        raise UserError(f"no size {size!r} of {family}; known: {', '.join(sizes)}")
    if data not in MADE and not Path(data).exists():
        raise UserError(f"{data}: no such data; give a folder, a manifest csv, or {' or '.join(MADE)}")
    if teacher is not None and Path(teacher).suffix and not Path(teacher).exists():
        raise UserError(f"{teacher}: no such teacher; give a model file, a size of the family, or none")
    import_keras()


def fits(bundle: Bundle, board: Board) -> None:
    """Raise UserError if the bundle's model cannot fit the board, whatever the code takes."""
    from firmware.compiler import fit, passes, plan, read_tflite
    from models import frontend

    graph = passes.run(read_tflite.read(bundle.model(), f"{bundle.family} {bundle.size}"))
    fit.check_fits(
        graph, plan.plan(graph, fit.regions(graph, board)), board, frontend.tables(bundle.frontend)
    )


def compile(  # noqa: A001  (the verb's name)
    source: Path,
    board: str,
    out: Path | None = None,
    *,
    hop: str | None = None,
    toolchain: Literal["zig", "gcc"] = "zig",
    dialect: str | None = None,
    progress: Progress = silent,
) -> Build | Program:
    """Turn a bundle, or an int8 .tflite, into firmware or a program for `board` in the folder `out`.

    `hop` ("20ms", or a number of rows) makes it a streaming model, which takes that much sound in each run.
    `dialect` (see firmware.DIALECTS) is what the application speaks beside the link.
    """
    from kit import hops
    from models import frontend
    from quantize import bundle as bundles

    step = _compiler(board, toolchain, dialect)
    name = source.absolute().name.removesuffix(".zip").removesuffix(".tflite")
    out = room_for(out or Path("build") / f"{name}-{board}", folder=True)
    progress("compile", 0, 1)
    if source.suffix == ".tflite":
        rows = None if hop is None else hops.rows(hop)
        made = step(read_model(source), out=out, name=name, hop=rows)
    else:
        bundle = bundles.load(source)
        rows = None if hop is None else hops.rows(hop, bundle.frontend)
        heard = bundle.frontend if rows is None else replace(bundle.frontend, frames=rows)
        made = step(
            bundle.model(),
            out=out,
            name=name,
            frontend=asdict(bundle.frontend),
            bundle=bundle.model_dump(mode="json"),
            frontend_tables=frontend.tables(heard),
            hop=rows,
        )
        bundles.zipped(bundle, out / BUNDLE)
    progress("compile", 1, 1)
    return made


def _compiler(
    board: str, toolchain: Literal["zig", "gcc"], dialect: str | None
) -> Callable[..., Build | Program]:
    """Return what compiles a model for a microcontroller or a computer."""
    from firmware.compiler import build, program

    if board not in computers.names():
        return partial(build.compile_model, board=boards.load(board), toolchain=toolchain, dialect=dialect)
    if toolchain != "zig" or dialect is not None:
        asked = f"--dialect {dialect}" if dialect else f"--toolchain {toolchain}"
        raise UserError(f"{board} is a computer: {asked} is for firmware, leave it out")
    return partial(program.compile_model, board=computers.load(board))


def export(
    source: Path, form: str, out: Path, *, board: str | None = None, hop: str | None = None
) -> dict[str, Any]:
    """Write a bundle, or an int8 .tflite, as C sources to the folder `out`; return what was written.

    `form` is one of firmware.compiler.export.FORMS, android (no board), coreml (no board, no hop), or eim (a
    computer for its board).
    `board` picks the kernels of its core; else portable C.
    """
    if form in ("android", "coreml") and board is not None:
        raise UserError(f"--as {form} is for any phone: leave --board out")
    if form == "android":
        from kit.android import project

        return project.export(source, out, hop)
    if form == "coreml":
        from kit.coreml import package

        if hop is not None:
            raise UserError("--as coreml takes the window's model: leave --hop out")
        return package.export(source, out)
    if form == "eim":
        from kit import eim

        return eim.export(source, out, board=board, hop=hop)
    from firmware.compiler import compiled, export, toolchain
    from firmware.compiler.graph import Graph
    from firmware.compiler.plan import plan
    from kit import hops
    from models import frontend
    from quantize import bundle as bundles

    target = None if board is None else boards.load(board)
    unit = "c" if target is None else toolchain.unit(target)
    budget = Graph.flash_budget if target is None else target.app_size
    name = source.absolute().name.removesuffix(".zip").removesuffix(".tflite")
    out = room_for(out, folder=True)
    if source.suffix == ".tflite":
        rows = None if hop is None else hops.rows(hop)
        model, tables = read_model(source), None
    else:
        bundle = bundles.load(source)
        rows = None if hop is None else hops.rows(hop, bundle.frontend)
        step = bundle.frontend if rows is None else replace(bundle.frontend, frames=rows)
        model, tables = bundle.model(), frontend.tables(step)
    _, graph, _ = compiled.lower(model, name, unit, rows, budget)
    return export.export(graph, plan(graph), form, out, name=name, frontend_tables=tables)


def read_model(path: Path) -> bytes:
    """Return the bytes of a .tflite; UserError if it is not there or out of all proportion."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is not a file; a bundle or an int8 .tflite is needed")
    if not path.is_file():
        raise UserError(f"{path}: no such model; a bundle or an int8 .tflite is needed")
    if path.stat().st_size > MAX_MODEL:
        raise UserError(
            f"{path}: {path.stat().st_size >> 20} MB, at most {MAX_MODEL >> 20} MB go into a board"
        )
    return path.read_bytes()


def run(
    folder: Path,
    sources: Sequence[Path],
    targets: Sequence[Path],
    *,
    port: str | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run the inputs of the .npy `sources` on the board and write the outputs to `targets`, one file each."""
    from kit import builds, device
    from kit.run import check_targets, prepare, run_inputs

    made = builds.load(folder)
    given = prepare(made, sources)
    check_targets(made, targets)
    with device.open(made, port, progress) as board:
        return run_inputs(made, board, given, [room_for(target) for target in targets], progress)


def flash(
    folder: Path,
    *,
    port: str | None = None,
    method: str | None = None,
    service: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the firmware to the board by one of its methods, or by `method`, and see it answer.

    On a computer `service` lets it listen whenever that runs, with these options of its runner. `tell` hears
    what is tried, and why it failed.
    """
    from firmware.compiler.build import Build
    from kit import builds, device, targets
    from kit import flash as methods

    made = builds.load(folder)
    if not isinstance(made, Build):
        if method is not None:
            raise UserError(f"{made.board.name} is a computer: --method {method} is for microcontrollers")
        return targets.flash(made, port, tell, progress, service=service)
    if service is not None:
        raise UserError(f"{made.board.name} starts its firmware by itself: leave --service out")
    done = methods.flash(made, port, progress, method=method, tell=tell)
    with device.open(made, done.port, progress) as board:
        info = board.info()
        return {
            "board": made.board.name,
            "build_id": info.build_id,
            "bytes": len(made.image),
            "fallback": bool(made.second),
            "method": done.method,
            "port": board.wire.name,
        }


def serve(folder: Path, *, ready: Callable[[str], None], stop: threading.Event, **choices: Any) -> None:
    """Offer the virtual board of a build as a serial port until `stop` is set or Ctrl-C is pressed.

    `ready` gets the path of the port; `choices` as in kit.serve.serve.
    """
    from firmware.compiler import build
    from kit import serve as server
    from kit.listen import interruptible

    made = build.load(folder)
    with interruptible(stop):
        server.serve(made, ready=ready, stop=stop, **choices)


def record(folder: Path, label: str, seconds: float, out: Path, **choices: Any) -> dict[str, Any]:
    """Record clips of `label` through the microphone of a build's board; `choices`: see kit.record.record."""
    from firmware.compiler import build
    from kit import record as recorder

    return recorder.record(build.load(folder), label, seconds, out, **choices)


def profile(
    folder: Path,
    *,
    data: str | None = None,
    held_out: str | None = None,
    against: str = "full",
    samples: int | None = None,
    seed: int = 0,
    port: str | None = None,
    progress: Progress = silent,
) -> Run:
    """Count the work on the board and compare board, host and full size on the held-out clips."""
    from firmware.compiler.build import Build
    from kit import builds, device, measure, targets
    from quantize import bundle as bundles

    made = builds.load(folder)
    if not (folder / BUNDLE).exists():
        if made.frontend is not None:
            raise UserError(f"{folder}: {BUNDLE} is missing, the build is not whole: compile again")
        if data is not None:
            raise UserError(
                f"{folder}: a bare .tflite has no labels or front end for --data; compile a bundle"
            )
        with device.open(made, port, progress) as board:
            run = measure.bare(made, board, samples, seed, progress)
        return run if isinstance(made, Build) else targets.measured(made, run, port, progress)
    bundle = bundles.load(folder / BUNDLE)
    test = measure.clips(bundle, data, held_out, samples, progress)
    full = measure.full_size(bundle, test, against, progress)
    with device.open(made, port, progress) as board:
        run = measure.bundled(made, board, bundle, test, full, progress)
    return run if isinstance(made, Build) else targets.measured(made, run, port, progress, test)


def listen(
    folder: Path,
    source: str,
    *,
    fast: bool = False,
    threshold: float | None = None,
    port: str | None = None,
    show: Callable[[FrontEnd, tuple[str, ...]], View] | None = None,
    progress: Progress = silent,
) -> Heard:
    """Stream the microphone or a sound file to the board, which computes the features and the answers.

    `show` gives the view for a front end and its labels; without it nothing is shown.
    """
    from kit import builds
    from kit import listen as ears
    from kit.detect import Rules

    made = builds.load(folder)
    meant = ears.meaning(made)
    rules = Rules() if threshold is None else Rules(threshold=threshold)
    view = show(meant.fe, meant.labels) if show else None
    return ears.listen(made, source, port=port, fast=fast, rules=rules, view=view, progress=progress)


def reference(
    model: str,
    out: Path,
    *,
    data: str | None = None,
    inputs: Sequence[Path] = (),
    size: str = "full",
    weights: Path | None = None,
    seconds: float | None = None,
    rate: int = 16_000,
    batch: int = 16,
    frames: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Let a full-size model hear `data` or `inputs`, and store what it says in the .npz `out`.

    `model` is a family, whose published `size` gets the official `weights`, or a .keras, .onnx or .tflite
    file, which takes waveforms at `rate` Hz where its input has one axis. `frames` stores sequences too.
    """
    from kit import hearing, teacher
    from models import checkpoint
    from models.data.layouts import MADE

    ear = teacher.asked(model, size, weights, rate)
    room_for(out)
    if data is None and not inputs:
        raise UserError("nothing to hear: give a data set, or --input with .npy or sound files")
    for path in (*inputs, *([] if data is None or data in MADE else [Path(data)])):
        if not path.exists():
            raise UserError(f"{path}: no such data or file")
    import_keras()
    given = hearing.files(inputs, ear.bands())
    if data is not None:
        given += hearing.clips(data, progress)
    made = ear.made(seconds or hearing.seconds(given, ear.longest(), ear.covering))
    heard = hearing.hear(made, given, batch, frames, progress)
    arrays = heard.arrays(made.labels)
    record = hearing.record(made, heard, arrays)
    checkpoint.write(out, hearing.stored(arrays, record))
    return {"output": str(out), **record, "licence": ear.licence()}


def report(folders: Sequence[Path], out: Path) -> None:
    """Draw the runs as one HTML page."""
    from kit import report as page
    from kit import runs

    page.write([runs.load(folder) for folder in folders], out)
