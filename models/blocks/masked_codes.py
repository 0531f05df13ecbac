"""MERT's training without labels: masked frames tell a codec's codes and their constant-Q spectrum.

Li et al. 2023, arXiv 2306.00107. Frames are hidden in stretches; at hidden frames each codebook's entry is
told apart by cosine similarity with learned entries, and the spectrum by its squared error. Some clips are
heard with excerpts of others mixed in.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import keras
from keras import layers, ops


@dataclass(frozen=True)
class Teaching:
    """What is hidden, what is told, and the weight of each loss; the defaults are those of MERT-v1-95M."""

    codebooks: int = 8
    entries: int = 1024  # of each codebook
    width: int = 64  # of what is compared with an entry
    temperature: float = 0.1
    bins: int = 336  # of the spectrum
    masked: float = 0.8  # share of the frames in stretches, before overlaps
    stretch: int = 5  # frames
    mixed: float = 0.5  # of the clips have others mixed in
    excerpts: int = 3  # of other clips, at most
    excerpt: tuple[float, float] = (0.5, 1.0)  # seconds, shortest and longest
    spectrum: float = 1.0  # weight of the squared error
    penalty: float = 10.0  # weight of the mean square of what the stem makes


class Hide(layers.Layer):
    """(batch, frames, width) with stretches replaced by a learned row, and the mask (batch, frames), 0 or 1.

    `masked`·frames/`stretch` starts are drawn without repetition, at least two; stretches may overlap.
    """

    def __init__(self, masked: float, stretch: int, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.masked, self.stretch = masked, stretch
        self.draws = keras.random.SeedGenerator(seed)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the row."""
        self.row = self.add_weight(shape=(shape[-1],), initializer="random_uniform", name="row")

    def call(self, x: Any) -> tuple[Any, Any]:
        """Return the frames and the mask."""
        count, frames = ops.shape(x)[0], x.shape[1]
        stretch = min(self.stretch, frames - 1)
        places = frames - stretch + 1
        several = min(places, max(2, round(self.masked * frames / stretch)))
        starts = ops.top_k(keras.random.uniform((count, places), seed=self.draws), several)[1]
        since = ops.arange(frames)[None, None] - starts[..., None]
        inside = ops.any(ops.logical_and(since >= 0, since < stretch), axis=1)
        mask = ops.cast(inside, x.dtype)
        return x * (1 - mask[..., None]) + self.row * mask[..., None], mask

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "masked": self.masked, "stretch": self.stretch}


class Mix(layers.Layer):
    """Adds excerpts of other clips of the batch to some clips: waveforms, or powers in dB.

    Args:
        how: how many, how often.
        rate: rows of the input in a second.
        unit: linear: values add; decibels: powers do.
    """

    def __init__(
        self, how: Teaching, rate: float, unit: Literal["linear", "decibels"], seed: int = 0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.how, self.rate, self.unit = how, rate, unit
        self.draws = keras.random.SeedGenerator(seed)

    def call(self, x: Any) -> Any:
        """Return `x` (batch, rows, features), mixed."""
        taken = self._uniform(ops.shape(x)[0]) < self.how.mixed
        several = 1 + ops.floor(self._uniform(ops.shape(x)[0]) * self.how.excerpts)
        for number in range(self.how.excerpts):
            x = self._mixed(x, ops.logical_and(taken, several > number))
        return x

    def _mixed(self, x: Any, chosen: Any) -> Any:
        """Return `x` with an excerpt of another clip in each of the `chosen` clips."""
        count, rows = ops.shape(x)[0], x.shape[1]
        shortest, longest = (min(rows, max(1, round(s * self.rate))) for s in self.how.excerpt)
        length = shortest + ops.floor(self._uniform(count) * (longest - shortest + 1))
        place, start = (ops.floor(self._uniform(count) * (rows - length + 1)) for _ in range(2))
        apart = 1 + ops.floor(self._uniform(count) * ops.cast(count - 1, "float32"))
        others = ops.cast(apart, "int32") + ops.arange(count)
        chosen = ops.logical_and(chosen, count > 1)
        row = ops.arange(rows, dtype="float32")[None]
        source = ops.cast(ops.clip(row + (start - place)[:, None], 0, rows - 1), "int32")
        heard = ops.take_along_axis(ops.take(x, others % count, axis=0), source[..., None], axis=1)
        inside = ops.logical_and(row >= place[:, None], row < (place + length)[:, None])
        inside = ops.logical_and(inside, chosen[:, None])[..., None]
        return ops.where(inside, self._sum(x, heard), x)

    def _sum(self, a: Any, b: Any) -> Any:
        if self.unit == "linear":
            return a + b
        return ops.maximum(a, b) + 10 * ops.log10(1 + 10 ** (-ops.abs(a - b) / 10))

    def _uniform(self, count: Any) -> Any:
        return keras.random.uniform((count,), seed=self.draws)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "how": asdict(self.how), "rate": self.rate, "unit": self.unit}


