"""What each verb prints: it walks its part of kit/pipeline.py, then shows a table or one JSON object."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boards as board_files
from boards.errors import UserError
from kit import pipeline, terminal
from kit.outputs import room_for
from kit.progress import shown


def models(args: Namespace) -> int:
    """List the families, or show one."""
    from kit import fits
    from models import registry

    cards = [registry.card(name) for name in ([args.family] if args.family else registry.names())]
    known = fits.all_boards()
    if args.json:
        terminal.json_object({"models": [fits.record(card, known) for card in cards]})
        return 0
    rows = [fits.row(card, size, known) for card in cards for size in card.sizes]
    terminal.table(fits.COLUMNS, rows)
    if args.family:
        print(f"{cards[0].title}. {cards[0].paper}. Licence: {cards[0].licence}")
        if cards[0].weights:
            print(f"Official weights, not shipped: {cards[0].weights.where}, {cards[0].weights.terms}")
    return 0


def boards(args: Namespace) -> int:
    """List the boards, or show one."""
    names = [args.board] if args.board else board_files.names()
    found = [board_files.load(name) for name in names]
    if args.json:
        terminal.json_object({"boards": [board.model_dump(mode="json") for board in found]})
        return 0
    terminal.table(
        ("board", "core", "MHz", "FPU", "DSP", "MVE", "flash", "RAM", "runs on"),
        [
            (
                board.name,
                board.core,
                board.clock_hz // 1_000_000,
                board.fpu,
                board.dsp,
                board.mve,
                terminal.kilobytes(board.flash_memory.size),
                terminal.kilobytes(board.ram_memory.size),
                "hardware" if board.emulator == "none" else f"{board.emulator} emulator",
            )
            for board in found
        ],
    )
    return 0


def doctor(args: Namespace) -> int:
    """Check this machine; exit with 1 only if the main road cannot be walked."""
    from kit.doctor import examine

    report = examine()
    if args.json:
        terminal.json_object(report)
    else:
        rows = [(check["name"], check["state"], check["found"], check["cure"]) for check in report["checks"]]
        terminal.table(("what", "state", "found", "cure"), rows)
    missing = [check["name"] for check in report["checks"] if check["state"] == "missing"]
    if missing:
        raise UserError(f"the main road is blocked by {', '.join(missing)}: see the cures on stdout")
    return 0


def compress(args: Namespace) -> int:
    """Train, distil, prune and quantise a family into a bundle, or into one a fold."""
    out = Path(args.output or f"bundles/{args.family}-{args.size}")
    chosen = ("teacher", "epochs", "seed", "keep", "clips_per_class", "seconds", "scratch")
    choices = {name: getattr(args, name) for name in chosen}
    return (_folds if args.cross_validate else _bundle)(args, out, choices)


def _bundle(args: Namespace, out: Path, choices: dict[str, Any]) -> int:
    began = time.monotonic()
    with shown() as progress:
        bundle = pipeline.compress(
            args.family,
            args.size,
            args.data,
            out,
            board=args.board,
            held_out=args.held_out,
            progress=progress,
            **choices,
        )
    evaluation = bundle.evaluation()
    if args.json:
        record = {"bundle": str(out), "family": bundle.family, "size": bundle.size, "evaluation": evaluation}
        terminal.json_object({**record, "seconds": round(time.monotonic() - began, 1)})
        return 0
    metric = evaluation["metric"]
    stages = [(s["name"], s["what"], s[metric], s["parameters"], s["macs"]) for s in evaluation["stages"]]
    terminal.table(("stage", "net", metric, "parameters", "MACs"), stages)
    for note in evaluation["notes"]:
        print(f"note: {note}")
    clips = evaluation["data"]["test"]
    print(f"{out}: int8 {len(bundle.model()):,} bytes, {clips} test clips; next: earkit compile {out}")
    return 0


def _folds(args: Namespace, out: Path, choices: dict[str, Any]) -> int:
    from kit.cross_validate import cross_validate

    if args.held_out:
        raise UserError(
            f"--held-out {args.held_out} holds out one fold, --cross-validate each in turn: give one"
        )
    with shown() as progress:
        summary = cross_validate(
            args.family, args.size, args.data, out, board=args.board, progress=progress, **choices
        )
    if args.json:
        terminal.json_object(summary)
        return 0
    rows = [(name, row["what"], row) for name, row in summary["stages"].items()]
    if "device" in summary:
        rows.append(("device", f"on {summary['board']}, {summary['device']['origin']}", summary["device"]))
    terminal.table(
        (
            "stage",
            "net",
            summary.get("metric", "accuracy"),
            "deviation",
            *(f"without {fold}" for fold in summary["folds"]),
        ),
        [(name, what, row["mean"], row["deviation"], *row["by_fold"]) for name, what, row in rows],
    )
    print(f"{out}: a bundle for each of {len(summary['folds'])} folds and cross-validation.json")
    return 0


def compile(args: Namespace) -> int:  # noqa: A001  (the verb's name)
    """Turn a bundle or an int8 .tflite into firmware."""
    from kit import shelf

    with shown() as progress:
        build = pipeline.compile(
            shelf.find(args.model),
            args.board,
            Path(args.output) if args.output else None,
            hop=args.hop,
            toolchain=args.toolchain,
            progress=progress,
        )
    if args.json:
        terminal.json_object(build.sizes)
        return 0
    _sizes_table(build.sizes)
    if build.stream:
        print(_streams(build.stream))
    print(f"{build.path}: firmware for {build.board.name}; next: earkit flash {build.path}")
    return 0


def export(args: Namespace) -> int:
    """Write a model as C sources."""
    out = Path(args.output or f"export/{Path(args.model).stem}-{args.form}")
    record = pipeline.export(Path(args.model), args.form, out, board=args.board, hop=args.hop)
    if args.json:
        terminal.json_object({"export": str(out), **record})
    else:
        ram = record["arena_bytes"] + record["state_bytes"]
        print(f"{out}: {len(record['files'])} files for {record['unit']}; {ram:,} bytes of RAM, no heap")
    return 0


def _streams(stream: Mapping[str, Any]) -> str:
    steps = stream["window"] / stream["rows"]
    cost = f"{stream['macs'] * steps:,.0f} MACs for a window of new sound"
    text = f"streams {stream['rows']} of {stream['window']} rows at a time: {cost}"
    text += f", {stream['window_macs'] * steps:,.0f} when each hop runs the whole window"
    return text + (f"; whole from here on: {stream['stopped_by']}" if stream["stopped_by"] else "")


def run(args: Namespace) -> int:
    """Run the inputs of a .npy on the board."""
    from kit import shelf

    with shown() as progress:
        record = pipeline.run(
            shelf.built(args.build, args.board, progress),
            [Path(name) for name in args.input],
            [room_for(Path(name)) for name in args.output],
            port=args.port,
            progress=progress,
        )
    if args.json:
        terminal.json_object(record)
    else:
        names = ", ".join(one["output"] for one in record["outputs"])
        print(f"{names}: {record['inputs']} outputs of {record['board']}, {record['origin']}")
    return 0


def flash(args: Namespace) -> int:
    """Write the firmware to the board."""
    from kit import shelf

    with shown() as progress:
        record = pipeline.flash(
            shelf.built(args.build, args.board, progress), port=args.port, progress=progress
        )
    if args.json:
        terminal.json_object(record)
    else:
        print(f"{record['board']}: {record['bytes']:,} bytes verified, build {record['build_id']} runs")
    return 0


def profile(args: Namespace) -> int:
    """Measure instructions, memory and accuracy on the board against the host."""
    from kit import runs, shelf

    out = room_for(Path(args.output or f"runs/{Path(args.build).absolute().name}"), folder=True)
    with shown() as progress:
        run = pipeline.profile(
            shelf.built(args.build, args.board, progress),
            data=args.data,
            held_out=args.held_out,
            against=args.against,
            samples=args.samples,
            seed=args.seed,
            port=args.port,
            progress=progress,
        )
    runs.save(run, out)
    assert run.profile is not None
    if args.json:
        terminal.json_object(run.profile)
    else:
        _profile_tables(run.profile)
        print(f"{out}/{runs.PROFILE}; next: earkit report {out}")
    return 0


def reference(args: Namespace) -> int:
    """Let a full-size model hear sounds, and store what it says as a teacher."""
    out = Path(args.output or f"{Path(args.model).stem}-{args.size}.npz")
    with shown() as progress:
        record = pipeline.reference(
            args.model,
            out if out.suffix == ".npz" else out.with_name(out.name + ".npz"),
            data=args.data,
            inputs=[Path(name) for name in args.input],
            size=args.size,
            weights=Path(args.weights) if args.weights else None,
            seconds=args.seconds,
            rate=args.rate,
            batch=args.batch,
            frames=args.frames,
            progress=progress,
        )
    if args.json:
        terminal.json_object(record)
        return 0
    terminal.table(("output", "shape"), [(name, str(shape)) for name, shape in record["outputs"].items()])
    speed = f"{record['batch_milliseconds']:,.1f} ms a batch of {record['batch']}"
    rate = f"{record['windows_per_second']:,.1f} windows a second"
    memory = f"{record['peak_memory_bytes'] / 2**20:,.0f} MB of the {record['peak_memory_of']} at most"
    print(f"{record['teacher']} on {record['device']}: {speed}, {rate}, {memory}")
    if record["licence"]:
        print(f"licence of the weights: {record['licence']}")
    print(f"{record['output']}: a teacher; next: earkit compress FAMILY --teacher {record['output']}")
    return 0


def zoo(args: Namespace) -> int:
    """List the models that come with the kit, or build every micro."""
    from kit import shelf, zoo_view

    if args.action == "list":
        kept = shelf.listed()
        if args.json:
            terminal.json_object({"models": kept})
        elif kept:
            terminal.table(("model", "task", "score", "bytes", "data"), [tuple(one.values()) for one in kept])
        else:
            print("no trained models yet: earkit zoo build --keep makes some")
        return 0
    with shown() as progress:
        whole = zoo_view.build(args, progress)
    if args.json:
        terminal.json_object(whole)
    else:
        zoo_view.show(whole)
    if whole["failed"]:
        names = ", ".join(f"{one['family']} on {one['data']}" for one in whole["failed"])
        raise UserError(f"{names}: see above; the same call goes on with what is left")
    return 0


def report(args: Namespace) -> int:
    """Make one page of profiles."""
    out = room_for(Path(args.output))
    pipeline.report([Path(run) for run in args.runs], out)
    if args.json:
        terminal.json_object({"report": str(out), "runs": args.runs, "bytes": out.stat().st_size})
    else:
        print(f"{out}: {len(args.runs)} runs")
    return 0


def demo(args: Namespace) -> int:
    """Walk the whole road on synthetic sounds."""
    from kit.demo import demo as walk

    with shown() as progress:
        record = walk(args.family, args.board, Path(args.output), seed=args.seed, progress=progress)
    if args.json:
        terminal.json_object(record)
        return 0
    _profile_tables(record["profile"])
    terminal.table(("stage", "seconds"), record["seconds"].items())
    print(f"report: {record['report']}")
    return 0


def _sizes_table(sizes: Mapping[str, Any]) -> None:
    rows = [(f"flash, {name}", count) for name, count in sizes["flash_bytes"].items()]
    rows += [(f"RAM, {name}", count) for name, count in sizes["ram_bytes"].items()]
    rows += [("RAM, least arena any plan could have", sizes["lower_bound_bytes"])]
    terminal.table(("", "bytes"), rows)
    print(f"{sizes['macs']:,} MACs in {len(sizes['ops'])} ops; compiled in {sizes['seconds']:.2f} s")


def _profile_tables(record: Mapping[str, Any]) -> None:
    from kit.profile import figures

    unit = "instructions" if record["cycles"] is None else "cycles"
    rows = [(row["name"], row["op"], row["macs"], row[unit], _per_mac(row, unit)) for row in record["per_op"]]
    terminal.table(("node", "op", "MACs", unit, f"{unit} per MAC"), rows)
    terminal.table(("figure", "value", "origin"), figures(record))
    if record["first_mismatch"]:
        print(
            "first difference: {sample}, {what} {index}: device {device}, host {host}".format(
                **record["first_mismatch"]
            )
        )
    for note in record["notes"]:
        print(f"note: {note}")


def _per_mac(row: Mapping[str, Any], unit: str) -> float | None:
    return row[unit] / row["macs"] if row["macs"] else None


def listen(args: Namespace) -> int:
    """Stream sound to the board and show what it hears."""
    from kit import listen_view, runs, shelf

    out = room_for(Path(args.output), folder=True) if args.output else None
    heard = pipeline.listen(
        shelf.built(args.build, args.board),
        args.source,
        fast=args.fast,
        threshold=args.threshold,
        port=args.port,
        show=None if args.json else listen_view.view,
    )
    if out is not None:
        runs.save_listening(heard.listening, out)
    if args.json:
        terminal.json_object(heard.record())
    return 0
