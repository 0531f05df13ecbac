"""Tiny transformer for environmental sounds (Elliott et al. 2021, arXiv 2103.12157; paper CC BY 4.0).

Input: mel-spectrogram frames in dB (BASELINE: MFCC), float32 (batch, frames, features). Output: logits
(batch, classes).

The paper says "just over 6,000 parameters", 99.85 % fewer than its MFCC-CNN, and gives no code. FULL is the
BERT encoder that fits: 40 mel bands, width 16, 2 layers, 2 heads, 32 hidden units, 64 positions, one
segment row: 6,176 parameters without, 6,278 with a head of 6 classes (trainable ones; the statistics of the
input are not counted). BASELINE is a CNN on MFCC of about 4 million.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from models.blocks import normalise
from models.blocks.attention import Encoder, Layer, encode, encoder_groups
from models.blocks.conv import Block, stack, stack_groups
from models.blocks.front import covering
from models.blocks.groups import Group, Slice
from models.colour import Colour
from models.frontend import FrontEnd
from models.train import Recipe

CARD = {
    "title": "Tiny transformer: a BERT encoder of 6 k parameters for sounds",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2103.12157",
    "licence": "CC BY 4.0 (paper; no official code); Apache-2.0 (this code)",
    "streaming": "window",
    "weights": None,
    "sizes": {
        "full": {
            "parameters": 6_278,
            "classes": 6,
            "note": "the paper's size; exact depth and width are not public",
        },
        "lite": {"parameters": 137_162, "classes": 10, "note": "width 64, 4 layers; teacher"},
        "micro": {
            "parameters": 6_426,
            "classes": 10,
            "note": "int8 to the last operation, Cortex-M0+ and up",
            "ram_bytes": 6_736,
        },
        "baseline": {
            "parameters": 4_036_330,
            "classes": 10,
            "note": "the MFCC-CNN it is compared with (1 s)",
        },
    },
}


@dataclass(frozen=True)
class Cnn:
    """A convolutional body: blocks, then one hidden layer over everything that is left."""

    blocks: tuple[Block, ...]
    hidden: int


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd
    seconds: float  # of sound in one input
    max_frames: int  # the hop grows until the input has no more
    body: Encoder | Cnn
    dropout: float = 0.0  # before the classifier


FULL = Config(
    FrontEnd(),
    seconds=1.0,
    max_frames=64,
    body=Encoder(16, 64, (Layer(2, 8, 32),) * 2, segments=1, activation="gelu", dropout=0.1),
)
LITE = Config(
    FrontEnd(),
    seconds=1.0,
    max_frames=64,
    body=Encoder(64, 0, (Layer(4, 16, 128),) * 4, context=9, attention_bias=False, dropout=0.1),
    dropout=0.1,
)
MICRO = Config(
    FrontEnd(),
    seconds=1.0,
    max_frames=64,
    body=Encoder(16, 0, (Layer(2, 8, 48),) * 2, context=9, attention_bias=False),
)
BASELINE = Config(
    FrontEnd(kind="mfcc", coefficients=40),
    seconds=1.0,
    max_frames=64,
    body=Cnn(tuple(Block("single", (width,), (2, 2)) for width in (32, 64, 128)), hidden=1024),
    dropout=0.5,
)

SIZES = {"full": FULL, "lite": LITE, "micro": MICRO, "baseline": BASELINE}

# ESC-10, four folds, float: windows of 1 s do better than 5 s, and neither LITE nor BASELINE taught MICRO
# anything. COLOUR is worth about 6 points there and costs about 5 on the synthetic set.
COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)

RECIPES = {
    "full": Recipe(epochs=100, learning_rate=1e-2, colour=COLOUR, seconds=1.0, teacher="none"),
    "lite": Recipe(epochs=40, learning_rate=3e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=100, learning_rate=1e-2, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
    "baseline": Recipe(epochs=12, learning_rate=1e-3, seconds=1.0),
}


def frontend(config: Config) -> FrontEnd:
    """Return the front end whose features the net takes: at most as many frames as positions."""
    return covering(config.front, config.seconds, config.max_frames)


def encoder(x: Any, body: Encoder) -> Any:
    """Return the mean over time of the encoded frames."""
    return ops.mean(encode(x, body), axis=1)


def cnn(x: Any, body: Cnn) -> Any:
    """Return the hidden layer behind all blocks."""
    x = layers.Reshape((*x.shape[1:], 1), name="image")(x)
    x = layers.Flatten(name="flat")(stack(x, body.blocks))
    return layers.Dense(body.hidden, activation="relu", name="fc1")(x)


BODIES: Mapping[type, Callable[[Any, Any], Any]] = {Encoder: encoder, Cnn: cnn}


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, features) to (batch, classes) logits."""
    front = frontend(config)
    features = keras.Input((front.frames, front.features), name="features")
    x = normalise.bands(features, affine=False)
    embedding = layers.Identity(name="embedding")(BODIES[type(config.body)](x, config.body))
    x = layers.Dropout(config.dropout, name="head_dropout")(embedding)
    return keras.Model(features, layers.Dense(classes, name="logits")(x), name="tiny_transformer")


def encoder_body_groups(body: Encoder) -> tuple[Group, ...]:
    """Return the heads and hidden units of an encoder."""
    return encoder_groups(body, "body")


def cnn_body_groups(body: Cnn) -> tuple[Group, ...]:
    """Return the channels and hidden units of a CNN; a channel owns its places of the flattened layer."""
    out = Slice("logits/kernel", 0)
    own = (Slice("fc1/kernel", 1), Slice("fc1/bias", 0), out)
    hidden = Group("body.hidden", body.hidden, own, (out,), "taylor", min(8, body.hidden))
    return (*stack_groups(body.blocks, (Slice("fc1/kernel", 0),), "body.blocks"), hidden)


GROUPS: Mapping[type, Callable[[Any], tuple[Group, ...]]] = {
    Encoder: encoder_body_groups,
    Cnn: cnn_body_groups,
}


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove."""
    return GROUPS[type(config.body)](config.body)
