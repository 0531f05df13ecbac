"""Front ends of official codes, in float, one file each: for references and teachers, never on a board."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from models import frontend
from models.frontend import FrontEnd

Floats: TypeAlias = npt.NDArray[np.float32]


class ReferenceFront(Protocol):
    """What an official code does to a waveform before its net; a frozen dataclass, so that a Config holds it.

    A net on waveforms has one feature a frame and a frame a sample.
    """

    @property
    def sample_rate(self) -> int:
        """Return the rate in Hz that the waveform must have."""

    @property
    def frames(self) -> int:
        """Return the frames of one input of the net."""

    @property
    def features(self) -> int:
        """Return the values of a frame."""

    @property
    def samples(self) -> int:
        """Return the samples that one input covers."""

    def lasting(self, seconds: float) -> Self:
        """Return the front end whose input covers `seconds`."""

    def of(self, sound: Floats) -> Floats:
        """Return float32 (frames, features) of a waveform (n,) of ±1.0, cut or padded as officially."""


Front: TypeAlias = FrontEnd | ReferenceFront


def features(samples: npt.NDArray[np.int16], front: Any) -> Floats:
    """Return features float32 (frames, features) of int16 samples (n,) by either kind of front end."""
    if isinstance(front, FrontEnd):
        return frontend.to_float(frontend.features(samples, front))
    found: Floats = front.of(samples.astype(np.float32) / 32768)
    return found
