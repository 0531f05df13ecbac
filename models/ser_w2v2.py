"""Speech emotion as three values, by wav2vec 2.0 (Wagner et al. 2022, arXiv 2203.07378).

Input of FULL: 16 kHz waveforms, float32 (batch, samples, 1), of zero mean and unit variance. Output: with
three classes the values arousal, dominance and valence, about 0 to 1; with another number, logits of a
classifier on the same trunk. The layer `embedding` is the mean over time of the last state, `frames`.

FULL is wav2vec2-large-robust with the lower 12 of its 24 layers and a head: 165,336,707 parameters, of which
1,024 are a mask embedding that only wav2vec's own pretraining needs and that is not built here. In training
the convolutional stem stays as it is (`objective`), and the loss is 1 - concordance.

LITE and MICRO hear log-mel with depthwise-separable convolutions that do not pad time: they stream, MICRO
with a mean over the window, LITE with attention in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
from keras import layers, ops

from boards.errors import UserError
from models import official as layouts
from models.blocks import ccc, normalise, wav2vec
from models.blocks.attention import Encoder, Layer
from models.blocks.conv import Block, stack, stack_groups
from models.blocks.front import covering
from models.blocks.groups import Group, Slice
from models.blocks.wav2vec import CONVS, Stem, Waves
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Front
from models.fronts.waveform import Waveform
from models.official import Layout
from models.train import Recipe

CARD = {
    "title": "Speech emotion by wav2vec 2.0: arousal, dominance, valence",
    "task": "regression",
    "paper": "https://arxiv.org/abs/2203.07378",
    "licence": "MIT (official code); Apache-2.0 (this code)",
    "streaming": "frame",
    "weights": {
        "where": "Hugging Face audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim",
        "licence": "CC BY-NC-SA 4.0",
        "commercial": False,
    },
    "sizes": {
        "full": {
            "parameters": 165_335_683,
            "classes": 3,
            "note": "12 layers of 1024; officially 165,336,707 with a mask embedding",
        },
        "lite": {"parameters": 791_875, "classes": 3, "note": "log-mel, attention over time, phone or Pi"},
        "micro": {
            "parameters": 61_475,
            "classes": 3,
            "note": "log-mel, streams, Cortex-M4",
            "ram_bytes": 18_176,
        },
    },
}


@dataclass(frozen=True)
class Cnn:
    """A body on log-mel: blocks over time and frequency, then the mean over frequency."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd | Waveform
    seconds: float  # of sound in one input
    max_frames: int  # where the front end is ours, the hop grows until the input has no more
    body: Waves | Cnn
    hidden: int  # units of the head
    activation: Literal["tanh", "relu"] = "relu"  # of those
    pooling: Literal["mean", "attention"] = "mean"  # over time
    dropout: float = 0.0  # before and behind the head's hidden units


FULL = Config(
    Waveform(16_000, 64_000),
    seconds=4.0,
    max_frames=16_000 * 30,
    body=Waves(
        Stem(CONVS, "each"),
        128,
        16,
        Encoder(1024, 0, (Layer(16, 64, 4096),) * 12, activation="gelu", norm="pre", epsilon=1e-5),
    ),
    hidden=1024,
    activation="tanh",
    dropout=0.1,
)

STREAM: Mapping[str, Any] = {"by": "stride", "time": "valid"}
LITE = Config(
    FrontEnd(hop=200),
    seconds=1.0,
    max_frames=128,
    body=Cnn(
        (
            Block("stem", (64,), (2, 2), **STREAM),
            Block("separable", (128,), (1, 2), **STREAM),
            Block("separable", (192,), **STREAM),
            Block("separable", (256,), (2, 2), **STREAM),
            Block("separable", (384,), **STREAM),
            Block("separable", (512,), (1, 2), (1, 3), **STREAM),
            Block("separable", (512,), **STREAM),
        )
    ),
    hidden=256,
    pooling="attention",
    dropout=0.2,
)
MICRO = Config(
    FrontEnd(hop=400),
    seconds=1.0,
    max_frames=128,
    body=Cnn(
        (
            Block("stem", (32,), (2, 2), **STREAM),
            Block("separable", (64,), (1, 2), **STREAM),
            Block("separable", (96,), **STREAM),
            Block("separable", (128,), (2, 2), **STREAM),
            Block("separable", (160,), **STREAM),
        )
    ),
    hidden=96,
)

