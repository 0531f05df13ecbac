"""Embeddings as the HEAR benchmark asks for them: one of a whole sound, or one every few milliseconds.

Turian et al. 2022, arXiv 2203.03022; windows and hops as in kkoutini/passt_hear21.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.fronts import Floats

Embed = Callable[[Floats], Floats]  # waveforms (n, samples) of one length -> (n, values)


def stamps(
    sound: Floats, rate: int, embed: Embed, window: int, hop: int
) -> tuple[Floats, NDArray[np.float64]]:
    """Return embeddings (n, values) of windows centred every `hop` samples, and their times (n,) in ms.

    Both ends of the waveform (samples,) are reflected by half a window.
    """
    padded = np.pad(sound, window // 2, "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop]
    return embed(windows), np.arange(len(windows), dtype=np.float64) * (1000 * hop / rate)


def scene(sound: Floats, rate: int, embed: Embed, longest: int, hop: int) -> Floats:
    """Return the embedding (values,) of a waveform; the mean over windows if beyond `longest`."""
    if len(sound) <= longest:
        return embed(sound[None])[0]
    found: Any = stamps(sound, rate, embed, longest, hop)[0].mean(axis=0)
    return np.asarray(found, np.float32)
