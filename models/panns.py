"""PANNs: convolutional networks for audio tagging (Kong et al. 2020, arXiv 1912.10211; code: MIT).

Input: log-mel features in dB, float32 (batch, frames, bands). Output: logits (batch, classes); the paper
applies a sigmoid and tags 527 AudioSet classes, a softmax serves one class a clip.

FULL is Cnn14 with 80,753,615 parameters by the official count: trainable ones, BatchNorm's scale and shift
included, its running statistics and the fixed STFT and mel matrices (our front end) not. LITE and MICRO
have depthwise-separable blocks, whose BatchNorm folds into int8 convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from boards.errors import UserError
from models.blocks import cost, normalise
from models.blocks.conv import Block, stack, stack_groups
from models.blocks.front import covering
from models.blocks.groups import Group, Slice
from models.frontend import FrontEnd
from models.train import Recipe

CARD = {
    "title": "PANNs: convolutional tagging networks (Cnn14 and depthwise-separable children)",
    "task": "classification",
    "paper": "https://arxiv.org/abs/1912.10211",
    "licence": "MIT (official code); Apache-2.0 (this code)",
    "streaming": "window",
    "weights": {"where": "Zenodo 3987831", "licence": "MIT", "commercial": True},
    "sizes": {
        "full": {"parameters": 80_753_615, "classes": 527, "note": "Cnn14 of the paper, 32 kHz"},
        "lite": {
            "parameters": 794_506,
            "classes": 10,
            "note": "depthwise-separable, 16 kHz, phone or Pi; teacher",
        },
        "micro": {"parameters": 36_298, "classes": 10, "note": "depthwise-separable, 16 kHz, Cortex-M4"},
    },
}


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd
    seconds: float  # of sound in one input
    max_frames: int  # the hop grows until the input has no more
    blocks: tuple[Block, ...]
    pooling: Literal["mean", "mean_max"]  # mean: of all places; mean_max: see below
    hidden: tuple[int, ...] = ()  # widths of the layers between pooling and classifier
    affine_input: bool = False  # bn0 has a learned scale and shift
    dropout: float = 0.0  # behind each block
    head_dropout: float = 0.0  # behind pooling


FULL = Config(
    FrontEnd(sample_rate=32_000, window=1024, fft=1024, hop=320, bands=64, low_hz=50.0, high_hz=14_000.0),
    seconds=10.0,
    max_frames=1001,
    blocks=(
        *(Block("pair", (width, width), (2, 2)) for width in (64, 128, 256, 512, 1024)),
        Block("pair", (2048, 2048)),
    ),
    pooling="mean_max",
    hidden=(2048,),
    affine_input=True,
    dropout=0.2,
    head_dropout=0.5,
)

LITE = Config(
    FrontEnd(),
    seconds=1.0,
    max_frames=128,
    blocks=(
        Block("stem", (48,), (2, 2)),
        Block("separable", (96,), (2, 2)),
        Block("separable", (128,)),
        Block("separable", (256,), (2, 2)),
        Block("separable", (256,)),
        Block("separable", (512,), (2, 2)),
        Block("separable", (512,)),
    ),
    pooling="mean",
    hidden=(512,),
    head_dropout=0.2,
)

MICRO = Config(
    FrontEnd(),
    seconds=1.0,
    max_frames=128,
    blocks=(
        Block("stem", (32,), (2, 2)),
        Block("separable", (64,), (2, 2)),
        Block("separable", (64,)),
        Block("separable", (128,), (2, 2)),
        Block("separable", (128,)),
    ),
    pooling="mean",
)

SIZES = {"full": FULL, "lite": LITE, "micro": MICRO}

RECIPES = {
    "full": Recipe(epochs=60, batch=32, learning_rate=1e-3, mixup=1.0, masks=2, widest=0.064),
    "lite": Recipe(epochs=12),
    "micro": Recipe(epochs=16, learning_rate=8e-3),
}


def frontend(config: Config) -> FrontEnd:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def mean(x: Any) -> Any:
    """Return the mean over time and frequency of (batch, time, frequency, channels)."""
    return ops.mean(x, axis=(1, 2))


def mean_max(x: Any) -> Any:
    """Return mean plus maximum over time of the mean over frequency, as Cnn14 does."""
    x = ops.mean(x, axis=2)
    return ops.mean(x, axis=1) + ops.max(x, axis=1)


POOLINGS = {"mean": mean, "mean_max": mean_max}


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) in dB to (batch, classes) logits."""
    front = frontend(config)
    features = keras.Input((front.frames, front.features), name="features")
    x = normalise.bands(features, config.affine_input)
    x = layers.Reshape((front.frames, front.features, 1), name="image")(x)
    x = stack(x, config.blocks, config.dropout)
    x = POOLINGS[config.pooling](x)
    x = layers.Dropout(config.head_dropout, name="head_dropout")(x)
    for number, width in enumerate(config.hidden, 1):
        x = layers.Dense(width, activation="relu", name=f"fc{number}")(x)
    embedding = layers.Identity(name="embedding")(x)
    return keras.Model(features, layers.Dense(classes, name="logits")(embedding), name="panns")


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: convolution channels and hidden units."""
    dense = [f"fc{number}" for number in range(1, len(config.hidden) + 1)] + ["logits"]
    found = stack_groups(config.blocks, (Slice(f"{dense[0]}/kernel", 0),))
    for index, width in enumerate(config.hidden):
        out = Slice(f"{dense[index + 1]}/kernel", 0)
        own = (Slice(f"{dense[index]}/kernel", 1), Slice(f"{dense[index]}/bias", 0), out)
        found += (Group(f"hidden.{index}", width, own, (out,), "taylor", min(8, width)),)
    return found


def load_official(model: keras.Model, state: Mapping[str, NDArray[np.float32]]) -> None:
    """Give `model` (FULL) the weights of the official Cnn14 checkpoint, as numpy arrays by its own keys.

    The STFT and mel matrices of the checkpoint are not used: they are our front end.

    Raises:
        UserError: a weight is missing, or has another shape.
    """
    for name, variable in cost.weights(model).items():
        layer, _, kind = name.partition("/")
        key = f"{_official_layer(layer)}.{OFFICIAL_KINDS.get(kind, 'weight')}"
        if key not in state:
            raise UserError(f"the checkpoint has no {key}: it is not of Cnn14")
        value = np.transpose(state[key], OFFICIAL_AXES[state[key].ndim])
        if value.shape != tuple(variable.shape):
            raise UserError(f"{key} has shape {state[key].shape}, {name} needs {tuple(variable.shape)}")
        variable.assign(value)


OFFICIAL_KINDS = {
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
OFFICIAL_AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}  # out×in -> in×out; out×in×h×w -> h×w×in×out


def _official_layer(layer: str) -> str:
    """Return the official name: block1_conv2_bn -> conv_block1.bn2, logits -> fc_audioset."""
    if not layer.startswith("block"):
        return {"logits": "fc_audioset"}.get(layer, layer)
    block, conv, *norm = layer.split("_")
    return f"conv_{block}.{'bn' if norm else 'conv'}{conv.removeprefix('conv')}"
