"""PANNs: convolutional networks for audio tagging (Kong et al. 2020, arXiv 1912.10211; code: MIT).

Input: log-mel features in dB, float32 (batch, frames, bands); waveforms (batch, samples, 1) for the nets
that hear those. Output: logits (batch, classes); the paper applies a sigmoid and tags 527 AudioSet classes, a
softmax serves one class a clip.

FULL is Cnn14 with 80,753,615 parameters by the official count: trainable ones, BatchNorm's scale and shift
included, its running statistics and the frozen STFT and mel matrices (our front end) not. The official
Wavegram-Cnn14 holds 37,824 parameters and DaiNet19 4,224 that its forward pass never reads: we lack them.
LITE and MICRO are ours: depthwise-separable and without padding in time, so that they stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

import keras
from keras import layers, ops

from boards.errors import UserError
from models.blocks import normalise, trunks
from models.blocks.conv import Block, stack, stack_groups
from models.blocks.conv_keys import batch_norm, block_rules
from models.blocks.front import covering
from models.blocks.groups import Group, Slice
from models.blocks.tagging import Stripes, Tagging
from models.blocks.timm import dense_rules
from models.blocks.trunks import Trunk
from models.blocks.wavegram import LogMel
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Front
from models.fronts.librosa_mel import LibrosaMel
from models.fronts.waveform import Waveform
from models.official import Layout
from models.train import Recipe

CARD = {
    "title": "PANNs: convolutional tagging networks (Cnn14, MobileNets, Wavegram and separable children)",
    "task": "classification",
    "paper": "https://arxiv.org/abs/1912.10211",
    "licence": "MIT (official code); Apache-2.0 (this code)",
    "streaming": "frame",
    "weights": {"where": "Zenodo 3987831", "licence": "MIT", "commercial": True},
    "sizes": {
        "full": {"parameters": 80_753_615, "classes": 527, "note": "Cnn14 of the paper, 32 kHz"},
        "cnn14-16k": {"parameters": 80_753_615, "classes": 527, "note": "Cnn14 at 16 kHz"},
        "cnn14-emb512": {"parameters": 76_796_879, "classes": 527, "note": "Cnn14, embedding of 512"},
        "cnn14-emb128": {"parameters": 75_807_695, "classes": 527, "note": "Cnn14, embedding of 128"},
        "cnn14-emb32": {"parameters": 75_560_399, "classes": 527, "note": "Cnn14, embedding of 32"},
        "cnn10": {"parameters": 5_219_279, "classes": 527, "note": "four pairs of 3×3"},
        "cnn6": {"parameters": 4_837_455, "classes": 527, "note": "four convolutions of 5×5"},
        "resnet22": {"parameters": 63_675_087, "classes": 527, "note": "residual blocks"},
        "resnet38": {"parameters": 73_783_247, "classes": 527, "note": "residual blocks"},
        "resnet54": {"parameters": 104_318_159, "classes": 527, "note": "residual bottlenecks"},
        "mobilenetv1": {"parameters": 4_796_303, "classes": 527, "note": "0.74 G operations per 10 s"},
        "mobilenetv2": {"parameters": 4_075_343, "classes": 527, "note": "0.34 G operations per 10 s"},
        "leenet11": {"parameters": 748_367, "classes": 527, "note": "hears waveforms"},
        "leenet24": {"parameters": 10_003_791, "classes": 527, "note": "hears waveforms"},
        "dainet19": {"parameters": 4_381_583, "classes": 527, "note": "hears waveforms; official 4,385,807"},
        "res1dnet31": {"parameters": 80_464_463, "classes": 527, "note": "hears waveforms"},
        "res1dnet51": {"parameters": 106_538_063, "classes": 527, "note": "hears waveforms"},
        "wavegram": {
            "parameters": 80_953_935,
            "classes": 527,
            "note": "Wavegram-Cnn14, hears waveforms; official 80,991,759",
        },
        "wavegram-logmel": {
            "parameters": 81_065_487,
            "classes": 527,
            "note": "Wavegram-Logmel-Cnn14, the best of the paper",
        },
        "lite": {"parameters": 788_362, "classes": 10, "note": "16 kHz, phone or Pi, streams; teacher"},
        "micro": {
            "parameters": 36_298,
            "classes": 10,
            "note": "16 kHz, Cortex-M4, streams",
            "ram_bytes": 16_512,
        },
    },
}


@dataclass(frozen=True)
class Config:
    """What a net of the family is; pruning gives another value of it."""

    front: FrontEnd | LibrosaMel | Waveform
    seconds: float  # of sound in one input
    max_frames: int  # the hop grows until the input has no more
    blocks: tuple[Block, ...]
    pooling: Literal["mean", "mean_max"]  # over time; mean_max: mean plus maximum
    hidden: tuple[int, ...] = ()  # widths of the layers between pooling and classifier
    bn0: Literal["none", "statistics", "affine"] = "statistics"  # norm of each band; affine: scale and shift
    head_dropout: float = 0.0  # behind pooling
    wavegram: tuple[Block, ...] = ()  # over the waveform; their image joins that of the first block
    names: tuple[str, ...] = ()  # official ones: of the wavegram's blocks, then of the others; see Trunk


def published(trunk: Trunk, hidden: int, **changes: Any) -> Config:
    """Return a published net on log-mel features."""
    config = Config(LibrosaMel(), 10.0, 1001, trunk.blocks, "mean_max", (hidden,), "affine", 0.5)
    return replace(config, names=trunk.names, **changes)


def hearing(trunk: Trunk, hidden: int) -> Config:
    """Return a published net on waveforms."""
    sound = Waveform(32_000, 320_000, "kept")
    return published(trunk, hidden, front=sound, max_frames=320_000, bn0="none")


CNN14 = trunks.pairs(64, 128, 256, 512, 1024, 2048)
WAVEGRAM = trunks.wavegram()
FULL = published(CNN14, 2048)
PUBLISHED = {
    "full": FULL,
    "cnn14-16k": replace(FULL, front=LibrosaMel(64, 16_000, 512, 160, high_hz=8_000.0, samples=160_000)),
    "cnn14-emb512": published(CNN14, 512),
    "cnn14-emb128": published(CNN14, 128),
    "cnn14-emb32": published(CNN14, 32),
    "cnn10": published(trunks.pairs(64, 128, 256, 512), 512),
    "cnn6": published(trunks.wide_kernels(64, 128, 256, 512), 512),
    "resnet22": published(trunks.resnet(2, 2, 2, 2), 2048),
    "resnet38": published(trunks.resnet(3, 4, 6, 3), 2048),
    "resnet54": published(trunks.resnet(3, 4, 6, 3, bottleneck=True), 2048),
    "mobilenetv1": published(trunks.mobilenet_v1(), 1024),
    "mobilenetv2": published(trunks.mobilenet_v2(), 1024, head_dropout=0.0),
    "leenet11": hearing(trunks.leenet11(), 512),
    "leenet24": hearing(trunks.leenet24(), 1024),
    "dainet19": hearing(trunks.dainet19(), 512),
    "res1dnet31": hearing(trunks.res1dnet(2, 2, 2, 2, 2, 2, 2), 2048),
    "res1dnet51": hearing(trunks.res1dnet(2, 3, 4, 6, 4, 3, 2), 2048),
    "wavegram": hearing(Trunk(WAVEGRAM.blocks + CNN14.blocks[1:], WAVEGRAM.names + CNN14.names[1:]), 2048),
    "wavegram-logmel": replace(FULL, wavegram=WAVEGRAM.blocks, names=WAVEGRAM.names + CNN14.names),
}

STREAM: Mapping[str, Any] = {"by": "stride", "time": "valid"}
LITE = Config(
    FrontEnd(hop=400),  # 25 ms: a hop of 100 ms is what both strides in time make one row of
    seconds=1.0,
    max_frames=128,
    blocks=(
        Block("stem", (48,), (2, 2), **STREAM),
        Block("separable", (96,), (1, 2), **STREAM),
        Block("separable", (128,), **STREAM),
        Block("separable", (256,), (2, 2), **STREAM),
        Block("separable", (256,), kernel=(1, 3), **STREAM),
        Block("separable", (512,), (1, 2), (1, 3), **STREAM),
        Block("separable", (512,), kernel=(1, 3), **STREAM),
    ),
    pooling="mean",
    hidden=(512,),
    head_dropout=0.2,
)
MICRO = Config(
    FrontEnd(hop=400),
    seconds=1.0,
    max_frames=128,
    blocks=(
        Block("stem", (32,), (2, 2), **STREAM),
        Block("separable", (64,), (1, 2), **STREAM),
        Block("separable", (64,), **STREAM),
        Block("separable", (128,), (2, 2), **STREAM),
        Block("separable", (128,), **STREAM),
    ),
    pooling="mean",
)

SIZES = {**PUBLISHED, "lite": LITE, "micro": MICRO}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)
RECIPES = {
    **dict.fromkeys(
        PUBLISHED, Recipe(epochs=60, batch=32, learning_rate=1e-3, mixup=1.0, masks=2, widest=0.064)
    ),
    "lite": Recipe(epochs=40, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=40, learning_rate=8e-3, colour=COLOUR, seconds=1.0, teacher="micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes; with a wavegram, the waveform itself."""
    front: Front = covering(config.front, config.seconds, config.max_frames)
    return Waveform(front.sample_rate, front.samples, "kept") if config.wavegram else front


