"""The shelf: small trained bundles that come with the kit, found by name; see models/zoo/README.md."""

from __future__ import annotations

import difflib
import hashlib
from pathlib import Path
from typing import Any

import models
from boards.errors import UserError
from kit import pipeline
from kit.progress import Progress, silent
from quantize import bundle, cache
from quantize.bundle import CALIBRATION, ONNX, Bundle

SHELF = Path(models.__file__).parent / "zoo"
MOST_BYTES = 250 * 1024  # of one bundle
KEPT = 2  # calibration windows that stay in it


def names() -> list[str]:
    """Return the names of the models on the shelf."""
    return sorted(path.stem for path in SHELF.glob("*.zip"))


def listed() -> list[dict[str, Any]]:
    """Return what is on the shelf: name, task, score of int8 on the test clips, bytes and data."""
    found = []
    for name in names():
        made = bundle.load(SHELF / f"{name}.zip")
        evaluation = made.evaluation()
        size = (SHELF / f"{name}.zip").stat().st_size
        score = f"{evaluation['metric']} {evaluation['stages'][-1][evaluation['metric']]:.3f}"
        about = {"task": made.task, "score": score, "bytes": size, "data": made.provenance.data}
        found.append({"model": name, **about})
    return found


def find(name: str) -> Path:
    """Return the bundle of that name on the shelf; the path itself where it is there, or no such name is.

    Whoever takes the path says what is wrong with it.
    """
    path = Path(name)
    return SHELF / f"{name}.zip" if not path.exists() and name in names() else path


def built(name: str, board: str | None, progress: Progress = silent) -> Path:
    """Return the build of `name`: a folder of `earkit compile`, or a model of the shelf for `board`.

    What is compiled once is found again in the cache folder.

    Raises:
        UserError: a model of the shelf without a board, or a board with a folder; no such name.
    """
    from firmware.compiler import build as compiler

    source = find(name)
    if source.suffix != ".zip" or source.parent != SHELF:
        if board is not None:
            near = difflib.get_close_matches(name, names(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"those are: {', '.join(names()) or 'none yet'}"
            raise UserError(f"{name}: --board is for a model that comes with the kit; {hint}")
        return source
    if board is None:
        raise UserError(
            f"{name}: comes with the kit and is not compiled yet: say --board, such as virtual-m7"
        )
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    out = cache.folder() / "builds" / f"{name}-{board}-{digest}"
    try:
        compiler.load(out)
    except (UserError, OSError):  # not there, damaged, or of another release
        pipeline.compile(source, board, out, progress=progress)
    return out


def keep(made: Bundle, name: str, attribution: str) -> Path:
    """Put a bundle on the shelf without what only training needs, its attribution beside it.

    Raises:
        UserError: it is larger than what is kept.
    """
    calibration = made.arrays(CALIBRATION)["features"][:KEPT]
    content = {file: made.read(file) for file in made.files if file != ONNX}
    content[CALIBRATION] = bundle.write_npz(features=calibration)
    SHELF.mkdir(exist_ok=True)
    out = SHELF / f"{name}.zip"
    bundle.save(made, content, out)
    if out.stat().st_size > MOST_BYTES:
        size = out.stat().st_size
        out.unlink()
        raise UserError(f"{name}: {size:,} bytes, at most {MOST_BYTES:,} are kept")
    (SHELF / f"{name}.ATTRIBUTION.md").write_text(attribution, encoding="utf-8")
    return out
