"""The verb `zoo build`: its files, its table, and what it puts on the shelf."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boards.errors import UserError
from kit import attribution, shelf, terminal, zoo, zoo_table
from kit.outputs import room_for, write_text
from kit.progress import Progress
from kit.zoo_unit import BUNDLE, SIZE
from models.data.layouts import MADE
from quantize import bundle

RECORD, PAGE = "zoo.json", "zoo.md"


def build(args: Namespace, progress: Progress) -> dict[str, Any]:
    """Build what the arguments say and return the record, which is then in the output folder too."""
    out = Path(args.output)
    table = room_for(Path(args.table)) if args.table else None
    pairs = args.data or [(name, name) for name in MADE]
    data = dict(pairs)
    if len(data) < len(pairs):
        raise UserError(f"--data: {len(pairs)} sets under {len(data)} names: give each its own NAME=DIR")
    wanted = zoo.order(
        args.families,
        data,
        seeds=args.seeds,
        board=args.board,
        out=out,
        teacher=args.teacher,
        epochs=args.epochs,
        folds=args.folds,
        held_out=dict(args.held_out or []),
        jobs=args.jobs,
        progress=progress,
    )
    whole = zoo_table.record(zoo.build(wanted, progress))
    places = [(out / PAGE, out / RECORD)] + ([(table, table.with_suffix(".json"))] if table else [])
    for page, record in places:
        write_text(page, zoo_table.page(whole))
        write_text(record, json.dumps(whole, indent=1) + "\n")
    return {**whole, "kept": _kept(wanted, whole) if args.keep else {}}


def show(whole: Mapping[str, Any]) -> None:
    """Print the table, what failed, and what was put on the shelf."""
    terminal.table(zoo_table.COLUMNS, map(zoo_table.cells, whole["rows"]))
    print(zoo_table.verdict(whole))
    for one in whole["failed"]:
        print(f"failed: {one['family']} on {one['data']}: {one['error']}")
    for name, what in whole["kept"].items():
        print(f"{name}: {what}")


def _kept(wanted: zoo.Order, whole: Mapping[str, Any]) -> dict[str, str]:
    """Put the first fold's bundle of each row on the shelf; return what became of each."""
    sources = {one.name: one for one in wanted.sources}
    told = {}
    for row in whole["rows"]:
        name, source = f"{row['family']}-{SIZE}-{row['data']}", sources[row["data"]]
        place = wanted.out / source.name / row["family"] / f"fold-{source.folds[0]}-seed-0" / BUNDLE
        try:
            text = attribution.text(source, name)
            kept = shelf.keep(bundle.load(place), name, text)
            told[name] = f"kept, {kept.stat().st_size:,} bytes"
        except UserError as error:
            told[name] = f"not kept: {error}"
    return told