def mean(x: Any) -> Any:
    """Return the mean over time of (batch, time, channels)."""
    return ops.mean(x, axis=1)


def mean_max(x: Any) -> Any:
    """Return mean plus maximum over time, as Cnn14 does."""
    return ops.mean(x, axis=1) + ops.max(x, axis=1)


POOLINGS = {"mean": mean, "mean_max": mean_max}


def body(features: Any, config: Config) -> Any:
    """Return what all blocks make of the features: (batch, time, frequency, channels)."""
    x = features
    if config.wavegram:
        x = LogMel(covering(config.front, config.seconds, config.max_frames), name="log_mel")(x)
    if config.bn0 != "none":
        x = normalise.bands(x, config.bn0 == "affine")
    x = layers.Reshape((*x.shape[1:], 1), name="image")(x)
    x = stack(x, config.blocks[:1])
    if config.wavegram:
        sound = layers.Reshape((features.shape[1], 1, 1), name="sound")(features)
        sound = layers.Identity(name="wavegram")(stack(sound, config.wavegram, name="wave"))
        x = layers.Concatenate(name="both")([x, sound])
    return stack(x, config.blocks[1:], first=2)


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) in dB, or (batch, samples, 1), to (batch, classes) logits."""
    front = frontend(config)
    features = keras.Input((front.frames, front.features), name="features")
    frames = layers.Identity(name="frames")(ops.mean(body(features, config), axis=2))
    x = POOLINGS[config.pooling](frames)
    x = layers.Dropout(config.head_dropout, name="head_dropout")(x)
    for number, width in enumerate(config.hidden, 1):
        x = layers.Dense(width, activation="relu", name=f"fc{number}")(x)
    embedding = layers.Identity(name="embedding")(x)
    return keras.Model(features, layers.Dense(classes, name="logits")(embedding), name="panns")


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: convolution channels and hidden units."""
    dense = [f"fc{number}" for number in range(1, len(config.hidden) + 1)] + ["logits"]
    readers = (Slice(f"{dense[0]}/kernel", 0),)
    found = stack_groups(config.blocks, readers)
    if config.wavegram:  # what is joined stays as it is
        found = stack_groups(config.blocks[:1], ()) + stack_groups(config.blocks, readers, first=1)
        found += stack_groups(config.wavegram, (), "wavegram", name="wave")
    for index, width in enumerate(config.hidden):
        out = Slice(f"{dense[index + 1]}/kernel", 0)
        own = (Slice(f"{dense[index]}/kernel", 1), Slice(f"{dense[index]}/bias", 0), out)
        found += (Group(f"hidden.{index}", width, own, (out,), "taylor", min(8, width)),)
    return found


