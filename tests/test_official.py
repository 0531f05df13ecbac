"""Layouts of official checkpoints: what fits is assigned whole, what does not is named with the nearest."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from boards.errors import UserError
from models import official
from models.blocks import cost
from models.official import Layout, Rule, conv1d, dense, norm, part, weight_norm

LAYOUT = Layout(
    "them/theirs",
    (
        Rule(r"conv(\d)/kernel", "encoder.{1-}.weight", conv1d),
        Rule(r"conv(\d)/bias", "encoder.{1-}.bias"),
        *norm("norm", "norm"),
        *dense("logits", "head.fc"),
    ),
    prefixes=("module.",),
    ignored=(r"head_dist\..*",),
    optional=("logits/.*",),
)


def net(classes: int = 3) -> Any:
    entry = keras.Input((9, 4), name="features")
    x = layers.Conv1D(5, 3, name="conv1")(entry)
    x = layers.LayerNormalization(name="norm")(layers.Conv1D(5, 3, name="conv2")(x))
    return keras.Model(entry, layers.Dense(classes, name="logits")(x[:, 0]), name="ours")


def state(classes: int = 3) -> dict[str, np.ndarray]:
    shapes = {
        "encoder.0.weight": (5, 4, 3),
        "encoder.0.bias": (5,),
        "encoder.1.weight": (5, 5, 3),
        "encoder.1.bias": (5,),
        "norm.weight": (5,),
        "norm.bias": (5,),
        "head.fc.weight": (classes, 5),
        "head.fc.bias": (classes,),
        "head_dist.weight": (2, 5),
    }
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_weights_are_turned_and_assigned() -> None:
    ours, theirs = net(), state()
    assert official.load(ours, {f"module.{key}": value for key, value in theirs.items()}, LAYOUT) == ()
    weights = {name: np.array(value) for name, value in cost.weights(ours).items()}
    np.testing.assert_array_equal(weights["conv2/kernel"], theirs["encoder.1.weight"].transpose(2, 1, 0))
    np.testing.assert_array_equal(weights["logits/kernel"], theirs["head.fc.weight"].T)


def test_the_classifier_tells_its_classes_or_is_lacking() -> None:
    theirs = state(7)
    assert official.classes(net(), theirs, LAYOUT) == 7
    trunk = {key: value for key, value in theirs.items() if not key.startswith("head.")}
    assert official.classes(net(), trunk, LAYOUT) is None
    assert official.load(net(), trunk, LAYOUT) == ("logits/kernel", "logits/bias")


CHANGES = {
    "missing": (
        {"encoder.1.bias": "encoder.1.biases"},
        "no encoder.1.bias (conv2/bias); nearest: encoder.1.biases",
    ),
    "several": ({"norm.weight": None, "norm.bias": None}, "no norm.weight (norm/gamma) and lacks 1 more"),
    "extra": (
        {"+pos_embed": (1, 9)},
        "has 1 arrays that ours has no place for, the first is pos_embed (1, 9)",
    ),
    "near": ({"+encoder.2.bias": (5,)}, "encoder.2.bias (5,); nearest that it has: encoder.1.bias"),
    "shape": ({"+encoder.1.weight": (6, 5, 3)}, "(6, 5, 3) does not fit conv2/kernel (3, 5, 5)"),
    "axes": ({"+encoder.1.weight": (5, 5)}, "cannot become conv2/kernel (3, 5, 5)"),
    "half": ({"head.fc.bias": None}, "it is not whole"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_does_not_fit_is_named_and_nothing_is_assigned(case: str) -> None:
    changes, message = CHANGES[case]
    theirs = state()
    for key, new in changes.items():
        if isinstance(new, tuple):
            theirs[key.removeprefix("+")] = np.zeros(new, np.float32)
        elif new:
            theirs[new] = theirs.pop(key)
        else:
            del theirs[key]
    ours = net()
    before = [np.array(weight) for weight in ours.weights]
    with pytest.raises(UserError, match=re.escape(message)):
        official.load(ours, theirs, LAYOUT)
    for old, weight in zip(before, ours.weights, strict=True):
        np.testing.assert_array_equal(old, weight)


def test_an_empty_checkpoint_and_one_with_nan() -> None:
    with pytest.raises(
        UserError, match=r"no encoder\.0\.weight .* lacks 5 more; nearest: none, it has no arrays"
    ):
        official.load(net(), {}, LAYOUT)
    theirs = state()
    theirs["norm.bias"][2] = np.inf
    with pytest.raises(
        UserError, match="1 values that are NaN or infinite in float32: the checkpoint is damaged"
    ):
        official.load(net(), theirs, LAYOUT)


def test_a_layout_knows_its_own_by_name() -> None:
    assert official.recognised(state(), LAYOUT) == 1
    assert official.recognised({"module.encoder.77.bias": np.zeros(3)}, LAYOUT) == 1
    assert official.recognised({"norm.weight": np.zeros(3), "blocks.0.bias": np.zeros(3)}, LAYOUT) == 0.5
    assert official.recognised({}, LAYOUT) == 0


def test_joint_matrices_and_weight_norm_are_taken_apart() -> None:
    joint = np.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(part(1, 3)(joint), joint[2:4])
    rng = np.random.default_rng(0)
    g, v = rng.uniform(1, 2, (1, 1, 4)), rng.normal(size=(6, 3, 4))
    joined = weight_norm(2, conv1d)(g, v).transpose(2, 1, 0)
    np.testing.assert_allclose(np.sqrt((joined**2).sum(axis=(0, 1))), g.ravel(), rtol=1e-12)
