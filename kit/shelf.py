"""The shelf: small trained bundles that come with the kit, found by name; see models/zoo/README.md."""

from __future__ import annotations

import difflib
import hashlib
import json
from pathlib import Path
from typing import Any

import models
from boards.errors import UserError
from kit import pipeline
from kit.progress import Progress, silent
from quantize import bundle, cache
from quantize.bundle import CALIBRATION, EVALUATION, ONNX, Bundle

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
    """Return the build of `name`: a folder of `earkit compile`, or what is compiled now for `board`.

    What is compiled once is found again in the cache folder.

    Raises:
        UserError: a model without a board, or a board with a build; no such name.
    """
    from kit import builds

    source = find(name)
    if not _uncompiled(source):
        if board is not None:
            near = difflib.get_close_matches(name, names(), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the kit's are: {', '.join(names())}"
            raise UserError(f"{name}: --board is for a bundle, a .tflite or a model of the kit; {hint}")
        return source
    if board is None:
        raise UserError(f"{name}: is not compiled yet: say --board, such as virtual-m7")
    digest = hashlib.sha256(_content(source)).hexdigest()[:12]
    out = cache.place("builds") / f"{source.absolute().name.removesuffix('.zip')}-{board}-{digest}"
    try:
        builds.load(out)
    except (UserError, OSError):  # not there, damaged, or of another release
        pipeline.compile(source, board, out, progress=progress)
    return out


def _uncompiled(source: Path) -> bool:
    """Tell a bundle or a .tflite from a build and from what is not there."""
    return source.is_file() or ((source / bundle.MANIFEST).is_file() and not (source / "build.json").exists())


def _content(source: Path) -> bytes:
    """Return what tells one model from another: the file, or the manifest with the hashes of all others."""
    return (source if source.is_file() else source / bundle.MANIFEST).read_bytes()


def _anywhere(evaluation: dict[str, Any]) -> bytes:
    """Return eval.json with the name of the data's folder instead of its place on the trainer's machine."""
    data = evaluation["data"]
    data = {**data, "source": Path(data["source"]).name}
    return json.dumps({**evaluation, "data": data}, indent=2).encode() + b"\n"


def keep(made: Bundle, name: str, attribution: str) -> Path:
    """Put a bundle on the shelf without what only training needs, its attribution beside it.

    Raises:
        UserError: it is larger than what is kept.
    """
    calibration = made.arrays(CALIBRATION)["features"][:KEPT]
    content = {file: made.read(file) for file in made.files if file != ONNX}
    content[CALIBRATION] = bundle.write_npz(features=calibration)
    content[EVALUATION] = _anywhere(made.evaluation())
    SHELF.mkdir(exist_ok=True)
    out = SHELF / f"{name}.zip"
    bundle.save(made, content, out)
    if out.stat().st_size > MOST_BYTES:
        size = out.stat().st_size
        out.unlink()
        raise UserError(f"{name}: {size:,} bytes, at most {MOST_BYTES:,} are kept")
    (SHELF / f"{name}.ATTRIBUTION.md").write_text(attribution, encoding="utf-8")
    return out
