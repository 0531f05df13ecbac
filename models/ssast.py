"""SSAST: a spectrogram transformer pretrained on masked patches (Gong et al. 2021, 2110.09784; BSD-3-Clause).

Input: Kaldi filterbank of 128 bands, normalised, float32 (batch, frames, bands); LITE and MICRO: log-mel in
dB. Output: logits (batch, classes) of the mean over all patches.

Published sizes have the strides of the pretraining; fine-tuning takes patches every 10 bands and frames, or
a frame patch every frame: `family.config("full", patches=Patches((16, 16), (10, 10)))`, and the positions
of a checkpoint are cut or interpolated. Counted is the encoder (base: 85,649,664) and the head of
fine-tuning. The official modules also keep timm's two heads of 1,000 classes, which nothing uses (tiny
386,000, small 770,000, base 1,538,000), the pretraining module the heads and the mask of `objective` and
two numbers (tiny 6,046,290, small 22,854,354, base 88,763,346 in all).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import keras
from keras import layers, ops

from models.blocks import normalise
from models.blocks.attention import Encoder, Layer, Positions, encoder_groups, transformer
from models.blocks.front import covering
from models.blocks.groups import Group
from models.blocks.masked_patches import AUDIO_AND_SPEECH, MaskedPatches, layout, masked_patches
from models.blocks.patches import Grid, Patches, Special, split_table, tokens
from models.blocks.timm import transformer_rules
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Front
from models.fronts.kaldi import Kaldi
from models.official import Layout, Rule
from models.train import Recipe

CARD = {
    "title": "SSAST: spectrogram transformer pretrained on masked patches or frames",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2110.09784",
    "licence": "BSD-3-Clause (official code); Apache-2.0 (this code)",
    "streaming": "window",
    "weights": {
        "where": "github.com/YuanGongND/ssast (Dropbox)",
        "licence": "BSD-3-Clause",
        "commercial": True,
    },
    "sizes": {
        "full": {
            "parameters": 86_056_463,
            "classes": 527,
            "note": "SSAST-Base-Patch: 12 layers of 768; encoder 85,649,664",
        },
        "small": {"parameters": 21_794_831, "classes": 527, "note": "SSAST-Small-Patch; encoder 21,591,168"},
        "tiny": {"parameters": 5_589_263, "classes": 527, "note": "SSAST-Tiny-Patch; encoder 5,487,168"},
        "base-frame": {
            "parameters": 86_056_463,
            "classes": 527,
            "note": "SSAST-Base-Frame: patches of 2 frames",
        },
        "tiny-frame": {
            "parameters": 5_589_263,
            "classes": 527,
            "note": "SSAST-Tiny-Frame: patches of 2 frames",
        },
        "lite": {
            "parameters": 4_060_426,
            "classes": 10,
            "note": "9 layers of 192, patches of 16 × 16; phone or Pi",
        },
        "micro": {
            "parameters": 152_778,
            "classes": 10,
            "note": "4 layers of 64, patches of 4 frames, Cortex-M7",
            "ram_bytes": 9_512,
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
    learned: Grid = (8, 64)  # patches of the official pretraining, which its table of positions has
    pretraining: MaskedPatches = field(default_factory=MaskedPatches)


FRAMES = Patches((128, 2), (128, 2))


def published(width: int, heads: int) -> Config:
    """Return the patch variant of a DeiT's width."""
    encoder = Encoder(width, 0, (Layer(heads, 64, 4 * width),) * 12, activation="gelu", norm="pre")
    return Config(AUDIO_AND_SPEECH, 10.24, 1024, Patches((16, 16), (16, 16)), encoder, special=2)


def by_frames(config: Config) -> Config:
    """Return the frame variant of `config`: patches of two whole frames, hidden one by one."""
    one_by_one = replace(config.pretraining, clusters=(1,))
    return replace(config, patches=FRAMES, learned=(1, 512), pretraining=one_by_one)


FULL = published(768, 12)
SMALL = published(384, 6)
TINY = published(192, 3)
LITE = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((16, 16), (16, 16)),
    encoder=Encoder(192, 0, (Layer(3, 64, 768),) * 9, norm="pre", dropout=0.1),
    pretraining=MaskedPatches(12, (1, 2)),
)
MICRO = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((64, 4), (64, 4)),
    encoder=Encoder(64, 0, (Layer(4, 16, 128),) * 4, norm="pre"),
    pretraining=MaskedPatches(12, (1,)),
)

SIZES = {
    "full": FULL,
    "small": SMALL,
    "tiny": TINY,
    "base-frame": by_frames(FULL),
    "tiny-frame": by_frames(TINY),
    "lite": LITE,
    "micro": MICRO,
}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
FINE_TUNING = Recipe(epochs=50, batch=48, learning_rate=1e-4, mixup=10.0, masks=2, widest=0.1)

RECIPES = {
    **dict.fromkeys(("full", "small", "tiny", "base-frame", "tiny-frame"), FINE_TUNING),
    "lite": Recipe(epochs=20, learning_rate=1e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=60, learning_rate=4e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def encoded(x: Any, config: Config) -> Any:
    """Return (batch, patches, width) of the tokens: special ones and positions added, all layers, and off."""
    if config.special:
        x = Special(config.special, name="special")(x)
    x = Positions(x.shape[1], 0, name="position")(x)
    x = transformer(layers.Dropout(config.encoder.dropout, name="embed_dropout")(x), config.encoder)
    return x[:, config.special :] if config.special else x


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) to (batch, classes) logits."""
    features, x = normalise.incoming(frontend(config))
    x = encoded(tokens(x, config.patches, config.encoder.width), config)
    x = layers.Identity(name="frames")(x)
    x = layers.Identity(name="embedding")(ops.mean(x, axis=1))
    x = normalise.LayerNorm(1e-5, name="head_norm")(x)
    return keras.Model(features, layers.Dense(classes, name="logits")(x), name="ssast")


def objective(config: Config, classes: int) -> keras.Model:
    """Return the pretraining: patches side by side, hidden, told apart and drawn (`classes` play no part)."""
    del classes
    features, x = normalise.incoming(frontend(config))
    apart = replace(config.patches, stride=config.patches.size)

    def trunk(shown: Any) -> Any:
        return encoded(shown, config)

    return masked_patches(features, x, apart, config.encoder.width, trunk, config.pretraining, "ssast")


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: heads and hidden units."""
    return encoder_groups(config.encoder, "encoder")


def official(config: Config) -> Layout:
    """Return where a pretrained or fine-tuned official file has the weights of net and objective."""
    front = frontend(config)
    grid = config.patches.grid(front.frames, front.features)
    special = Rule("special/token", ("v.cls_token", "v.dist_token"), lambda *parts: split_table(parts))
    return layout("YuanGongND/ssast", special, transformer_rules("v."), config.special, config.learned, grid)
