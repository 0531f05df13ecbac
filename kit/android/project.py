"""`earkit export --as android`: an Android Studio project with our C and the bundle's .tflite."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from boards.errors import UserError
from firmware.compiler import compiled
from firmware.compiler import export as c_export
from firmware.compiler.graph import Graph
from firmware.compiler.linux import UNIT
from firmware.compiler.plan import Plan, plan
from kit import hops, phone_app
from kit.detect import USUAL
from kit.outputs import room_for
from models import frontend

TEMPLATE = Path(__file__).parent / "project"
CPP, ASSETS = "app/src/main/cpp", "app/src/main/assets"
C_FILES = ("sound.c", "hear.c", "listener.c")
NEVER_BUILT = "not built here: open it in Android Studio, or run `gradle assembleDebug`"


def export(source: Path, out: Path, hop: str | None = None) -> dict[str, Any]:
    """Write the bundle `source` as a project to the folder `out`; return what was written.

    `hop` ("20ms", or a number of rows) makes the compiled model a streaming one.

    Raises:
        UserError: a bare .tflite, a model of values, one that cannot be compiled, or `out` cannot be written.
    """
    from quantize import bundle as bundles

    if source.suffix == ".tflite":
        raise UserError(f"{source}: a bare .tflite has no labels and no front end: give a bundle")
    phone_app.check_folder(room_for(out, folder=True))
    bundle = bundles.load(source)
    rows = None if hop is None else hops.rows(hop, bundle.frontend)
    app = phone_app.app(bundle, source, rows)
    _, graph, _ = compiled.lower(bundle.model(), app.name, UNIT, rows, Graph.flash_budget)
    planned = plan(graph)
    files = _files(app, graph, planned, rows)
    record = {
        "form": "android",
        "name": app.name,
        "unit": UNIT,
        "streams": rows is not None,
        "arena_bytes": planned.arena,
        "state_bytes": planned.state,
        "sha256": {f"{ASSETS}/{bundles.MODEL}": bundle.files[bundles.MODEL]},
        "built": False,
        "note": NEVER_BUILT,
    }
    phone_app.write(out, files, record)
    return record | {"files": sorted(files)}


def _files(app: phone_app.App, graph: Graph, planned: Plan, rows: int | None) -> dict[str, str | bytes]:
    step = app.meant.fe if rows is None else replace(app.meant.fe, frames=rows)
    sources, _ = c_export.sources(graph, planned, frontend.tables(step), C_FILES)
    sources["rules.h"] = (
        "/* rules.h: when results become events; the kit's usual rules. */\n"
        f"#ifndef EAR_RULES_H\n#define EAR_RULES_H\n\n#define EAR_RULES {app.rules}\n\n#endif\n"
    )
    values = _values(app, sources, rows)
    made: dict[str, str | bytes] = {f"{CPP}/{path}": text for path, text in sources.items()}
    for path in sorted(TEMPLATE.rglob("*")):
        if path.is_file():
            made[path.relative_to(TEMPLATE).as_posix()] = phone_app.filled(path, values)
    return made | {f"{ASSETS}/model.int8.tflite": app.bundle.model()}


def _values(app: phone_app.App, sources: dict[str, str], rows: int | None) -> dict[str, str]:
    model, meant = app.bundle.model(), app.meant
    units = sorted(path for path in sources if path.endswith(".c"))
    return {
        "TITLE": app.name,
        "TITLE_XML": escape(app.name).replace("\\", "\\\\").replace("'", "\\'").replace('"', '\\"'),
        "IDENTIFIER": app.identifier,
        "UNITS": "\n    ".join(units),
        "RATE": str(app.bundle.sample_rate),
        "SAMPLES": str(meant.fe.samples),
        "HOP": str(meant.hop),
        "THRESHOLD": repr(USUAL.threshold),
        "STREAMS": "false" if rows is None else "true",
        "LABELS": app.strings,
        "STREAMING": "the model on a sliding window" if rows is None else "the streaming model",
        "ONLY": "" if rows is None else "It is left out here: its file is the window's model, the C streams.",
        "MODEL_SHA": hashlib.sha256(model).hexdigest(),
        "LICENCE": app.bundle.licence,
    }
