"""MERT: a music encoder taught by the codes of a codec and by the constant-Q transform (arXiv 2306.00107).

Input of the published sizes: 24 kHz waveforms, float32 (batch, samples, 1), of zero mean and unit variance
as the published extractor gives them (the stem's first norm undoes level and mean anyway); 75 frames a
second. Output: logits (batch, classes) of the layers' states, averaged over time and summed with learned
weights, as the authors probe them. The layer `frames` is the last state; every state is the input of the
layer `mean0` … . The official attention_relax only shifts scores before a softmax and changes no result.

Counts: the official code has 94,371,712 and 315,428,992 parameters, of which 768 and 1,024 are the mask
embedding, which is in `objective` here. Ours add a weight for each state and the classifier.

LITE and MICRO hear log-mel, two frames a position (25 a second). MICRO attends to the last positions only:
it streams.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from boards.errors import UserError
from models.blocks import cqt, normalise, rvq, wav2vec
from models.blocks.attention import Encoder, Layer, encoder_groups
from models.blocks.front import covering
from models.blocks.groups import Group
from models.blocks.local_attention import local_encode, local_groups, pooled
from models.blocks.masked_codes import MaskedCodes, Mix, Teaching
from models.blocks.normalise import LayerNorm
from models.blocks.wav2vec import CONVS, Stem, Waves
from models.colour import Colour
from models.frontend import FrontEnd, to_float
from models.frontend import features as log_mel
from models.fronts import Front
from models.fronts.waveform import Waveform
from models.official import Layout
from models.train import Recipe

CARD = {
    "title": "MERT: music representations from masked codes and constant-Q spectra",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2306.00107",
    "licence": "Apache-2.0 (official code and this code)",
    "streaming": "frame",
    "weights": {
        "where": "Hugging Face m-a-p/MERT-v1-95M, m-a-p/MERT-v1-330M",
        "licence": "CC BY-NC 4.0",
        "commercial": False,
    },
    "sizes": {
        "full": {
            "parameters": 94_378_647,
            "classes": 10,
            "note": "95M; officially 94,371,712 with a mask embedding, without classifier",
        },
        "330m": {
            "parameters": 315_438_243,
            "classes": 10,
            "note": "330M; officially 315,428,992 with a mask embedding, without classifier",
        },
        "lite": {"parameters": 1_812_682, "classes": 10, "note": "log-mel, 4 layers of 192, phone or Pi"},
        "micro": {
            "parameters": 111_110,
            "classes": 10,
            "note": "log-mel, local attention, streams, Cortex-M7",
            "ram_bytes": 7_152,
        },
    },
}


@dataclass(frozen=True)
class Student:
    """A body on log-mel: a convolution of `taps` frames makes a row of every `stride`, then the encoder.

    `reach` is how many rows a row attends to, itself and those before it; 0: all of the input.
    """

    taps: int
    stride: int
    encoder: Encoder
    reach: int = 0


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd | Waveform
    seconds: float  # of sound in one input
    max_frames: int  # where the front end is ours, the hop grows until the input has no more
    body: Waves | Student
    probe: Literal["weighted", "last"]  # the embedding: all states, weighted, or the last one; mean over time
    teaching: Teaching
    dropout: float = 0.0  # before the classifier


def published(encoder: Encoder, teaching: Teaching) -> Config:
    """Return an official size."""
    body = Waves(Stem(CONVS, "first"), 128, 16, encoder)
    return Config(Waveform(24_000, 120_000), 5.0, 24_000 * 30, body, "weighted", teaching)


def compact(width: int, depth: int, ffn: int, context: int = 0, dropout: float = 0.0) -> Encoder:
    """Return an encoder for devices: `depth` pre-norm layers with 4 heads."""
    stack = (Layer(4, width // 4, ffn),) * depth
    return Encoder(width, 0, stack, 0, context, "sigmoid_gelu", False, dropout, norm="pre")


FULL = published(
    Encoder(768, 0, (Layer(12, 64, 3072),) * 12, activation="gelu", dropout=0.1, epsilon=1e-5), Teaching()
)
LARGE = published(
    Encoder(1024, 0, (Layer(16, 64, 4096),) * 24, activation="gelu", norm="pre", epsilon=1e-5),
    Teaching(width=128, excerpt=(0.5, 1.5)),
)
LITE = Config(
    FrontEnd(),
    seconds=1.0,
    max_frames=64,
    body=Student(
        4,
        2,
        Encoder(192, 0, (Layer(4, 48, 768),) * 4, context=9, attention_bias=False, dropout=0.1, norm="pre"),
    ),
    probe="last",
    teaching=Teaching(),
    dropout=0.1,
)
MICRO = Config(
    FrontEnd(),
    seconds=1.0,
    max_frames=64,
    body=Student(4, 2, compact(64, 3, 128), reach=5),
    probe="last",
    teaching=Teaching(codebooks=4, entries=256),
)

SIZES = {"full": FULL, "330m": LARGE, "lite": LITE, "micro": MICRO}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
RECIPES = {
    **dict.fromkeys(("full", "330m"), Recipe(epochs=50, batch=16, learning_rate=1e-4)),
    "lite": Recipe(epochs=30, learning_rate=2e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=60, learning_rate=5e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def embed_waves(x: Any, body: Waves) -> tuple[Any, Any]:
    """Return what the stem makes of a waveform, and its frames in the encoder's width."""
    raw = wav2vec.stem(x, body.stem)
    return raw, wav2vec.project(raw, body.encoder)


