"""What a teacher said of clips, kept in an .npz: its logits, or a linear probe on its embedding.

`names` (N) of clips; `logits` (N, classes), with `labels` (classes) where they are known, and/or `embedding`
(N, width); `record`, the JSON of who said it and how fast: what `earkit reference` writes. Logits of the
data's own labels are taken as they are. From any others, or from the embedding, a linear classifier (ridge
regression for values) is fitted to the training clips; its penalty is the best of PENALTIES on the validation
clips. The test clips are only answered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from models import npz, tasks
from models.data import Dataset
from models.tasks import Floats, Truth
from quantize.evaluate import Windows
from quantize.prepare import Splits

Array = npt.NDArray[Any]
Wide = npt.NDArray[np.float64]
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of half the squared weights, beside the mean loss
STEPS = 400
NUMBERS = ("model_bytes", "parameters", "windows_per_second", "batch")  # of a record, where they are known


@dataclass(frozen=True)
class Stored:
    """What an .npz says of the clips of a data set."""

    what: str
    logits: Floats  # (training clips, outputs)
    test: Windows
    test_outputs: Floats | None  # None: it does not know the test clips
    speed: dict[str, Any] | None  # as `earkit reference` recorded it, see quantize.speed.record


def read(path: Path) -> dict[str, Array]:
    """Return the arrays of a file.

    Raises:
        UserError: it is damaged, lacks something, or holds what is not a number.
    """
    arrays = npz.read(path, "store the teacher's answers again with `earkit reference`")
    said = [name for name in ("logits", "embedding") if name in arrays]
    if "names" not in arrays or not said:
        has = ", ".join(sorted(arrays))
        raise UserError(f"{path}: needs `names` and `logits` or `embedding` of as many clips, it has {has}")
    count = len(np.atleast_1d(arrays["names"]))
    for name in said:
        array = arrays[name]
        if array.ndim != 2 or len(array) != count or array.dtype.kind != "f":
            raise UserError(
                f"{path}: `{name}` is {array.dtype} {array.shape}; floats ({count}, any) are needed"
            )
        wrong = ~np.isfinite(array).all(axis=1)
        if wrong.any():
            raise UserError(f"{path}: `{name}` of {arrays['names'][wrong.argmax()]} is NaN or infinite")
    if "labels" in arrays and "logits" in arrays and arrays["labels"].shape != arrays["logits"].shape[1:]:
        raise UserError(
            f"{path}: {arrays['labels'].size} `labels` for `logits` of {arrays['logits'].shape[1]} classes"
        )
    return arrays


def hear(path: Path, arrays: Mapping[str, Array], splits: Splits) -> Stored:
    """Return what the file's teacher says of the clips, by its logits or by a probe.

    Raises:
        UserError: a training clip is missing.
    """
    row = {str(name): index for index, name in enumerate(np.atleast_1d(arrays["names"]))}
    missing = [clip.name for clip in splits.train.clips if clip.name not in row]
    if missing:
        share = f"{len(missing)} of {len(splits.train)} training clips"
        raise UserError(f"{path}: says nothing of {share}, the first is {missing[0]}")
    columns = _columns(arrays, splits)
    spoken = speed(path, arrays)
    who = str(arrays["teacher"] if "teacher" in arrays else (spoken or {}).get("teacher", path.name))
    if columns is not None:
        said, how = arrays["logits"][:, columns].astype(np.float32), "logits"
    else:
        heard = arrays["embedding"] if "embedding" in arrays else arrays["logits"]
        said, how = _probed(heard.astype(np.float64), row, splits), "linear probe"
    known = all(clip.name in row for clip in splits.test.clips)
    count = len(splits.test)
    test = Windows(np.zeros((count, 1, 1), np.int32), np.arange(count), splits.test.truth)
    return Stored(
        f"{who}, {how}",
        said[_rows(splits.train, row)],
        test,
        said[_rows(splits.test, row)] if known else None,
        spoken,
    )


def speed(path: Path, arrays: Mapping[str, Array]) -> dict[str, Any] | None:
    """Return the `record` of a file: who its teacher was, where it ran and how fast; None: it has none.

    Raises:
        UserError: it is not the JSON that `earkit reference` writes.
    """
    if "record" not in arrays:
        return None
    try:
        value = json.loads(str(arrays["record"]))
        rest = {"device": str(value["device"]), "milliseconds": float(value["milliseconds"])}
        numbers = [rest["milliseconds"], *map(value.get, NUMBERS), *dict(value.get("memory") or {}).values()]
        whole = all(one is None or math.isfinite(one) for one in numbers)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        whole = False
    if not whole:
        raise UserError(f"{path}: its `record` is damaged: run `earkit reference` again") from None
    return {**value, **rest}


def _columns(arrays: Mapping[str, Array], splits: Splits) -> list[int] | None:
    """Return where the logits of the data's labels stand, None if they are of others."""
    if "logits" not in arrays:
        return None
    if "labels" not in arrays:
        same = arrays["logits"].shape[1] == len(splits.labels)
        return list(range(len(splits.labels))) if same else None
    names = [str(label) for label in arrays["labels"]]
    return [names.index(label) for label in splits.labels] if set(names) == set(splits.labels) else None


