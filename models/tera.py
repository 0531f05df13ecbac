"""TERA: a speech encoder that learns by repairing altered frames (Liu et al. 2021, arXiv 2007.06028).

Input: log-mel frames, float32 (batch, frames, bands); published sizes take 80 bands of zero mean and unit
variance over the clip (models/fronts/tera_mel.py), up to 1,500 frames. Output: logits (batch, classes) of
the mean over the encoded frames; the layer `frames` is the representation of every frame.

MICRO attends within chunks of 480 ms only, so that a stream of such hops runs each chunk once and remembers
its frames for the mean. The other sizes attend to the whole input, as the paper does: a window each hop.

The official code's parameters are counted without a classifier: base 21,327,360, medium 42,590,976, large
85,118,208, and 653,648 for the head that reconstructs, which `objective` adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from models.blocks import normalise
from models.blocks.alteration import Alter, Alteration
from models.blocks.attention import Encoder, Layer, encoder_groups, transformer
from models.blocks.front import covering
from models.blocks.groups import Group
from models.blocks.normalise import ACTIVATIONS, LayerNorm
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Front
from models.fronts.tera_mel import TeraMel
from models.official import Layout, Rule, dense, linear, norm
from models.train import Recipe

CARD = {
    "title": "TERA: transformer encoder representations from alteration",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2007.06028",
    "licence": "Apache-2.0 (official code and this code)",
    "streaming": "frame",
    "weights": {"where": "Hugging Face s3prl/tera", "licence": "Apache-2.0", "commercial": True},
    "sizes": {
        "full": {"parameters": 21_335_050, "classes": 10, "note": "base: 3 layers of 768, 16 kHz speech"},
        "medium": {"parameters": 42_598_666, "classes": 10, "note": "6 layers of 768"},
        "large": {"parameters": 85_125_898, "classes": 10, "note": "12 layers of 768"},
        "lite": {"parameters": 4_757_770, "classes": 10, "note": "6 layers of 256, phone or Pi"},
        "micro": {
            "parameters": 105_802,
            "classes": 10,
            "note": "3 layers of 64, Cortex-M4",
            "ram_bytes": 7_632,
        },
    },
}


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd | TeraMel
    seconds: float  # of sound in one input
    max_frames: int  # where the front end is ours, the hop grows until the input has no more
    normalised: bool  # the front end gives zero mean and unit variance; else the net does, over the data
    stack: int  # frames that share one position
    encoder: Encoder
    dropout: float = 0.0  # before the classifier
    chunk: int = 0  # positions that attend to one another, each chunk to itself; 0: all of the input


def published(depth: int) -> Config:
    """Return an official size of `depth` layers."""
    encoder = Encoder(768, 0, (Layer(12, 64, 3072),) * depth, activation="gelu", dropout=0.3, epsilon=1e-12)
    return Config(TeraMel(), seconds=10.0, max_frames=1500, normalised=True, stack=1, encoder=encoder)


def compact(width: int, depth: int, ffn: int, dropout: float, chunk: int) -> Config:
    """Return a size for devices: `depth` layers with 4 heads, two frames a position."""
    encoder = Encoder(width, 0, (Layer(4, width // 4, ffn),) * depth, attention_bias=False, dropout=dropout)
    return Config(FrontEnd(), 1.0, 64, False, stack=2, encoder=encoder, dropout=dropout, chunk=chunk)


FULL = published(3)
LITE = compact(256, 6, 1024, 0.1, chunk=0)
MICRO = compact(64, 3, 128, 0.0, chunk=12)

SIZES = {"full": FULL, "medium": published(6), "large": published(12), "lite": LITE, "micro": MICRO}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
RECIPES = {
    **dict.fromkeys(("full", "medium", "large"), Recipe(epochs=100, batch=32, learning_rate=2e-4)),
    "lite": Recipe(epochs=40, learning_rate=1e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=60, learning_rate=5e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def sinusoids(frames: int, width: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the fixed positions (1, frames, width): sine in the even columns, cosine in the odd ones."""
    column = np.arange(width)
    angle = np.arange(frames)[:, None] / 10_000 ** (2 * (column // 2) / width)
    return np.where(column % 2, np.cos(angle), np.sin(angle)).astype(np.float32)[None]


def trunk(config: Config) -> keras.Model:
    """Return features (batch, frames, bands) to encoded frames (batch, frames // stack, width).

    Of chunks, the oldest frames that fill none are left out.
    """
    front, encoder = frontend(config), config.encoder
    features = keras.Input((front.frames, front.features), name="features")
    x = features if config.normalised else normalise.bands(features, affine=False)
    x = layers.Conv1D(encoder.width, config.stack, strides=config.stack, name="embed")(x)
    count = x.shape[1] // config.chunk if config.chunk else 0
    if count:
        x = ops.reshape(x[:, -count * config.chunk :], (-1, config.chunk, encoder.width))
    x = LayerNorm(encoder.epsilon, name="embed_norm")(x + sinusoids(x.shape[1], encoder.width))
    x = transformer(layers.Dropout(encoder.dropout, name="embed_dropout")(x), encoder)
    if count:
        x = ops.reshape(x, (-1, count * config.chunk, encoder.width))
    return keras.Model(features, layers.Identity(name="frames")(x), name="tera")


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) to (batch, classes) logits."""
    encoded = trunk(config)
    embedding = layers.Identity(name="embedding")(ops.mean(encoded.output, axis=1))
    x = layers.Dropout(config.dropout, name="head_dropout")(embedding)
    return keras.Model(encoded.input, layers.Dense(classes, name="logits")(x), name="tera")


class Repair(keras.Model):
    """Altered frames to the frames as they were: L1 distance over the altered cells is the loss."""

    targets = None

    def __init__(self, config: Config, how: Alteration):
        super().__init__()
        front, width = frontend(config), config.encoder.width
        self.alter, self.trunk, self.stack = Alter(how), trunk(config), config.stack
        self.dense = layers.Dense(width, name="head_dense")
        self.activate = ACTIVATIONS[config.encoder.activation]
        self.norm = LayerNorm(config.encoder.epsilon, name="head_norm")
        self.out = layers.Dense(front.features * config.stack, name="head_output")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """Return the repaired frames (batch, frames, bands), all that the trunk encodes."""
        altered, mask = self.alter(x)
        hidden = self.activate(self.dense(self.trunk(altered, training=training)))
        end = x.shape[1] // self.stack * self.stack
        frames = hidden.shape[1] * self.stack
        repaired = ops.reshape(self.out(self.norm(hidden)), (-1, frames, x.shape[2]))
        wanted, cells = x[:, end - frames : end], mask[:, end - frames : end]
        wrong = ops.sum(cells * ops.abs(repaired - wanted))
        self.add_loss(wrong / ops.maximum(ops.sum(cells), 1.0))
        return repaired


def objective(config: Config, classes: int) -> keras.Model:
    """Return the pretraining, which needs no labels: fitted on features alone; `classes` is not used."""
    return Repair(config, Alteration())


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: heads and hidden units."""
    return encoder_groups(config.encoder, "encoder")


def official(config: Config) -> Layout:
    """Return where s3prl's file has each weight: {Transformer: …, SpecHead: …, Optimizer: …}."""
    layer = r"layer(\d+)_"
    there = "Transformer.encoder.layer.{1-}."

    inside = "Transformer.input_representations."
    rules = (
        Rule("embed/kernel", f"{inside}spec_transform.weight", lambda w: linear(w)[None]),
        Rule("embed/bias", f"{inside}spec_transform.bias"),
        *norm("embed_norm", f"{inside}LayerNorm"),
        *(
            rule
            for part in ("query", "key", "value")
            for rule in dense(layer + part, f"{there}attention.self.{part}")
        ),
        *dense(f"{layer}output", f"{there}attention.output.dense"),
        *norm(f"{layer}norm1", f"{there}attention.output.LayerNorm"),
        *dense(f"{layer}up", f"{there}intermediate.dense"),
        *dense(f"{layer}down", f"{there}output.dense"),
        *norm(f"{layer}norm2", f"{there}output.LayerNorm"),
    )
    elsewhere = (r"SpecHead\..*", r"Optimizer\..*", r"(Upstream_)?Config\..*", r"Settings\..*", "Global_step")
    return Layout("s3prl/s3prl", rules, ignored=elsewhere, own=("logits/.*",))
