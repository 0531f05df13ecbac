"""Teachers: an official net with its weights, or a model file; what they say is to be learnt from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from boards.errors import UserError
from kit import reference
from kit.reference import Reference
from quantize.speed import Facts

Floats = npt.NDArray[np.float32]
Int16 = npt.NDArray[np.int16]
LONGEST_S = 600  # of one window
FULL_GPU = ("ResourceExhausted", "OutOfMemory")  # in the names of the backends' errors


@dataclass(frozen=True)
class Teacher:
    """A net that answers with named outputs (batch, …), and how it takes sound.

    `samples` is of one window of sound at `rate` Hz; None: it takes features only.
    """

    name: str
    answer: Callable[[Floats], Mapping[str, Floats]]
    facts: Facts
    batches: bool  # more than one input may be given at once
    shape: tuple[int | None, ...]  # of one input; None: any size
    rate: int
    samples: int | None
    features: Callable[[Int16], Floats]  # of one window, not longer than `samples`
    labels: tuple[str, ...] = ()  # of the logits, where they are known


class Asked(Protocol):
    """A teacher that was asked for, and is made when it is known how long its windows must be."""

    def bands(self) -> int | None:
        """Return the features of a frame; None: it takes waveforms."""

    def longest(self) -> float:
        """Return the seconds that a window has at most, where the sounds do not say."""

    def covering(self, frames: int) -> float:
        """Return the seconds of sound that have so many frames."""

    def licence(self) -> str | None:
        """Return the licence of its weights, where it is known."""

    def made(self, seconds: float) -> Teacher:
        """Return the teacher, for windows of `seconds`."""


@dataclass(frozen=True)
class Official:
    """A published size of a family with official weights."""

    family: str
    size: str
    weights: Path

    def front(self, seconds: float | None = None) -> Any:
        """Return the front end of the size, for inputs of `seconds` (None: as published)."""
        from models import registry

        family = registry.load(self.family)
        given = {} if seconds is None else {"seconds": seconds}
        return family.frontend(family.config(self.size, **given))

    def bands(self) -> int | None:
        """Return the features of a frame; None: it takes waveforms."""
        bands = int(self.front().features)
        return bands if bands > 1 else None

    def longest(self) -> float:
        """Return the seconds of an input as published."""
        from models import registry

        return float(registry.load(self.family).config(self.size).seconds)

    def covering(self, frames: int) -> float:
        """Return the seconds of the shortest sound that has so many frames.

        Raises:
            UserError: none has.
        """
        rate = self.front().sample_rate
        low, high = 1, LONGEST_S * rate
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._frames(middle / rate) >= frames else (middle + 1, high)
        if self._frames(low / rate) != frames:
            raise UserError(f"{self.family} {self.size}: no sound gives {frames} frames")
        return float(low / rate)

    def _frames(self, seconds: float) -> int:
        try:
            return int(self.front(seconds).frames)
        except UserError:  # too short for the front end
            return 0

    def licence(self) -> str | None:
        """Return the licence of the official weights; what forbids products is said."""
        from models import registry

        about = registry.card(self.family).weights
        return None if about is None else about.terms

    def made(self, seconds: float) -> Teacher:
        """Return the net with its weights; UserError: they are not of that size."""
        from models import data, fronts, published, registry
        from models.frontend import FrontEnd

        try:
            loaded = published.load(registry.load(self.family), self.size, self.weights, seconds)
        except ValueError:  # Keras has no layer of less than one frame
            if seconds >= self.longest():
                raise
            raise UserError(
                f"{self.family} {self.size} cannot hear {seconds:.4g} s, its layers would have less than one "
                f"frame: take longer clips, or --seconds up to {self.longest():g}"
            ) from None
        front = loaded.front

        def features(sound: Int16) -> Floats:
            if isinstance(front, FrontEnd):  # the others pad by their own rule
                sound = data.window(sound, front.samples)
            return fronts.features(sound, front)

        return Teacher(
            name=f"{self.family} {self.size}",
            answer=_answers(loaded.net),
            facts=reference.facts(loaded.net),
            batches=True,
            shape=(front.frames, front.features),
            rate=front.sample_rate,
            samples=front.samples,
            features=features,
            labels=loaded.labels,
        )


@dataclass(frozen=True)
class ModelFile:
    """A .keras, .onnx or .tflite; one with inputs of one axis takes waveforms of ±1.0 at `rate` Hz."""

    model: Reference
    rate: int

    def bands(self) -> int | None:
        """Return the features of a frame; None: it takes waveforms."""
        return self.model.shape[-1] if len(self.model.shape) > 1 else None

    def longest(self) -> float:
        """Return the seconds of the longest window where any length goes."""
        return float(LONGEST_S)

    def covering(self, frames: int) -> float:
        """Return how long so many frames would last if a frame were a sample: no sound is cut by it."""
        return frames / self.rate

    def licence(self) -> str | None:
        """Return None: a file does not say."""
        return None

    def made(self, seconds: float) -> Teacher:
        """Return the model as a teacher with one output, `logits`."""
        shape, answer = self.model.shape, self.model.answer
        return Teacher(
            name=self.model.name,
            answer=lambda x: {"logits": answer(x).reshape(len(x), -1)},
            facts=self.model.facts,
            batches=self.model.batches,
            shape=shape,
            rate=self.rate,
            samples=(shape[0] or round(seconds * self.rate)) if len(shape) == 1 else None,
            features=lambda sound: sound.astype(np.float32) / np.float32(32768),
        )


def asked(model: str, size: str, weights: Path | None, rate: int) -> Asked:
    """Return what `model` names, a family or a file, with all checked that needs no net.

    Raises:
        UserError: there is no such family, size or file, or no weights were given.
    """
    from models import registry

    if Path(model).suffix in reference.READERS:
        if weights is not None:
            raise UserError(f"--weights {weights}: {model} has its weights in it")
        return ModelFile(reference.load(Path(model)), rate)
    card = registry.card(model)
    if size not in card.sizes:
        raise UserError(f"no size {size!r} of {model}; known: {', '.join(card.sizes)}")
    if weights is None:
        where = f"{card.weights.where} ({card.weights.terms})" if card.weights else "none were published"
        raise UserError(f"reference {model} needs --weights FILE; official ones: {where}")
    if not weights.is_file():
        raise UserError(f"{weights}: no such file of weights")
    return Official(model, size, weights)


def _answers(net: Any) -> Callable[[Floats], Mapping[str, Floats]]:
    from models import train

    net.compile(**train.compile_options())

    def answer(x: Floats) -> Mapping[str, Floats]:
        try:
            found = net.predict_on_batch(x)
        except Exception as error:
            if any(word in type(error).__name__ for word in FULL_GPU):
                raise UserError(f"no memory for {len(x)} inputs at once: use a smaller --batch") from None
            raise
        return {name: np.asarray(value, np.float32) for name, value in found.items()}

    return answer
