"""Teachers: a size of any family trained on the same clips, several of them, a file, or none.

Trained teachers are kept in the user's cache folder (see quantize.cache), so that many students share one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models import frontend, registry, train
from models.blocks import cost
from models.colour import Colour, draws
from models.examples import Hearing
from models.registry import Family
from models.tasks import Floats
from models.train import Recipe
from quantize import int8, prepare, qdq, stored_teacher, versions
from quantize.cache import Cache
from quantize.evaluate import Windows
from quantize.prepare import Splits
from quantize.stages import Net, Progress, named, packed, unpacked

NONE = "none"
FILES = (".keras", ".onnx", ".tflite", ".npz")
FORM = re.compile(r"(?:(?P<family>\w+)/)?(?P<size>[\w.-]+?)(?:\*(?P<count>\d+))?")
MOST = 16  # teachers at once
COLOURS = 3  # colours that a trained teacher hears each example in, where the student's recipe has any
ALGORITHM = 2  # raise it when the same settings train another teacher
SOURCES = ("train.py", "examples.py", "colour.py", "tasks.py", "data/augment.py", "data/windows.py")


@dataclass(frozen=True)
class Teacher:
    """What the student learns from: logits (N·versions, classes) of the training examples, in their order.

    With `colours` they are (colours·N·versions, classes), of models.colour.draws of the examples.
    `test_outputs` (windows, classes) are of `test`, None where the teacher knows the training clips only.
    """

    what: str
    logits: Floats
    test: Windows
    test_outputs: Floats | None
    parameters: int | None = None
    macs: int | None = None
    runtime: str = "keras"
    colours: int = 0
    speed: dict[str, Any] | None = None  # of a stored one, as it was recorded


@dataclass(frozen=True)
class Trained:
    """A size of a family that is trained to teach, `count` times with different seeds: their mean teaches."""

    family: str
    size: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.family}/{self.size}" + (f"*{self.count}" if self.count > 1 else "")

    @property
    def words(self) -> str:
        """Return how a table calls it."""
        return f"{self.family} {self.size}" + (f", mean of {self.count}" if self.count > 1 else "")


@dataclass(frozen=True)
class Lesson:
    """What decides a trained teacher beside who it is: the clips, the sound they give, seed and epochs."""

    splits: Splits
    hearing: Hearing
    seconds: float  # of sound in one input
    seed: int
    epochs: int | None  # at most

    def recipe(self, who: Trained) -> Recipe:
        """Return how `who` is trained."""
        own = registry.load(who.family).recipes[who.size]
        return own if self.epochs is None else replace(own, epochs=min(self.epochs, own.epochs))

    def settings(self, who: Trained, seed: int) -> dict[str, Any]:
        """Return everything that decides one net, as json types."""
        family = registry.load(who.family)
        return {
            "algorithm": ALGORITHM,
            "family": who.family,
            "size": who.size,
            "config": registry.to_dict(family.config(who.size, seconds=self.seconds)),
            "recipe": repr(self.recipe(who)),
            "data": self.splits.settings(),
            "hearing": asdict(self.hearing),
            "features": prepare.ALGORITHM,
            "seed": seed,
            "code": _code(who.family),
            "versions": versions.packages(),
        }


def _code(family: str) -> str:
    """Return the SHA-256 of the files that say what a net of `family` is and how it is trained."""
    whole, own = hashlib.sha256(), (registry.HERE / f"{family}.py").read_text(encoding="utf-8")
    blocks = [path for path in sorted((registry.HERE / "blocks").glob("*.py")) if path.stem in own]
    whole.update(own.encode())
    for path in (*(registry.HERE / name for name in SOURCES), *blocks):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def parse(text: str, family: str) -> Trained | None:
    """Return whom `text` (SIZE, FAMILY/SIZE or FAMILY/SIZE*COUNT) names, None if it has another form.

    Raises:
        UserError: there is no such family or size, or the count is out of range.
    """
    found = FORM.fullmatch(text)
    if found is None or (found["family"] is None and found["size"] not in registry.card(family).sizes):
        return None
    who = Trained(found["family"] or family, found["size"], int(found["count"] or 1))
    sizes = registry.card(who.family).sizes
    if who.size not in sizes:
        raise UserError(f"teacher {text}: {who.family} has no size {who.size!r}; known: {', '.join(sizes)}")
    if not 1 <= who.count <= MOST:
        raise UserError(f"teacher {text}: 1 to {MOST} teachers can teach together")
    return who


def identity(family: Family, size: str, teacher: str | Path | None) -> str:
    """Return a name for settings: FAMILY/SIZE[*COUNT], `none`, or `file <suffix> <SHA-256>`.

    Without a wish it is what the recipe of `size` says, or `none` where that is one net of the family that
    is not larger.

    Raises:
        UserError: neither a size nor a file of a known kind.
    """
    name, sizes = family.card.name, family.card.sizes
    if teacher is None:
        own = parse(family.recipes[size].teacher, name)
        if own is None:
            return NONE
        if own.family == name and own.count == 1 and sizes[own.size].parameters <= sizes[size].parameters:
            return NONE
        return str(own)
    path = Path(teacher)
    if str(teacher) == NONE:
        return NONE
    if path.suffix not in FILES:
        who = parse(str(teacher), name)
        if who is None:
            raise UserError(
                f"teacher {teacher}: give {', '.join((*sizes, NONE))}, FAMILY/SIZE, or a file that ends in "
                f"{', '.join(FILES)}"
            )
        return str(who)
    return f"file {path.suffix} {prepare.same_file(path)}"


def trained(
    who: Trained, lesson: Lesson, student: Recipe, kept: Cache, features: Cache, progress: Progress
) -> Teacher:
    """Return what `who`, trained on the training clips, says of them as the student will hear them.

    Args:
        who: which family and size, and how many.
        lesson: the clips and the seed; seeds of several teachers follow one another.
        student: its recipe says in which versions it will hear the clips.
        kept: where trained teachers and what they say are kept.
        features: where features are kept.
        progress: told about every stage.
    """
    parts = [_one(who, lesson, lesson.seed + i, student, kept, features, progress) for i in range(who.count)]
    first = parts[0]
    test = Windows(np.zeros((len(first["owner"]), 1, 1), np.int32), first["owner"], lesson.splits.test.truth)
    return Teacher(
        f"{who.words}, trained here",
        np.mean([part["logits"] for part in parts], axis=0, dtype=np.float32),
        test,
        np.mean([part["test"] for part in parts], axis=0, dtype=np.float32),
        int(first["cost"][0]) * who.count,
        int(first["cost"][1]) * who.count,
        colours=_colours(student),
    )


def _colours(student: Recipe) -> int:
    return 0 if student.colour == Colour() else COLOURS


def _one(
    who: Trained,
    lesson: Lesson,
    seed: int,
    student: Recipe,
    kept: Cache,
    features: Cache,
    progress: Progress,
) -> dict[str, npt.NDArray[Any]]:
    """Return one teacher's `logits`, `test` outputs and their `owner`, and `cost` (parameters, MACs)."""
    settings = lesson.settings(who, seed)
    count = prepare.versions(student, len(lesson.splits.train))
    heard = {
        **settings,
        "heard": {
            "versions": count,
            "sound": asdict(student.sound),
            "colour": asdict(student.colour),
            "colours": _colours(student),
            "seed": lesson.seed,
        },
    }
    family = registry.load(who.family)
    front = family.frontend(family.config(who.size, seconds=lesson.seconds))

    def answer() -> dict[str, npt.NDArray[Any]]:
        net = _net(family, who, lesson, seed, settings, kept, features, progress)
        x = prepare.training(lesson.splits, front, lesson.hearing, student, lesson.seed, features, progress).x
        if colours := _colours(student):
            x = draws(x, student.colour, colours, lesson.seed)
        test, owner = prepare.test_features(lesson.splits, front, lesson.hearing, progress)
        progress("hear the teacher", 0, 1)
        said: dict[str, npt.NDArray[Any]] = {
            "logits": train.predict(net, x),
            "test": train.predict(net, test),
            "owner": owner,
        }
        progress("hear the teacher", 1, 1)
        return {**said, "cost": np.array([cost.parameters(net), cost.macs(net)])}

    return kept.arrays("said", heard, answer)


