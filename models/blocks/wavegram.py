"""The log-mel features of torchlibrosa inside a net on waveforms, for nets that hear both (Wavegram)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from keras import layers

from models.fronts.librosa_mel import LibrosaMel, log_mel


class LogMel(layers.Layer):
    """Waveforms (batch, samples, 1) to decibels (batch, frames, bands), as `front` computes them; no weights.

    The official code computes its features in the net too (Kong et al. 2020, arXiv 1912.10211, §3.4).
    """

    def __init__(self, front: LibrosaMel | dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.front = front if isinstance(front, LibrosaMel) else LibrosaMel(**front)

    def call(self, waveforms: Any) -> Any:
        """Return the features."""
        return log_mel(waveforms[:, :, 0], self.front)

    def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, frames, bands)."""
        return shape[0], self.front.frames, self.front.bands

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "front": asdict(self.front)}
