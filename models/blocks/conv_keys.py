"""Where official PyTorch codes keep the weights of convolution blocks, as rules of a Layout."""

from __future__ import annotations

import re
from collections.abc import Mapping

from models.blocks.conv import Block
from models.official import Array, Rule, conv2d, depthwise2d

STATISTICS = (
    ("gamma", "weight"),
    ("beta", "bias"),
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
)
# Places in nn.Sequential, pooling and activation counted, of blocks that are named by a number.
SEQUENCES: Mapping[tuple[str, int], Mapping[str, int]] = {
    ("stem", 1): {"conv1": 0, "conv1_bn": 2},
    ("single", 1): {"conv1": 0, "conv1_bn": 1},
    ("separable", 1): {"depthwise": 0, "depthwise_bn": 2, "conv1": 4, "conv1_bn": 5},
    ("inverted", 1): {"depthwise": 0, "depthwise_bn": 2, "conv1": 4, "conv1_bn": 5},
    ("inverted", 2): {
        "conv1": 0,
        "conv1_bn": 1,
        "depthwise": 3,
        "depthwise_bn": 5,
        "conv2": 7,
        "conv2_bn": 8,
    },
}


def batch_norm(ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of a BatchNorm and its statistics."""
    return tuple(Rule(f"{ours}/{mine}", f"{theirs}.{his}") for mine, his in STATISTICS)


def kernel(value: Array) -> Array:
    """Return a kernel of Conv2d, or of Conv1d (out, in, taps), as ours: (height, width, in, out)."""
    return conv2d(value if value.ndim == 4 else value[..., None])


def block_rules(block: Block, ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of the block whose layers are named `ours`, such as block1.

    `theirs` is a module with conv1, bn1 …; a sequence where it ends in a number and is no residual block; or
    a pattern whose * stands for conv and bn.
    """
    if "*" in theirs:
        conv, norm = theirs.replace("*", "conv"), theirs.replace("*", "bn")
        return (Rule(f"{ours}_conv1/kernel", f"{conv}.weight", kernel), *batch_norm(f"{ours}_conv1_bn", norm))
    if block.kind == "residual":
        return (*_module(ours, theirs), *_shortcut(block, ours, theirs))
    return _sequence(block, ours, theirs) if re.search(r"\.\d+$", theirs) else _module(ours, theirs)


def _module(ours: str, theirs: str) -> tuple[Rule, ...]:
    convs = Rule(rf"{ours}_conv(\d)/kernel", f"{theirs}.conv{{1}}.weight", kernel)
    return (convs, *batch_norm(rf"{ours}_conv(\d)_bn", f"{theirs}.bn{{1}}"))


def _shortcut(block: Block, ours: str, theirs: str) -> tuple[Rule, ...]:
    """Return the rules of a shortcut: a sequence in ResNets' layers, two modules elsewhere."""
    conv, norm = f"{theirs}.downsample", f"{theirs}.bn_downsample"
    if re.search(r"\.\d+$", theirs):
        place = 0 if block.reduce == (1, 1) else 1  # behind the pooling
        conv, norm = f"{conv}.{place}", f"{conv}.{place + 1}"
    convs = Rule(f"{ours}_shortcut/kernel", f"{conv}.weight", kernel)
    return (convs, *batch_norm(f"{ours}_shortcut_bn", norm))


def _sequence(block: Block, ours: str, theirs: str) -> tuple[Rule, ...]:
    inside = f"{theirs}.conv" if block.kind == "inverted" else theirs
    found: tuple[Rule, ...] = ()
    for layer, place in SEQUENCES[block.kind, len(block.widths)].items():
        key = f"{inside}.{place}"
        turn = depthwise2d if layer == "depthwise" else kernel
        norm = layer.endswith("_bn")
        weight = Rule(f"{ours}_{layer}/kernel", f"{key}.weight", turn)
        found += batch_norm(f"{ours}_{layer}", key) if norm else (weight,)
    return found
