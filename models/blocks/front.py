"""How a front end covers a clip of a given length within a number of frames."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

from models.frontend import FrontEnd


def covering(front: Any, seconds: float, max_frames: int) -> Any:
    """Return `front` with frames (and, where needed, a longer hop and window) that cover `seconds`.

    The hop grows in steps of `front.hop` until at most `max_frames` frames are left; the window and the
    FFT double with it, so that no sample is skipped. Clips shorter than a window give one frame. The front
    end of an official code keeps its hop.
    """
    if not isinstance(front, FrontEnd):
        return front.lasting(seconds)
    samples = round(seconds * front.sample_rate)
    hop, window, fft = front.hop, front.window, front.fft
    for factor in range(1, 2 + ceil(samples / (front.hop * max_frames))):
        hop = front.hop * factor
        while window < hop:
            window, fft = 2 * window, 2 * fft
        if _frames(samples, window, hop) <= max_frames:
            break
    return replace(front, hop=hop, window=window, fft=fft, frames=_frames(samples, window, hop))


def _frames(samples: int, window: int, hop: int) -> int:
    return max(1, 1 + (samples - window) // hop)
