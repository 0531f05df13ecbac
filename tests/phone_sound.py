"""Sound for a browser's fake microphone, and the events that this machine hears in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.signal
import soundfile
import soxr

from kit import host_board, shelf
from kit.detect import USUAL, Detector

RATE, MICROPHONE = 16_000, 48_000  # Hz: of the models, and of the fake microphone's file
Samples = npt.NDArray[np.float64]


def made_sound() -> Samples:
    """Return 8 s in which the model hears a ticking clock and the sea, with a gap behind each."""
    rng = np.random.default_rng(0)
    n = 3 * RATE
    ticks = rng.normal(0, 0.5, n) * (np.arange(n) % 8000 < 60)
    swell = 1.2 + np.sin(2 * np.pi * 0.3 * np.arange(n) / RATE)
    sea = 0.3 * swell * scipy.signal.lfilter(*scipy.signal.butter(2, 0.1), rng.normal(0, 1, n))
    return np.concatenate([ticks, np.zeros(RATE), sea, np.zeros(RATE)])


def microphone(samples: Samples, path: Path) -> Path:
    """Write what the fake microphone plays over and over."""
    soundfile.write(
        path, np.clip(soxr.resample(samples, RATE, MICROPHONE), -1, 1), MICROPHONE, subtype="PCM_16"
    )
    return path


def host_hears(samples: Samples, model: str) -> list[str]:
    """Return the events of the same sound on this machine, without a browser and without resampling."""
    board = host_board.opened(shelf.find(model))
    detector = Detector(board.meant, USUAL)
    for result in board.stream([(np.clip(samples, -1, 1) * 32767).astype(np.int16)], board.meant.hop_frames):
        detector.step(result.sample, board.meant.probabilities(result.output))
    detector.finish(len(samples))
    return [event.label.replace("_", " ") for event in detector.events]