def embed_frames(x: Any, body: Student) -> tuple[Any, Any]:
    """Return the rows that the convolution makes of log-mel frames, and those rows of one level."""
    raw = layers.Conv1D(body.encoder.width, body.taps, body.stride, name="embed")(x)
    return raw, LayerNorm(body.encoder.epsilon, name="embed_norm")(raw)


def student_states(x: Any, body: Student) -> list[Any]:
    """Return the states of the rows: the encoder's input and each layer's output."""
    encoder = body.encoder
    if body.reach:
        return local_encode(x, encoder, body.reach)
    context = layers.DepthwiseConv1D(encoder.context, padding="same", name="embed_context")(x)
    x = layers.Dropout(encoder.dropout, name="embed_dropout")(x + context)
    return wav2vec.states(x, encoder)


EMBED: Mapping[type, Callable[[Any, Any], tuple[Any, Any]]] = {Waves: embed_waves, Student: embed_frames}
EMBED_ROWS: Mapping[type, Callable[[int, Any], int]] = {
    Waves: lambda samples, body: wav2vec.frames(samples, body.stem),
    Student: lambda frames, body: (frames - body.taps) // body.stride + 1,
}
STATES: Mapping[type, Callable[[Any, Any], list[Any]]] = {
    Waves: wav2vec.hidden_states,
    Student: student_states,
}


class StateSum(layers.Layer):
    """The sum of n vectors (batch, width), each with a learned weight, 1/n at first."""

    def build(self, shapes: list[tuple[int | None, ...]]) -> None:
        """Create the weights."""
        start = keras.initializers.Constant(1 / len(shapes))
        self.weight = self.add_weight(shape=(len(shapes),), initializer=start, name="weight")

    def call(self, vectors: list[Any]) -> Any:
        """Return the sum."""
        return sum(self.weight[i] * vector for i, vector in enumerate(vectors))


def weighted(states: list[Any]) -> Any:
    """Return the weighted sum of all states, each averaged over time."""
    return StateSum(name="probe")([ops.mean(state, axis=1) for state in states])


def last(states: list[Any]) -> Any:
    """Return the mean over time of the last state."""
    return pooled(states[-1])


