"""What a teacher says of clips, sound files and .npy inputs, gathered into one .npz to learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit.progress import Progress, silent
from kit.run import read_npy
from kit.teacher import Floats, Int16, Teacher
from quantize import speed

LOOKED_AT = 40  # sounds whose length decides that of the windows
RATE = 16_000  # Hz, at which that length is looked at
FULL_SCALE = 8.0  # a float waveform above this is not of ±1.0
SEQUENCE = "frames"


@dataclass(frozen=True)
class Sound:
    """Something to hear: its name, and its samples, mono, at a rate in Hz."""

    name: str
    samples: Callable[[int], Int16]


@dataclass(frozen=True)
class Features:
    """An input that is ready: (frames, features)."""

    name: str
    values: Floats


Input = Sound | Features


@dataclass
class Heard:
    """What was said so far: outputs summed over the windows of each input, and how long it took."""

    names: list[str]
    sums: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    sequences: list[Floats] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    batch: int = 1
    alone: list[float] = field(default_factory=list)  # milliseconds of calls with one window
    together: list[float] = field(default_factory=list)  # and with `batch` of them

    def add(self, owners: Sequence[int], outputs: dict[str, Floats], frames: bool) -> None:
        """Take the outputs (W, …) of windows, of which `owners` are the inputs."""
        if frames and SEQUENCE in outputs:
            self.sequences.append(outputs[SEQUENCE])
        for name in outputs.keys() - {SEQUENCE}:
            value = outputs[name].reshape(len(owners), -1)
            total = self.sums.setdefault(name, np.zeros((len(self.names), value.shape[1])))
            np.add.at(total, list(owners), value)
        self.owners += owners

    def arrays(self, labels: Sequence[str] = ()) -> dict[str, npt.NDArray[Any]]:
        """Return `names` (N), the mean `embedding` (N, width) and `logits` (N, classes) of each input.

        Also the `labels` of the logits, if any; and where they were asked for, `frames` (W, time, width) of
        all windows, and which input each is of, `frames_of` (W).
        """
        counts = np.bincount(self.owners, minlength=len(self.names))[:, None]
        found: dict[str, npt.NDArray[Any]] = {"names": np.array(self.names)}
        found |= {name: (total / counts).astype(np.float32) for name, total in sorted(self.sums.items())}
        if self.sequences:
            found |= {SEQUENCE: np.concatenate(self.sequences), "frames_of": np.array(self.owners)}
        return found | ({"labels": np.array(labels)} if labels else {})


def clips(data: str, progress: Progress = silent) -> list[Input]:
    """Return the clips of a data set, by their names in it."""
    from models import data as sets

    return [Sound(clip.name, clip.samples) for clip in sets.load(data, progress=progress).clips]


def files(paths: Sequence[Path], bands: int | None) -> list[Input]:
    """Return sound files, and the rows of .npy files: waveforms (n,) or (N, n), or features.

    Features are (frames, features) or (N, frames, features); `bands` tells two axes apart: the features
    of a frame, None where the net takes waveforms.

    Raises:
        UserError: an array has another shape, or a value that is no number.
    """
    from models.data import read_audio

    found: list[Input] = []
    for path in paths:
        if path.suffix != ".npy":
            found.append(Sound(path.name, partial(read_audio, path)))
            continue
        x = _numbers(path)
        if x.ndim == 3 or (x.ndim == 2 and x.shape[1] == bands):
            rows: Iterable[Any] = x.reshape(-1, *x.shape[-2:])
            found += [Features(f"{path.name}:{i}", row.astype(np.float32)) for i, row in enumerate(rows)]
        elif x.ndim <= 2:
            rows = np.atleast_2d(_samples(path, x))
            found += [Sound(f"{path.name}:{i}", partial(_ready, row)) for i, row in enumerate(rows)]
        else:
            raise UserError(
                f"{path}: has {x.ndim} axes; features (N, frames, bands) or waveforms (N, samples)"
            )
    return found


def _ready(samples: Int16, _rate: int) -> Int16:
    """Return samples that have the rate that is asked for."""
    return samples


def _numbers(path: Path) -> npt.NDArray[Any]:
    x = read_npy(path)
    if x.dtype.kind not in "fiu" or not x.size or not x.ndim:
        raise UserError(f"{path}: is {x.dtype} of shape {x.shape}; float32 features or waveforms are needed")
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        first = tuple(int(i) for i in wrong[0])
        raise UserError(f"{path}: {len(wrong)} values are NaN or infinite, the first at {first}")
    return x


def _samples(path: Path, x: npt.NDArray[Any]) -> Int16:
    if x.dtype == np.int16:
        return x
    peak = float(np.abs(x).max())
    if x.dtype.kind != "f" or peak > FULL_SCALE:
        raise UserError(f"{path}: waveforms are int16, or floats of ±1.0; it is {x.dtype} up to {peak:.6g}")
    samples: Int16 = np.clip(np.rint(x * 32768), -32768, 32767).astype(np.int16)
    return samples


def seconds(inputs: Sequence[Input], most: float, covering: Callable[[int], float]) -> float:
    """Return how long a window must be: as the longest of some sounds, at most `most`, or for the features.

    `covering` gives the seconds for which a front end has that many frames.
    """
    lengths = {len(one.values) for one in inputs if isinstance(one, Features)}
    if len(lengths) > 1 or (lengths and not all(isinstance(one, Features) for one in inputs)):
        raise UserError(
            f"inputs of different lengths ({sorted(lengths)} frames, or sound): give them in turn"
        )
    if lengths:
        return covering(lengths.pop())
    sounds = [one for one in inputs if isinstance(one, Sound)]
    some = sounds[:: max(1, len(sounds) // LOOKED_AT)]
    return min(most, max(len(sound.samples(RATE)) for sound in some) / RATE)


def hear(
    teacher: Teacher, inputs: Sequence[Input], batch: int, frames: bool = False, progress: Progress = silent
) -> Heard:
    """Return what `teacher` says of each input, in batches of windows; longer inputs have several.

    Raises:
        UserError: the teacher takes no such inputs, or says something that is not a number.
    """
    heard = Heard([one.name for one in inputs], batch=batch if teacher.batches else 1)
    waiting = _windows(teacher, inputs)
    while rows := list(islice(waiting, heard.batch)):
        owners = [owner for owner, _ in rows]
        full = rows + rows[-1:] * (heard.batch - len(rows))  # one shape only: a net is compiled for each
        x = np.stack([values for _, values in full])
        outputs = teacher.answer(x)
        kept = {name: value[: len(rows)] for name, value in outputs.items()}
        _check_finite(teacher, kept, [inputs[owner].name for owner in owners])
        heard.add(owners, kept, frames)
        progress("hear", owners[-1] + 1, len(inputs))
    progress("time", 0, 1)
    heard.alone = speed.timed(lambda: teacher.answer(x[:1]))
    if heard.batch > 1:
        heard.together = speed.timed(lambda: teacher.answer(x))
    progress("time", 1, 1)
    return heard


def _windows(teacher: Teacher, inputs: Sequence[Input]) -> Iterator[tuple[int, Floats]]:
    """Yield (index of the input, what the net takes) for each window of each input."""
    from models import data

    for index, one in enumerate(inputs):
        if isinstance(one, Features):
            yield index, _fitting(one.name, one.values, teacher)
            continue
        if teacher.samples is None:
            sizes = _sizes(teacher.shape)
            raise UserError(f"{teacher.name}: takes features {sizes}, no sound: give them as --input x.npy")
        samples = one.samples(teacher.rate)
        whole = len(samples) > teacher.samples
        for window in data.windows(samples, teacher.samples) if whole else [samples]:
            try:
                values = teacher.features(window)
            except UserError as error:
                raise UserError(f"{one.name}: {error}") from None
            if len(teacher.shape) == 1:
                values = np.pad(values, (0, teacher.samples - len(values)))
            yield index, _fitting(one.name, values, teacher)


def _fitting(name: str, values: Floats, teacher: Teacher) -> Floats:
    wanted, given = teacher.shape, values.shape
    if len(wanted) != len(given) or any(w not in (None, g) for w, g in zip(wanted, given, strict=True)):
        raise UserError(f"{name}: is {_sizes(given)}, {teacher.name} takes {_sizes(wanted)}")
    return values


def _sizes(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _check_finite(teacher: Teacher, outputs: dict[str, Floats], names: Sequence[str]) -> None:
    for output, value in outputs.items():
        wrong = ~np.isfinite(value).reshape(len(names), -1).all(axis=1)
        if wrong.any():
            raise UserError(
                f"{teacher.name}: its {output} of {names[int(wrong.argmax())]} is NaN or infinite"
            )


def record(teacher: Teacher, heard: Heard, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Return what `reference --json` says: the arrays' shapes, how fast it was (quantize.speed.record)."""
    return {
        "teacher": teacher.name,
        "inputs": len(heard.names),
        "windows": len(heard.owners),
        "outputs": {name: list(value.shape) for name, value in arrays.items()},
        "input_shape": list(teacher.shape),
        "sample_rate": teacher.rate if teacher.samples else None,
        "window_seconds": teacher.samples / teacher.rate if teacher.samples else None,
        **speed.record(teacher.facts, heard.alone, heard.together, heard.batch),
    }


def stored(arrays: dict[str, npt.NDArray[Any]], record: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays with the record of who said them and how fast, for quantize.stored_teacher."""
    return {**arrays, "record": np.array(json.dumps(record, allow_nan=False))}
