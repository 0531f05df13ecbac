"""Parameter-efficient transfer of the transformer AST to audio tasks (Cappellazzo et al. 2023, 2312.03694).

Input: Kaldi filterbank of 128 bands, normalised, float32 (batch, frames, bands); LITE and MICRO: log-mel in
dB. Output: logits (batch, classes) of the mean over all tokens.

The encoder is AST's (Gong et al. 2021, 2104.01778; weights BSD-3-Clause) and frozen; `Config.method` says
what is added and what is trained. The official code has no licence: this is written from the paper. Counted
are trainable parameters: of FULL 233,856 in the adapters (the official ones have 18,432 more, in LayerNorms
that their forward does not use: 252,288, 0.29 % of the frozen 86,187,264), 19,968 in LayerNorms, and the
classifier. Where no encoder of that width was published, in LITE and MICRO, all is trained together; a
further task then trains its own `task_pack` only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
import numpy as np
from keras import layers, ops
from numpy.typing import NDArray

from boards.errors import UserError
from models.blocks import cost, normalise
from models.blocks.adapters import (
    ADDED,
    Adapter,
    Lora,
    Method,
    Plain,
    Prefix,
    Prompts,
    freeze,
    method_groups,
    places,
    trained,
)
from models.blocks.attention import Encoder, Layer, Positions, transformer
from models.blocks.front import covering
from models.blocks.groups import Group
from models.blocks.patches import Grid, Patches, Special, resampled, split_table, tokens
from models.blocks.timm import dense_rules, norm_rules
from models.colour import Colour
from models.frontend import FrontEnd
from models.fronts import Front
from models.fronts.kaldi import Kaldi
from models.official import Layout, Rule, Turn, depthwise1d, linear
from models.train import Recipe

CARD = {
    "title": "PETL-AST: adapters, LoRA and prompts on a frozen spectrogram transformer",
    "task": "classification",
    "paper": "https://arxiv.org/abs/2312.03694",
    "licence": "BSD-3-Clause (AST's code); the official code has none; Apache-2.0 (this code)",
    "streaming": "window",
    "weights": {
        "where": "Hugging Face MIT/ast-finetuned-audioset-10-10-0.4593 (the frozen encoder)",
        "licence": "BSD-3-Clause",
        "commercial": True,
    },
    "sizes": {
        "full": {
            "parameters": 292_274,
            "frozen": 86_167_296,
            "classes": 50,
            "note": "conformer adapters beside the feed-forward layers, reduction 96; 86.2 M frozen",
        },
        "ast": {"parameters": 86_594_063, "classes": 527, "note": "AST itself, all trained: teacher"},
        "lite": {
            "parameters": 4_105_834,
            "classes": 10,
            "note": "9 layers of 192 with adapters; phone or Pi",
        },
        "micro": {
            "parameters": 159_690,
            "classes": 10,
            "note": "4 layers of 64 with adapters of 8, Cortex-M7",
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
    method: Adapter | Lora | Prompts | Prefix | Plain
    trained: Literal["method", "all"]  # what the method trains, or the encoder too
    special: int = 0  # learned tokens before the patches
    head: Literal["all", "special"] = "all"  # mean of all tokens; special ones, LayerNorm: AST's own
    learned: Grid = (12, 101)  # patches of the official encoder, which its table of positions has


METHODS: dict[str, Method] = {  # of the paper, each at the budget that it compares
    "conformer": Adapter(),
    "bottleneck": Adapter("bottleneck", reduction=64),
    "houlsby-conformer": Adapter(places="both"),
    "houlsby-bottleneck": Adapter("bottleneck", places="both", reduction=128),
    "lora": Lora(),
    "shallow-prompts": Prompts(300, deep=False),
    "deep-prompts": Prompts(25, deep=True),
    "prefix": Prefix(24),
    "bitfit": Plain("biases"),
    "linear": Plain("head"),
    "all": Plain("all"),
}

FULL = Config(
    Kaldi(1024, mean=-4.2677393, std=4.5689974, centred=False),
    seconds=10.24,
    max_frames=1024,
    patches=Patches((16, 16), (10, 10)),
    encoder=Encoder(768, 0, (Layer(12, 64, 3072),) * 12, activation="gelu", norm="pre", epsilon=1e-12),
    method=METHODS["conformer"],
    trained="method",
    special=2,
)
AST = replace(FULL, method=METHODS["all"], head="special")
LITE = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((16, 16), (16, 16)),
    encoder=Encoder(192, 0, (Layer(3, 64, 768),) * 9, norm="pre", dropout=0.1),
    method=Adapter(reduction=24),
    trained="all",
)
MICRO = Config(
    FrontEnd(hop=160, bands=64),
    seconds=1.0,
    max_frames=100,
    patches=Patches((64, 4), (64, 4)),
    encoder=Encoder(64, 0, (Layer(4, 16, 128),) * 4, norm="pre"),
    method=Adapter(reduction=8, taps=15),
    trained="all",
)

SIZES = {"full": FULL, "ast": AST, "lite": LITE, "micro": MICRO}

COLOUR = Colour(shift=3, tilt=6.0, ripple=3.0)

RECIPES = {
    "full": Recipe(epochs=50, batch=32, learning_rate=5e-3, weight_decay=0.1),
    "ast": Recipe(epochs=50, batch=32, learning_rate=5e-5, weight_decay=0.1),
    "lite": Recipe(epochs=20, learning_rate=1e-3, colour=COLOUR, seconds=1.0),
    "micro": Recipe(epochs=60, learning_rate=4e-3, colour=COLOUR, seconds=1.0, teacher="panns/micro*3"),
}


def frontend(config: Config) -> Front:
    """Return the front end whose features the net takes."""
    return covering(config.front, config.seconds, config.max_frames)


def net(config: Config, classes: int) -> keras.Model:
    """Return the model: (batch, frames, bands) to (batch, classes) logits."""
    features, x = normalise.incoming(frontend(config))
    x = tokens(x, config.patches, config.encoder.width)
    if config.special:
        x = Special(config.special, name="special")(x)
    x = Positions(x.shape[1], 0, name="position")(x)
    x = layers.Dropout(config.encoder.dropout, name="embed_dropout")(x)
    x = transformer(x, config.encoder, places(config.method, config.special))
    x = layers.Identity(name="frames")(x)
    x = HEADS[config.head](x, config)
    found = keras.Model(features, layers.Dense(classes, name="logits")(x), name="petl_ast")
    freeze(found, (r".*",) if config.trained == "all" else trained(config.method))
    return found


def over_all(x: Any, config: Config) -> Any:
    """Return the mean of all tokens."""
    return layers.Identity(name="embedding")(ops.mean(x, axis=1))


def over_special(x: Any, config: Config) -> Any:
    """Return the normalised mean of the special tokens."""
    x = layers.Identity(name="embedding")(ops.mean(x[:, : config.special], axis=1))
    return normalise.LayerNorm(config.encoder.epsilon, name="head_norm")(x)


HEADS = {"all": over_all, "special": over_special}
CLASSIFIERS = {"all": "classification_head", "special": "classifier.dense"}


def folded(config: Config, low_rank: keras.Model) -> tuple[Config, keras.Model]:
    """Return the config and net without LoRA that compute the same: the additions are in the weights."""
    method = config.method
    if not isinstance(method, Lora):
        raise UserError("only LoRA folds into the weights of the encoder")
    plain = replace(config, method=Plain("head"))
    found = net(plain, low_rank.output_shape[-1])
    weights = cost.weights(low_rank)
    for name, variable in cost.weights(found).items():
        layer, _, kind = name.partition("/")
        value = ops.convert_to_tensor(weights[name])
        if kind == "kernel" and f"{layer}_lora_down/kernel" in weights:
            down, up = weights[f"{layer}_lora_down/kernel"], weights[f"{layer}_lora_up/kernel"]
            value = value + ops.matmul(down, up) * (method.alpha / method.rate)
        variable.assign(value)
    return plain, found


def groups(config: Config) -> tuple[Group, ...]:
    """Return what pruning may remove: heads and hidden units."""
    return method_groups(config.encoder, config.method, "encoder")


def official(config: Config) -> Layout:
    """Return where AST's file (transformers' ASTModel), or that of a PETL model, has each weight."""
    front = frontend(config)
    grid = config.patches.grid(front.frames, front.features)

    def positions(table: NDArray[Any]) -> NDArray[Any]:
        return resampled(table[0], config.special, config.learned, grid)

    def patch(kernel: NDArray[Any]) -> NDArray[Any]:
        return np.transpose(kernel, (3, 2, 1, 0))  # the official image is (bands, frames)

    special = ("embeddings.cls_token", "embeddings.distillation_token")
    return Layout(
        "umbertocappellazzo/PETL_AST or transformers' ASTModel",
        (
            Rule("patch/kernel", "embeddings.patch_embeddings.projection.weight", patch),
            Rule("patch/bias", "embeddings.patch_embeddings.projection.bias"),
            Rule("special/token", special, lambda *parts: split_table(parts)),
            Rule("position/position", "embeddings.position_embeddings", positions),
            *encoder_rules(),
            *norm_rules("norm", "layernorm"),
            *added_rules(config.method, len(config.encoder.layers)),
            *norm_rules("head_norm", "classifier.layernorm"),
            *dense_rules("logits", CLASSIFIERS[config.head]),
        ),
        prefixes=("audio_spectrogram_transformer.", "model."),
        ignored=(
            r"model\..*",  # PETL's adapter models keep the encoder twice, also under its plain names
            r".*\.num_batches_tracked",  # of BatchNorm
            r".*\.lnorm\..*",  # the LayerNorm that the conformer adapter computes for nothing
            r"classifier\..*",  # AST's classes of AudioSet, where another head is trained
        ),
        optional=(ADDED, r"(head_norm|logits)/.*"),
        own=(r"bn0/.*",),
    )


def encoder_rules() -> tuple[Rule, ...]:
    """Return the rules of the layers as transformers names them."""
    layer = "encoder.layer.{1-}."
    found = list(norm_rules(r"layer(\d+)_norm1", f"{layer}layernorm_before"))
    found += norm_rules(r"layer(\d+)_norm2", f"{layer}layernorm_after")
    for part in ("query", "key", "value"):
        found += dense_rules(rf"layer(\d+)_{part}", f"{layer}attention.attention.{part}")
    for ours, theirs in (("output", "attention.output"), ("up", "intermediate"), ("down", "output")):
        found += dense_rules(rf"layer(\d+)_{ours}", f"{layer}{theirs}.dense")
    return tuple(found)


def pointwise(value: NDArray[Any]) -> NDArray[Any]:
    """Return a Conv1d of one tap (out, in, 1) as a dense kernel (in, out)."""
    return value[..., 0].T


BLOCK_RULES = {
    "bottleneck": (("down", "linear_downsample", linear), ("up", "linear_upsample", linear)),
    "conformer": (
        ("down", "pwise_conv1", pointwise),
        ("conv", "dwise_conv", depthwise1d),
        ("up", "pwise_conv2", pointwise),
    ),
}


def added_rules(method: Method, count: int) -> tuple[Rule, ...]:
    """Return the rules of what `method` adds to `count` layers."""
    attention = "encoder.layer.{1-}.attention.attention."
    match method:
        case Adapter():
            return (*adapter_rules(method, "ffn", "FFN"), *adapter_rules(method, "attention", "MHSA"))
        case Lora():
            return tuple(
                Rule(
                    rf"layer(\d+)_{part}_lora_{end}/kernel", f"{attention}lora_{end}_{part[0]}.weight", linear
                )
                for part in ("query", "value")
                for end in ("down", "up")
            )
        case Prompts():
            deep = (
                Rule(f"layer{number}_prompt/token", "deep_prompt_embeddings", slice_of(number - 2))
                for number in range(2, count + 1)
            )
            return (Rule("layer1_prompt/token", "prompt_embeddings", slice_of(0)), *deep)
        case Prefix():
            return tuple(
                Rule(rf"layer(\d+)_{part}_prefix/token", f"{attention}{part}_tokens", slice_of(0))
                for part in ("key", "value")
            )
        case Plain():
            return ()


def adapter_rules(method: Adapter, ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of the adapters at one kind of sub-layer."""
    name, module = rf"layer(\d+)_{ours}_adapter_", f"encoder.layer.{{1-}}.adapter_module_{theirs}."
    found = []
    for end, key, turn in BLOCK_RULES[method.block]:
        found.append(Rule(f"{name}{end}/kernel", f"{module}{key}.weight", turn))
        found.append(Rule(f"{name}{end}/bias", f"{module}{key}.bias"))
    found += norm_rules(f"{name}bn", f"{module}bnorm")
    found.append(Rule(f"{name}bn/moving_mean", f"{module}bnorm.running_mean"))
    found.append(Rule(f"{name}bn/moving_variance", f"{module}bnorm.running_var"))
    return tuple(found)


def slice_of(index: int) -> Turn:
    """Return what takes one slice of the first axis."""
    return lambda value: value[index]