def official(config: Config) -> Layout:
    """Return where qiuqiangkong's checkpoint of a published net has its weights.

    Raises:
        UserError: the net is ours.
    """
    if not config.names:
        raise UserError(
            "panns lite and micro are ours and have no official checkpoint: choose a published size"
        )
    ours = [f"wave{n}" for n in range(1, len(config.wavegram) + 1)]
    ours += [f"block{n}" for n in range(1, len(config.blocks) + 1)]
    blocks = (*config.wavegram, *config.blocks)
    named = zip(blocks, ours, config.names, strict=True)
    rules = [rule for block, mine, theirs in named if theirs for rule in block_rules(block, mine, theirs)]
    return Layout(
        "qiuqiangkong/audioset_tagging_cnn",
        (
            *rules,
            *batch_norm("bn0", "bn0"),
            *dense_rules(r"(fc\d)", "{1}"),
            *dense_rules("logits", "fc_audioset"),
        ),
        prefixes=("module.",),
        ignored=(
            r"spectrogram_extractor\..*",  # STFT, frozen: our front end computes it
            r"logmel_extractor\..*",  # mel matrix, frozen
            r".*\.num_batches_tracked",
            r"(bn0|conv_block1\.(conv|bn)\d)\..*",  # Wavegram-Cnn14 has them and never reads them
            r"conv_block1\.(bn_)?downsample\..*",  # nor DaiNet19 these
        ),
        optional=("logits/.*",),
    )


def objective(config: Config, classes: int) -> keras.Model:
    """Return the paper's training: tags, with mixup behind SpecAugment.

    Masked are two stretches of under 64 of 1,001 frames and two of under 8 of 64 bands, or their like.
    """
    front = covering(config.front, config.seconds, config.max_frames)
    places = ["features" if config.bn0 == "none" else "bn0"]
    places += ["wavegram"] if config.wavegram else []
    time, bands = ceil(front.frames * 64 / 1001), ceil(front.features * 8 / 64)
    return Tagging(net(config, classes), places, Stripes(time, 2), Stripes(bands, 2), name="panns_tagging")
