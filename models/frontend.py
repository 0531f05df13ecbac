"""The front end: int16 samples to log-mel or MFCC features, one integer definition for host and board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FrontEnd:
    """What the features are. Every field travels in the bundle and into the firmware as a constant.

    Frames do not pad: frame i covers samples [i*hop, i*hop + window).
    """

    kind: Literal["logmel", "mfcc"] = "logmel"
    sample_rate: int = 16_000  # Hz
    window: int = 512  # samples, periodic Hann
    hop: int = 320  # samples
    fft: int = 512  # power of two, >= window
    bands: int = 40  # mel bands
    low_hz: float = 50.0
    high_hz: float = 7_600.0
    scale: Literal["slaney", "htk"] = "slaney"  # slaney: area-normalised triangles; htk: peak 1
    coefficients: int = 0  # MFCC: orthonormal DCT-II coefficients kept; 0 for logmel
    frames: int = 49  # frames in one input of the model

    @property
    def features(self) -> int:
        """Return the number of values a frame gives."""
        return self.coefficients if self.kind == "mfcc" else self.bands

    @property
    def samples(self) -> int:
        """Return the samples that one model input covers."""
        return self.window + (self.frames - 1) * self.hop
