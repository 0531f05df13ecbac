"""SSAMBA: a bidirectional Mamba pretrained on masked patches (Shams et al. 2024, 2405.11831; BSD-3-Clause).

Input: Kaldi filterbank of 128 bands, normalised, float32 (batch, frames, bands); LITE and MICRO: log-mel in
dB. Output: logits (batch, classes) of the mean over all patches.

As in the official code every mixer scans both ways, layers come in pairs of which the second sees the
sequence reversed, and the last normalisation is applied twice. Counted is the encoder (base: 96,698,112)
and the head of fine-tuning. The official module also keeps Vim's head of 1,000 classes, which nothing uses
(tiny 193,000, small 385,000, base 769,000), the pretraining module the heads and the mask of `objective`
and two numbers (tiny 7,288,298, small 26,224,106, base 99,042,794 in all).

MICRO looks at the past only and keeps one state from frame to frame, so `compile --hop` makes a stream of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
from keras import layers, ops

from models.blocks import normalise
from models.blocks.attention import Positions
from models.blocks.front import covering
from models.blocks.groups import Group
from models.blocks.masked_patches import AUDIO_AND_SPEECH, MaskedPatches, layout, masked_patches
from models.blocks.patches import Grid, Patches, Special, tokens
from models.blocks.ssm import Encoder, encode, encoder_groups, rules, uniform
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Front
from models.fronts.kaldi import Kaldi
from models.official import Layout, Rule
from models.train import Recipe

CARD = {
    "title": "SSAMBA: bidirectional selective state-space model pretrained on masked patches",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2405.11831",
    "licence": "BSD-3-Clause (official code); Apache-2.0 (this code)",
    "streaming": "frame",
    "weights": {
        "where": "huggingface.co/attentionisallyouneed369/ssamba",
        "licence": "BSD-3-Clause",
        "commercial": True,
    },
    "sizes": {
        "full": {
            "parameters": 97_104_911,
            "classes": 527,
            "note": "SSAMBA base: 24 layers of 768; encoder 96,698,112",
        },
        "small": {"parameters": 25_549_583, "classes": 527, "note": "SSAMBA small; encoder 25,345,920"},
        "tiny": {"parameters": 7_024_271, "classes": 527, "note": "SSAMBA tiny; encoder 6,922,176"},
        "lite": {
            "parameters": 2_118_090,
            "classes": 10,
            "note": "8 layers of 192 both ways, patches of 16 × 16",
        },
        "micro": {
            "parameters": 70_302,
            "classes": 10,
            "note": "one way, frame by frame; Cortex-M7",
            "ram_bytes": 36_080,
        },
    },
}


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd | Kaldi
    seconds: float  # of sound in one input
    max_frames: int  # the hop of a FrontEnd grows until the input has no more
    patches: Patches
    encoder: Encoder
    special: int = 0  # learned tokens before the patches, not in the mean
    positions: bool = True  # learned ones; a stream has none
    learned: Grid = (8, 64)  # patches of the official pretraining, which its table of positions has
    dropout: float = 0.0  # before the classifier
    pretraining: MaskedPatches = field(default_factory=MaskedPatches)


def published(width: int) -> Config:
    """Return the official size of a width."""
    encoder = Encoder(width, uniform(width, 24), "both", norms=2, drop_path=0.1)
    return Config(AUDIO_AND_SPEECH, 10.24, 1024, Patches((16, 16), (16, 16)), encoder, special=1)


FULL = published(768)
LITE = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((16, 16), (16, 16)),
    encoder=Encoder(192, uniform(192, 8, states=8), "both", "shared", drop_path=0.1),
    dropout=0.1,
    pretraining=MaskedPatches(12, (1, 2)),
)
MICRO = Config(
    FrontEnd(bands=40),
    seconds=1.0,
    max_frames=64,
    patches=Patches((40, 1), (40, 1)),
    encoder=Encoder(56, uniform(56, 3, states=4, rank=8), "forward", "shared"),
    positions=False,
    pretraining=MaskedPatches(24, (1,)),
)

SIZES = {"full": FULL, "small": published(384), "tiny": published(192), "lite": LITE, "micro": MICRO}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
FINE_TUNING = Recipe(epochs=50, batch=48, learning_rate=1e-4, masks=2, widest=0.1)

RECIPES = {
    **dict.fromkeys(("full", "small", "tiny"), FINE_TUNING),
    "lite": Recipe(epochs=20, learning_rate=1e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=20, learning_rate=5e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def encoded(x: Any, config: Config) -> Any:
    """Return (batch, patches, width) of the tokens: special ones and positions added, all layers, and off."""
    if config.special:
        x = Special(config.special, name="special")(x)
    if config.positions:
        x = Positions(x.shape[1], 0, name="position")(x)
    x = encode(x, config.encoder)
    return x[:, config.special :] if config.special else x


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) to (batch, classes) logits."""
    features, x = normalise.incoming(frontend(config))
    x = encoded(tokens(x, config.patches, config.encoder.width), config)
    x = layers.Identity(name="frames")(x)
    x = layers.Identity(name="embedding")(ops.mean(x, axis=1))
    x = normalise.LayerNorm(1e-5, name="head_norm")(x)
    x = layers.Dropout(config.dropout, name="head_dropout")(x)
    return keras.Model(features, layers.Dense(classes, name="logits")(x), name="ssamba")


def objective(config: Config, classes: int) -> keras.Model:
    """Return the pretraining, that of SSAST: patches hidden, told apart and drawn, without `classes`."""
    del classes
    features, x = normalise.incoming(frontend(config))

    def trunk(shown: Any) -> Any:
        return encoded(shown, config)

    width = config.encoder.width
    return masked_patches(features, x, config.patches, width, trunk, config.pretraining, "ssamba")


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: channels and states."""
    return encoder_groups(config.encoder, "encoder")


def official(config: Config) -> Layout:
    """Return where an official checkpoint, pretrained or fine-tuned, has the weights of net and objective."""
    front = frontend(config)
    grid = config.patches.grid(front.frames, front.features)
    special = Rule("special/token", "v.cls_token", lambda token: token[0])
    return layout("SiavashShams/ssamba", special, rules("v."), config.special, config.learned, grid)