PROBES = {"weighted": weighted, "last": last}


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, samples, 1), or (batch, frames, bands) in dB, to (batch, classes) logits."""
    features, x = normalise.incoming(frontend(config))
    _, x = EMBED[type(config.body)](x, config.body)
    states = STATES[type(config.body)](x, config.body)
    named = [layers.Identity(name=f"state{number}")(state) for number, state in enumerate(states[:-1])]
    states = [*named, layers.Identity(name="frames")(states[-1])]
    embedding = layers.Identity(name="embedding")(PROBES[config.probe](states))
    x = layers.Dropout(config.dropout, name="head_dropout")(embedding)
    return keras.Model(features, layers.Dense(classes, name="logits")(x), name="mert")


def objective(config: Config, classes: int) -> keras.Model:
    """Return the pretraining; `teach` gives its targets from sound alone, `classes` is not used."""
    front = frontend(config)
    features, x = normalise.incoming(front)
    raw, frames = EMBED[type(config.body)](x, config.body)
    entry = keras.Input(frames.shape[1:], name="frames_in")
    states = STATES[type(config.body)](entry, config.body)
    unit: Literal["linear", "decibels"] = "decibels" if isinstance(front, FrontEnd) else "linear"
    mix = Mix(config.teaching, front.frames * front.sample_rate / front.samples, unit, name="mix")
    embed = keras.Model(features, [raw, frames], name="embed")
    return MaskedCodes(embed, keras.Model(entry, states[-1], name="encode"), mix, config.teaching)


def teach(
    config: Config, sounds: NDArray[np.int16], codes: NDArray[np.integer[Any]] | None = None, seed: int = 0
) -> NDArray[np.float32]:
    """Return the targets of `objective` (N, rows, codebooks + bins) for sounds (N, samples).

    Args:
        config: of the net.
        sounds: at the rate and of the length of the net's front end.
        codes: (N, rows, codebooks) of a codec such as EnCodec; None: of residual codebooks fitted to log-mel
            frames of these very sounds.
        seed: of that fit.
    """
    how, hop = config.teaching, row_hop(config)
    front = frontend(config)
    bins = cqt.Cqt(front.sample_rate, hop, bins=how.bins, octave=how.bins // 7)
    rows = EMBED_ROWS[type(config.body)](front.frames, config.body)
    spectra = np.stack([cqt.magnitudes(sound / np.float32(32768), bins)[:rows] for sound in sounds])
    if codes is None:
        mel = FrontEnd(sample_rate=front.sample_rate, window=1024, fft=1024, hop=hop, bands=64)
        padded = np.pad(sounds, ((0, 0), (0, mel.window)))
        frames = np.stack([to_float(log_mel(sound, mel))[:rows] for sound in padded])
        flat = frames.reshape(-1, mel.bands)
        entries = min(how.entries, len(flat))
        books = rvq.fit(flat, how.codebooks, entries, np.random.default_rng(seed))
        codes = rvq.encode(flat, books).reshape(len(sounds), rows, how.codebooks)
    return np.concatenate([codes, spectra], axis=2).astype(np.float32)


def row_hop(config: Config) -> int:
    """Return the samples from one row of the encoder to the next."""
    body, front = config.body, frontend(config)
    if isinstance(body, Waves):
        return prod(conv.stride for conv in body.stem.convs)
    return body.stride * front.hop if isinstance(front, FrontEnd) else body.stride


def waves_groups(body: Waves) -> tuple[Group, ...]:
    """Return channels of the stem, heads and hidden units."""
    return wav2vec.groups(body, "body")


def student_groups(body: Student) -> tuple[Group, ...]:
    """Return heads and hidden units."""
    return (local_groups if body.reach else encoder_groups)(body.encoder, "body.encoder")


GROUPS: Mapping[type, Callable[[Any], tuple[Group, ...]]] = {Waves: waves_groups, Student: student_groups}


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove."""
    return GROUPS[type(config.body)](config.body)


def official(config: Config) -> Layout:
    """Return where a Hugging Face file of a published size has each weight.

    Raises:
        UserError: the net is ours.
    """
    if not isinstance(config.body, Waves):
        raise UserError("mert lite and micro are ours and have no official file: choose full or 330m")
    return Layout(
        "yizhilll/MERT",
        wav2vec.rules(config.body),
        prefixes=("module.", "hubert."),
        ignored=("masked_spec_embed", r"final_proj\..*", "label_embeddings_concat"),  # pretraining's own
        own=("probe/weight", "logits/.*"),
        renamed=wav2vec.RENAMED,
    )