SIZES = {"full": FULL, "lite": LITE, "micro": MICRO}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
RECIPES = {
    "full": Recipe(epochs=10, batch=32, learning_rate=1e-4),
    "lite": Recipe(epochs=12, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=20, learning_rate=5e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def waves(x: Any, body: Waves) -> Any:
    """Return the last state (batch, frames, width) of a waveform."""
    projected = wav2vec.project(wav2vec.stem(x, body.stem), body.encoder)
    return wav2vec.hidden_states(projected, body)[-1]


def cnn(x: Any, body: Cnn) -> Any:
    """Return (batch, frames, channels) of log-mel frames."""
    x = layers.Reshape((*x.shape[1:], 1), name="image")(x)
    return ops.mean(stack(x, body.blocks), axis=2)


BODIES: Mapping[type, Callable[[Any, Any], Any]] = {Waves: waves, Cnn: cnn}


def mean(frames: Any) -> Any:
    """Return the mean over time."""
    return ops.mean(frames, axis=1)


def attention(frames: Any) -> Any:
    """Return the mean over time of normalised frames, weighted by a softmax of one learned score a frame."""
    frames = normalise.LayerNorm(name="attention_norm")(frames)
    scores = layers.Dense(1, use_bias=False, name="attention_score")(frames)
    weights = ops.softmax(layers.Reshape((1, frames.shape[1]), name="attention_row")(scores), axis=-1)
    found = ops.matmul(weights, frames)
    return layers.Reshape((frames.shape[-1],), name="attention_mean")(found)


POOLINGS = {"mean": mean, "attention": attention}


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, samples, 1), or (batch, frames, bands) in dB, to (batch, classes)."""
    features, x = normalise.incoming(frontend(config))
    frames = layers.Identity(name="frames")(BODIES[type(config.body)](x, config.body))
    x = layers.Identity(name="embedding")(POOLINGS[config.pooling](frames))
    x = layers.Dropout(config.dropout, name="embedding_dropout")(x)
    x = layers.Dense(config.hidden, activation=config.activation, name="dense")(x)
    x = layers.Dropout(config.dropout, name="dense_dropout")(x)
    return keras.Model(features, layers.Dense(classes, name="logits")(x), name="ser_w2v2")


class Concordance(keras.Model):
    """The training: features and values (batch, targets); 1 - concordance within the batch is the loss.

    The layers whose names begin with `stem` are not trained.
    """

    def __init__(self, net: keras.Model):
        super().__init__()
        self.net = net
        self.targets = net.output_shape[1:]
        for layer in net.layers:
            if layer.name.startswith("stem"):
                layer.trainable = False

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the values."""
        return self.net(x, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, **kwargs: Any
    ) -> Any:
        """Return 1 - concordance, the mean over the targets."""
        return ccc.loss(y, y_pred)


def objective(config: Config, classes: int) -> keras.Model:
    """Return the training of `classes` values."""
    return Concordance(net(config, classes))


def waves_groups(body: Waves, readers: tuple[Slice, ...]) -> tuple[Group, ...]:
    """Return channels of the stem, heads and hidden units; none of them is read by the head."""
    return wav2vec.groups(body, "body")


def cnn_groups(body: Cnn, readers: tuple[Slice, ...]) -> tuple[Group, ...]:
    """Return the channels of all blocks."""
    return stack_groups(body.blocks, readers, "body.blocks")


GROUPS: Mapping[type, Callable[[Any, tuple[Slice, ...]], tuple[Group, ...]]] = {
    Waves: waves_groups,
    Cnn: cnn_groups,
}
READERS = {
    "mean": (),
    "attention": tuple(Slice(f"attention_{part}", 0) for part in ("score/kernel", "norm/gamma", "norm/beta")),
}


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove."""
    readers = (*READERS[config.pooling], Slice("dense/kernel", 0))
    out = Slice("logits/kernel", 0)
    own = (Slice("dense/kernel", 1), Slice("dense/bias", 0), out)
    head = Group("hidden", config.hidden, own, (out,), "taylor", min(8, config.hidden))
    return (*GROUPS[type(config.body)](config.body, readers), head)


def official(config: Config) -> Layout:
    """Return where audeering's file has each weight.

    Raises:
        UserError: the net is ours.
    """
    if not isinstance(config.body, Waves):
        raise UserError("ser_w2v2 lite and micro are ours and have no official file: choose full")
    return Layout(
        "audeering/w2v2-how-to",
        (
            *wav2vec.rules(config.body, "wav2vec2."),
            *layouts.dense("dense", "classifier.dense"),
            *layouts.dense("logits", "classifier.out_proj"),
        ),
        prefixes=("module.",),
        ignored=(r"wav2vec2\.masked_spec_embed",),  # of the pretraining
        optional=(r"(dense|logits)/.*",),
        renamed=wav2vec.RENAMED,
    )
