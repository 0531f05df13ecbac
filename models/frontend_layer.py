"""The front end as a Keras layer in float: waveforms to dB or MFCC inside a net, on any backend."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import ops

from models.frontend import FLOOR, FrontEnd, dct_matrix, mel_matrix


@keras.saving.register_keras_serializable(package="earkit")
class FrontEndLayer(keras.layers.Layer):
    """Waveforms (batch, samples), ±1.0 full scale, to features (batch, frames, fe.features), float32.

    The same definition as `models.frontend.features`, in float and differentiable; it has no weights.
    The layer is for training on waveforms and for reference: the board computes the integer form.
    """

    def __init__(self, fe: FrontEnd, **options: Any) -> None:
        super().__init__(**options)
        self.fe = fe
        n = np.arange(fe.window)
        self._hann = (0.5 - 0.5 * np.cos(2 * np.pi * n / fe.window)).astype(np.float32)
        self._mel = mel_matrix(fe).astype(np.float32)
        self._dct = dct_matrix(fe).T.astype(np.float32)

    def call(self, waveforms: Any) -> Any:
        """Return the features of every whole frame."""
        framed = ops.extract_sequences(waveforms, self.fe.window, self.fe.hop) * self._hann
        real, imaginary = ops.rfft(framed, fft_length=self.fe.fft)
        bands = ops.matmul(ops.square(real) + ops.square(imaginary), self._mel)
        decibels = ops.log(ops.maximum(bands, FLOOR)) * (10 / math.log(10))
        return ops.matmul(decibels, self._dct) if self.fe.kind == "mfcc" else decibels

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, frames, features)."""
        batch, samples = input_shape
        frames = None if samples is None else 1 + (samples - self.fe.window) // self.fe.hop
        return batch, frames, self.fe.features

    def get_config(self) -> dict[str, Any]:
        """Return what `from_config` needs."""
        return {**super().get_config(), "fe": asdict(self.fe)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> FrontEndLayer:
        """Return the layer that `get_config` describes."""
        return cls(FrontEnd(**config.pop("fe")), **config)