def _rows(clips: Dataset, row: Mapping[str, int]) -> list[int]:
    return [row[clip.name] for clip in clips.clips]


def _probed(heard: Wide, row: Mapping[str, int], splits: Splits) -> Floats:
    """Return what the best probe says of everything heard (N, outputs)."""
    fitted = _rows(splits.train, row)
    mean, deviation = heard[fitted].mean(axis=0), heard[fitted].std(axis=0)
    x = (heard - mean) / np.maximum(deviation, 1e-6)
    y, outputs = splits.train.truth, len(splits.labels)
    task = tasks.of(y)
    judged = [clip for clip in splits.validation.clips if clip.name in row]
    answers = [probe(x[fitted], y, outputs, penalty).answer(x) for penalty in PENALTIES]
    if len(judged) < len(splits.validation) or not judged:
        return answers[len(answers) // 2]
    places, truth = [row[clip.name] for clip in judged], splits.validation.truth
    return min(answers, key=lambda said: task.error(said[places], truth))


@dataclass(frozen=True)
class Probe:
    """A linear map."""

    weights: Wide  # (width, outputs)
    bias: Wide  # (outputs,)

    def answer(self, x: Wide) -> Floats:
        """Return the outputs (N, outputs) for `x` (N, width)."""
        return (x @ self.weights + self.bias).astype(np.float32)


def probe(x: Wide, y: Truth, outputs: int, penalty: float) -> Probe:
    """Return the linear map of `x` (N, width) to the truth with the least loss plus penalty·|weights|²/2.

    Classes: multinomial logistic regression by Nesterov's accelerated gradient from zero, with the step that
    the largest singular value allows. Values: ridge regression, solved.
    """
    if tasks.of(y) is tasks.VALUES:
        bias = np.asarray(y, np.float64).mean(axis=0)
        inner = x.T @ x / len(x) + penalty * np.eye(x.shape[1])
        return Probe(np.linalg.solve(inner, x.T @ (y - bias) / len(x)), bias)
    wanted = np.eye(outputs)[np.asarray(y)]
    joined = np.hstack([x, np.ones((len(x), 1))])
    kept = np.full((joined.shape[1], 1), penalty)
    kept[-1] = 0.0
    step = 1.0 / (0.5 * float(np.linalg.norm(joined, 2)) ** 2 / len(x) + penalty)
    now = ahead = np.zeros((joined.shape[1], outputs))
    for number in range(STEPS):
        slope = joined.T @ (_shares(joined @ ahead) - wanted) / len(x) + kept * ahead
        before, now = now, ahead - step * slope
        ahead = now + number / (number + 3) * (now - before)
    return Probe(now[:-1], now[-1])


def _shares(logits: Wide) -> Wide:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Wide = powers / powers.sum(axis=1, keepdims=True)
    return shares
