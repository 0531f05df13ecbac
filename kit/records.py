"""What a report is made of: a run, and what was heard during it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Detection:
    """A sound that was heard (or, in `truth`, that was there), in seconds."""

    label: str
    start: float
    end: float
    probability: float = 1.0

    def plain(self) -> dict[str, Any]:
        """Return it as JSON prints it."""
        numbers = {"start": self.start, "end": self.end, "probability": self.probability}
        return {"label": self.label, **{key: round(value, 3) for key, value in numbers.items()}}


@dataclass(frozen=True)
class Listening:
    """A recording that was streamed to the board, and what the board made of it."""

    source: str  # file or microphone
    rate: int  # Hz
    samples: npt.NDArray[np.int16]  # (n,)
    labels: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]  # (results, classes), evenly spread over the recording
    events: tuple[Detection, ...]
    truth: tuple[Detection, ...] = ()  # empty: not known
    dropped: int = 0  # frames lost on the way


@dataclass(frozen=True)
class Run:
    """What is known of one model on one board. Every part is optional; a missing one is said, not drawn.

    Attributes:
        name: how the page calls it.
        evaluation: the bundle's eval.json: `stages` [{name, what, accuracy 0…1, samples, parameters, macs}],
            `labels`, `confusion` (of int8 on the host), `data` {source, name, sha256, held_out, …}, `notes`.
        profile: the object of `profile --json`: origin, instructions or cycles, per_op [{name, op, macs,
            instructions}], ram_bytes, flash_bytes (a number or a mapping with `total`), accuracy {device,
            host_int8, host_float, full}, mismatches, samples; `board` if known.
        memory: {arena_bytes, lower_bound_bytes, steps: [[{tensor, offset, bytes}]]}, one step a node.
        confusion: {labels, counts} on the device; rows are the truth. Without it the host's is drawn.
        listening: a streamed recording.
        provenance: names and values as they shall be shown: data hash, seed, versions, build, toolchain …
    """

    name: str
    evaluation: Record | None = None
    profile: Record | None = None
    memory: Record | None = None
    confusion: Record | None = None
    listening: Listening | None = None
    provenance: Record | None = None