class Codes(layers.Layer):
    """Scores (batch, frames, codebooks, entries): cosines of projected frames with learned entries."""

    def __init__(self, how: Teaching, **kwargs: Any):
        super().__init__(**kwargs)
        self.how = how
        self.project = layers.Dense(how.codebooks * how.width, name="code_project")

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the entries."""
        how = self.how
        self.project.build(shape)
        start = keras.initializers.RandomUniform(0.0, 1.0)
        self.entries = self.add_weight(
            shape=(how.codebooks, how.entries, how.width), initializer=start, name="entries"
        )

    def call(self, x: Any) -> Any:
        """Return the scores, divided by the temperature."""
        how = self.how
        told = ops.reshape(self.project(x), (-1, x.shape[1], how.codebooks, how.width))
        told, entries = ops.normalize(told, axis=-1), ops.normalize(self.entries, axis=-1)
        return ops.einsum("btcw,cew->btce", told, entries) / how.temperature

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "how": asdict(self.how)}


class MaskedCodes(keras.Model):
    """The training: fitted on features and on targets (batch, frames, codebooks + bins) of the teachers.

    The first `codebooks` targets of a frame are codes, which are rounded and clipped to the entries there
    are; the others are its spectrum. Frames that the encoder does not give back are not told.

    Args:
        embed: features to (what the stem makes, frames in the encoder's width).
        encode: frames to the last state, perhaps of fewer frames, the last ones.
        mix: mixes the features.
        how: the losses.
    """

    def __init__(self, embed: keras.Model, encode: keras.Model, mix: Mix, how: Teaching):
        super().__init__()
        self.embed, self.encode, self.mix, self.how = embed, encode, mix, how
        self.hide = Hide(how.masked, how.stretch, name="hide")
        self.codes = Codes(how, name="codes")
        self.spectrum = layers.Dense(how.bins, name="spectrum")
        self.targets = (encode.input_shape[1], how.codebooks + how.bins)

    def call(self, x: Any, training: bool | None = None) -> dict[str, Any]:
        """Return the scores of codes, the spectrum, the mask of the frames told, the stem's mean square."""
        raw, frames = self.embed(self.mix(x), training=training)
        frames, mask = self.hide(frames)
        told = self.encode(frames, training=training)
        left = told.shape[1]
        return {
            "codes": self.codes(told),
            "spectrum": self.spectrum(told),
            "mask": mask[:, -left:],
            "square": ops.mean(ops.square(raw)),
        }

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **kwargs: Any
    ) -> Any:
        """Return cross-entropy over the codebooks, plus the spectrum's error, both over masked frames."""
        how, mask = self.how, y_pred["mask"]
        wanted = ops.cast(y, "float32")[:, -mask.shape[1] :]
        count = ops.maximum(ops.sum(mask), 1.0)
        codes = ops.clip(ops.round(wanted[..., : how.codebooks]), 0, how.entries - 1)
        crossed = keras.losses.sparse_categorical_crossentropy(
            ops.cast(codes, "int32"), y_pred["codes"], from_logits=True
        )
        apart = ops.mean(ops.square(y_pred["spectrum"] - wanted[..., how.codebooks :]), axis=-1)
        told = ops.sum(mask * (ops.sum(crossed, axis=-1) + how.spectrum * apart)) / count
        return told + how.penalty * y_pred["square"]
