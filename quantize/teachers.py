"""Teachers: a larger size of the family trained on the same clips, a file, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models import checkpoint, frontend, train
from models.blocks import cost
from models.registry import Family, to_dict
from quantize import int8, prepare, qdq
from quantize.evaluate import Windows
from quantize.prepare import Splits
from quantize.stages import Net, Progress, Work, named

Floats = npt.NDArray[np.float32]
NONE = "none"
FILES = (".keras", ".onnx", ".tflite", ".npz")


@dataclass(frozen=True)
class Teacher:
    """What the student learns from: logits (N·versions, classes) of the training examples, in their order.

    `test_outputs` (windows, classes) are of `test`, None where the teacher knows the training clips only.
    """

    what: str
    logits: Floats
    test: Windows
    test_outputs: Floats | None
    parameters: int | None = None
    macs: int | None = None
    runtime: str = "keras"


def identity(family: Family, size: str, teacher: str | Path | None) -> str:
    """Return a name for settings: a size of the family, `none`, or `file <suffix> <SHA-256>`.

    Without a wish it is what the recipe of `size` says, if that is larger than `size`, else `none`.

    Raises:
        UserError: neither a size nor a file of a known kind.
    """
    sizes = family.card.sizes
    if teacher is None:
        own = family.recipes[size].teacher
        larger = own in sizes and sizes[own].parameters > sizes[size].parameters
        return own if larger else NONE
    if str(teacher) == NONE or str(teacher) in family.sizes:
        return str(teacher)
    path = Path(teacher)
    if path.suffix not in FILES:
        raise UserError(
            f"teacher {teacher}: give {', '.join((*sizes, NONE))}, or a file that ends in {', '.join(FILES)}"
        )
    return f"file {path.suffix} {prepare.same_file(path)}"


def trained(
    family: Family,
    config: Any,
    size: str,
    splits: Splits,
    student_recipe: train.Recipe,
    recipe: train.Recipe,
    seed: int,
    work: Work,
    progress: Progress,
) -> Teacher:
    """Return the family's `size`, trained on the training clips; it hears them as the student will."""
    fe = family.frontend(config)
    classes = len(splits.labels)
    own = prepare.training(splits, fe, recipe, seed, work, progress)

    def learn() -> Net:
        net = train.seeded(lambda: family.net(config, classes), seed)
        train.fit_on_arrays(
            net,
            own.x,
            own.y,
            own.validation,
            recipe=recipe,
            seed=seed,
            versions=own.versions,
            checkpoint=work.epochs("teacher"),
            progress=named(progress, f"train the teacher ({size})"),
        )
        return Net(net, to_dict(config))

    net = work.net("teacher", lambda c: family.net(family.from_dict(c), classes), learn).model
    heard = prepare.training(splits, fe, student_recipe, seed, work, progress)
    test = prepare.test_windows(splits, fe, work, progress)
    return Teacher(
        f"{family.card.name} {size}, trained here",
        train.predict(net, heard.x),
        test,
        train.predict(net, frontend.to_float(test.values)),
        cost.parameters(net),
        cost.macs(net),
    )


def opened(path: Path) -> Callable[[Floats], Floats] | dict[str, npt.NDArray[Any]]:
    """Return what hears in the file `path`, or the `names` and `logits` of an .npz.

    Raises:
        UserError: the file is damaged or holds something else.
    """
    if path.suffix != ".npz":
        return HEARING[path.suffix](path)
    arrays = checkpoint.read(path)
    if set(arrays) != {"names", "logits"} or len(arrays["names"]) != len(arrays["logits"]):
        raise UserError(
            f"{path}: needs `names` (N) and `logits` (N, classes), it has {', '.join(sorted(arrays))}"
        )
    return arrays


def from_file(path: Path, splits: Splits, x: Floats, test: Windows) -> Teacher:
    """Return the teacher in a file, which must take the student's features.

    `.npz` holds `names` (of training clips) and `logits` (N, classes) instead of a model.

    Raises:
        UserError: the file is damaged, or its shapes do not fit.
    """
    hear = opened(path)
    if isinstance(hear, dict):
        return Teacher(f"{path.name}, logits", _stored(path, hear, splits, len(x)), test, None)
    try:
        logits = hear(x)
        outputs = hear(frontend.to_float(test.values))
    except Exception as error:  # whatever keras, onnxruntime or LiteRT raise about shapes
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: takes no features of shape (1, {x.shape[1]}, {x.shape[2]}): {text}"
        ) from None
    if logits.shape != (len(x), len(splits.labels)):
        raise UserError(
            f"{path}: gives outputs {logits.shape[1:]}, the data has {len(splits.labels)} classes"
        )
    return Teacher(path.name, logits, test, outputs, runtime=path.suffix[1:])


def _stored(path: Path, arrays: Mapping[str, npt.NDArray[Any]], splits: Splits, count: int) -> Floats:
    row = {str(name): index for index, name in enumerate(arrays["names"])}
    missing = [clip.name for clip in splits.train.clips if clip.name not in row]
    if missing:
        raise UserError(f"{path}: has no logits of {len(missing)} training clips, the first is {missing[0]}")
    rows = arrays["logits"][[row[clip.name] for clip in splits.train.clips]].astype(np.float32)
    return np.tile(rows, (count // len(rows), 1))


def _keras(path: Path) -> Callable[[Floats], Floats]:
    import keras

    net = _whole(path, lambda: keras.models.load_model(path, compile=False, safe_mode=True))
    return lambda x: train.predict(net, x)


def _onnx(path: Path) -> Callable[[Floats], Floats]:
    model = path.read_bytes()
    _whole(path, lambda: qdq.session(model))
    return lambda x: qdq.run(model, x).astype(np.float32)


def _tflite(path: Path) -> Callable[[Floats], Floats]:
    model = path.read_bytes()
    _whole(path, lambda: int8.interpreter(model))
    return lambda x: int8.run(model, x)


def _whole(path: Path, load: Callable[[], Any]) -> Any:
    """Return what `load` gives; whatever a library says of a damaged file becomes one line."""
    try:
        return load()
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded: {' '.join(str(error).split())[:200]}") from None


HEARING: Mapping[str, Callable[[Path], Callable[[Floats], Floats]]] = {
    ".keras": _keras,
    ".onnx": _onnx,
    ".tflite": _tflite,
}