def _net(
    family: Family,
    who: Trained,
    lesson: Lesson,
    seed: int,
    settings: dict[str, Any],
    kept: Cache,
    features: Cache,
    progress: Progress,
) -> Any:
    recipe, config = lesson.recipe(who), family.config(who.size, seconds=lesson.seconds)
    outputs, epochs = len(lesson.splits.labels), kept.path("net", settings, "epochs.npz")
    fresh: list[Net] = []

    def learn() -> dict[str, npt.NDArray[Any]]:
        own = prepare.training(
            lesson.splits, family.frontend(config), lesson.hearing, recipe, lesson.seed, features, progress
        )
        net = train.seeded(lambda: family.net(config, outputs), seed)
        train.fit_on_arrays(
            net,
            own.x,
            own.y,
            own.validation,
            recipe=recipe,
            seed=seed,
            versions=own.versions,
            checkpoint=epochs,
            progress=named(progress, f"train the teacher ({who.family} {who.size})"),
        )
        fresh.append(Net(net, registry.to_dict(config)))
        return packed(fresh[0])

    arrays = kept.arrays("net", settings, learn)
    epochs.unlink(missing_ok=True)
    if fresh:
        return fresh[0].model
    return unpacked(arrays, lambda values: family.net(family.from_dict(values), outputs)).model


def opened(path: Path) -> Callable[[Floats], Floats] | dict[str, npt.NDArray[Any]]:
    """Return what hears in the file `path`, or the arrays of an .npz (see quantize.stored_teacher).

    Raises:
        UserError: the file is damaged or holds something else.
    """
    return stored_teacher.read(path) if path.suffix == ".npz" else HEARING[path.suffix](path)


def from_file(path: Path, splits: Splits, x: Floats, test: Windows) -> Teacher:
    """Return the teacher in a file: a model that takes the student's features, or an .npz of what one said.

    Raises:
        UserError: the file is damaged, or its shapes do not fit.
    """
    hear = opened(path)
    if isinstance(hear, dict):
        stored = stored_teacher.hear(path, hear, splits)
        times = len(x) // len(stored.logits)
        said = np.tile(stored.logits, (times, 1))
        taught = Teacher(stored.what, said, stored.test, stored.test_outputs)
        if stored.speed is None:
            return taught
        known = {"parameters": stored.speed.get("parameters"), "runtime": stored.speed["device"]}
        return replace(taught, speed=stored.speed, **known)
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
