"""Every size of every family: its count, its shapes, its gradients, two steps, and its own objective."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from family_nets import blank, inputs, thin

from boards.errors import UserError
from models import official, registry, train, weight_files
from models.blocks import cost

NAMES = registry.names()
SIZES = [(name, size) for name in NAMES for size in registry.card(name).sizes]
TRAINED = [(name, size) for name in NAMES for size in ("full", "lite", "micro")]
PUBLISHED = [(name, size) for name, size in SIZES if size not in ("lite", "micro", "baseline")]
EIGHT_BIT_BYTES = {"micro": 250_000, "lite": 5_000_000}
NO_GRADIENT = ("key/bias", "k_bias")  # softmax does not see what is the same for all keys
SMALL_SCALE = 1e-4  # of a layer that is to begin as if it were not there: float32 would lose the gradient
LARGEST = 30_000_000  # parameters that a step is taken with


@pytest.fixture(autouse=True)
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run step by step: compiling a graph costs more than these few steps."""
    monkeypatch.setattr(train, "compile_options", lambda: {"run_eagerly": True})


def truth(family: registry.Family, count: int, classes: int) -> np.ndarray:
    """Return what the outputs are fitted to: classes, or values where the task is regression."""
    if family.card.task == "regression":
        return np.random.default_rng(1).uniform(size=(count, classes)).astype(np.float32)
    return np.arange(count) % classes


def small(name: str, size: str, classes: int = 3) -> tuple[registry.Family, Any, Any]:
    """Return a family, the thinned config of a size and its net, with weights."""
    family = registry.load(name)
    config = thin(family, size)
    assert cost.parameters(cost.shape_only(lambda: family.net(config, classes))) < LARGEST
    return family, config, train.seeded(lambda: family.net(config, classes), 1)


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_parameters_and_shapes_are_what_the_card_says(name: str, size: str) -> None:
    family = registry.load(name)
    about = family.card.sizes[size]
    net = blank(name, size)
    assert cost.parameters(net) == about.parameters
    front = family.frontend(family.sizes[size])
    assert net.input_shape == (None, front.frames, front.features)
    assert net.output_shape == (None, about.classes)
    assert net.count_params() <= EIGHT_BIT_BYTES.get(size, np.inf)
    assert net.count_params() >= about.parameters + about.frozen
    layers = {layer.name for layer in net.layers}
    assert {"embedding", "logits"} <= layers
    if (name, size) in PUBLISHED and family.official is not None:
        pairs = list(official.expected(net, family.official(family.sizes[size])))
        keys = dict.fromkeys(key for _, parts in pairs for key in parts)
        assert len(keys) > 3
        assert weight_files.unwrapped(keys) == keys  # a file is read without wrappers


@pytest.mark.parametrize(("name", "size"), [pair for pair in SIZES if pair not in PUBLISHED])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.01, 3.7, 10.0])
def test_front_end_covers_the_clip(name: str, size: str, seconds: float) -> None:
    family = registry.load(name)
    config = family.config(size, seconds=seconds)
    front = family.frontend(config)
    wanted = round(seconds * front.sample_rate)
    assert front.frames <= config.max_frames
    assert front.hop <= front.window <= front.fft
    assert wanted - front.hop < front.samples <= wanted


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_reference_front_end_gives_what_the_net_takes(name: str, size: str) -> None:
    from models import fronts

    family = registry.load(name)
    front = family.frontend(family.config(size, seconds=1.0))
    sound = np.random.default_rng(0).integers(-9000, 9000, front.samples).astype(np.int16)
    heard = fronts.features(sound, front)
    assert heard.shape == (front.frames, front.features)
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()


@pytest.mark.parametrize(("name", "size"), TRAINED)
def test_gradient_reaches_every_parameter(name: str, size: str) -> None:
    family, _, net = small(name, size)
    for variable in net.trainable_variables:
        if 0 < np.abs(variable).max() < SMALL_SCALE:
            variable.assign(np.full(variable.shape, 0.1))
    (found,) = train.gradients(net, [(inputs(net, 6), truth(family, 6, 3))])
    assert len(found) == len(net.trainable_variables)
    dead = [name for name, slope in found.items() if not np.abs(slope).max() > 1e-9]
    assert [name for name in dead if not name.endswith(NO_GRADIENT)] == []


@pytest.mark.parametrize(("name", "size"), TRAINED)
def test_trains_two_steps_and_eats_decibels(name: str, size: str) -> None:
    family, _, net = small(name, size)
    x = inputs(net, 8)
    recipe = replace(family.recipes[size], epochs=2, batch=8)
    history = train.fit_on_arrays(net, x, truth(family, 8, 3), recipe=recipe, seed=0)
    assert np.isfinite(history.loss).all()
    logits = train.predict(net, x)
    assert logits.shape == (8, 3)
    assert np.ptp(logits) > 0
    np.testing.assert_allclose(train.predict(net, x, batch=3), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "size"), TRAINED)
def test_its_own_objective_trains_two_steps(name: str, size: str) -> None:
    family = registry.load(name)
    if family.objective is None:
        pytest.skip("its objective is the labels")
    try:
        config = thin(family, size)
        model = train.seeded(lambda: family.objective(config, 3), 1)
    except UserError:  # it hides more patches than a short clip has
        config = thin(family, size, seconds=family.sizes[size].seconds)
        model = train.seeded(lambda: family.objective(config, 3), 1)
    x = inputs(family.net(config, 3), 4)
    y = None if model.targets is None else np.random.default_rng(2).integers(2, size=(4, *model.targets))
    model.compile(keras.optimizers.Adam(1e-4), run_eagerly=True)
    before = None
    losses = []
    for _ in range(2):
        losses += model.fit(x, y, batch_size=4, epochs=1, verbose=0).history["loss"]
        before = before or [np.array(v) for v in model.trainable_variables]
    assert np.isfinite(losses).all()
    moved = [np.any(np.array(v) != old) for v, old in zip(model.trainable_variables, before, strict=True)]
    assert np.mean(moved) > 0.9


def test_tiny_transformer_is_the_size_of_the_paper() -> None:
    family = registry.load("tiny_transformer")
    body = cost.parameters(family.net(family.sizes["full"], 6)) - (16 * 6 + 6)
    assert body == 6_176
    baseline = cost.parameters(family.net(family.sizes["baseline"], 6))
    assert 1 - body / baseline == pytest.approx(0.9985, abs=5e-4)
    assert cost.parameters(family.net(family.sizes["micro"], 10)) <= 6_500


def test_more_frames_than_positions_are_refused() -> None:
    family = registry.load("tiny_transformer")
    with pytest.raises(UserError, match="99 frames, but the encoder has 64 positions: lower max_frames"):
        family.net(family.config("full", seconds=2.0, max_frames=128), 3)


def test_multiply_accumulates_by_hand() -> None:
    entry = keras.Input((8, 6, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(entry)  # 8·6·4·9·3
    x = keras.layers.DepthwiseConv2D((3, 1), strides=2, padding="same")(x)  # 4·3·4·3
    x = keras.layers.Dense(5)(keras.layers.Flatten()(x))  # 48·5
    assert cost.macs(keras.Model(entry, x)) == 8 * 6 * 4 * 27 + 4 * 3 * 4 * 3 + 48 * 5
    tokens = keras.Input((7, 4))
    product = keras.ops.matmul(tokens, keras.ops.transpose(tokens, (0, 2, 1)))  # 7·7·4
    assert cost.macs(keras.Model(tokens, product)) == 7 * 7 * 4
