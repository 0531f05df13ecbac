"""Every size of every family: its count, its shapes, its gradients; and what the papers say of FULL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from scipy.signal import correlate2d

from boards.errors import UserError
from models import panns, registry, train
from models.blocks import cost
from models.blocks.conv import Block
from quantize.prune import with_field

SIZES = [(name, size) for name in registry.names() for size in registry.card(name).sizes]
EIGHT_BIT_BYTES = {"micro": 250_000, "lite": 5_000_000}
NO_GRADIENT = "key/bias"  # softmax does not see what is the same for all keys


@pytest.fixture(autouse=True)
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run step by step: compiling a graph costs more than these few steps."""
    monkeypatch.setattr(train, "compile_options", lambda: {"run_eagerly": True})


def thin(family: registry.Family, size: str, units: int = 8) -> Any:
    """Return the config of a size with at most `units` channels and hidden units, and short clips."""
    config = family.config(size, seconds=1.0)
    for group in family.groups(config):
        config = with_field(config, group.field, min(units, group.units))
    return config


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_parameters_are_what_the_card_says(name: str, size: str) -> None:
    family = registry.load(name)
    about = family.card.sizes[size]
    net = family.net(family.sizes[size], about.classes)
    assert cost.parameters(net) == about.parameters
    front = family.frontend(family.sizes[size])
    assert net.input_shape == (None, front.frames, front.features)
    assert net.output_shape == (None, about.classes)
    assert net.count_params() <= EIGHT_BIT_BYTES.get(size, np.inf)


def test_cnn14_is_the_official_one() -> None:
    assert registry.card("panns").sizes["full"].parameters == 80_753_615
    front = panns.frontend(panns.FULL)
    assert (front.sample_rate, front.fft, front.hop, front.bands) == (32_000, 1024, 320, 64)
    assert (front.low_hz, front.high_hz, front.frames) == (50, 14_000, 997)  # 1,001 where the paper pads


def test_tiny_transformer_is_the_size_of_the_paper() -> None:
    family = registry.load("tiny_transformer")
    body = cost.parameters(family.net(family.sizes["full"], 6)) - (16 * 6 + 6)
    assert body == 6_176
    baseline = cost.parameters(family.net(family.sizes["baseline"], 6))
    assert 1 - body / baseline == pytest.approx(0.9985, abs=5e-4)
    assert cost.parameters(family.net(family.sizes["micro"], 10)) <= 6_500


@pytest.mark.parametrize(("name", "size"), SIZES)
@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.01, 3.7, 5.0, 10.0])
def test_front_end_covers_the_clip(name: str, size: str, seconds: float) -> None:
    family = registry.load(name)
    config = family.config(size, seconds=seconds)
    front = family.frontend(config)
    wanted = round(seconds * front.sample_rate)
    assert front.frames <= config.max_frames
    assert front.hop <= front.window <= front.fft
    assert wanted - front.hop < front.samples <= wanted


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_gradient_reaches_every_parameter(name: str, size: str) -> None:
    family = registry.load(name)
    config = thin(family, size)
    net = train.seeded(lambda: family.net(config, 3), 1)
    x = np.random.default_rng(0).normal(-40, 10, (6, *net.input_shape[1:])).astype(np.float32)
    (found,) = train.gradients(net, [(x, np.array([0, 1, 2] * 2))])
    assert len(found) == len(net.trainable_variables)
    dead = [name for name, slope in found.items() if not np.abs(slope).max() > 1e-9]
    assert [name for name in dead if not name.endswith(NO_GRADIENT)] == []


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_trains_two_steps_and_eats_decibels(name: str, size: str) -> None:
    family = registry.load(name)
    net = train.seeded(lambda: family.net(thin(family, size), 3), 1)
    x = np.random.default_rng(0).normal(-40, 10, (8, *net.input_shape[1:])).astype(np.float32)
    y = np.arange(8) % 3
    recipe = replace(family.recipes[size], epochs=2, batch=8)
    history = train.fit_on_arrays(net, x, y, recipe=recipe, seed=0)
    assert np.isfinite(history.loss).all()
    logits = train.predict(net, x)
    assert logits.shape == (8, 3)
    assert np.ptp(logits) > 0
    np.testing.assert_allclose(train.predict(net, x, batch=3), logits, rtol=1e-4, atol=1e-4)


def cnn14(x: np.ndarray, state: dict[str, np.ndarray], blocks: int) -> Any:
    """Return the logits of the official network for (frames, bands), in plain numpy."""

    def norm(h: np.ndarray, key: str) -> np.ndarray:  # (channels, …)
        weight, bias, mean, var = (
            state[f"{key}.{k}"] for k in ("weight", "bias", "running_mean", "running_var")
        )
        shape = (-1, *(1,) * (h.ndim - 1))
        scale = weight / np.sqrt(var + 1e-5)
        return h * scale.reshape(shape) + (bias - mean * scale).reshape(shape)

    h = norm(x.T, "bn0").T[None]
    for number in range(1, blocks + 1):
        for n in (1, 2):
            kernel = state[f"conv_block{number}.conv{n}.weight"]
            h = np.stack(
                [sum(correlate2d(c, k, "same") for c, k in zip(h, row, strict=True)) for row in kernel]
            )
            h = np.maximum(norm(h, f"conv_block{number}.bn{n}"), 0)
        if number < blocks:
            c, t, f = h.shape
            h = h[:, : t // 2 * 2, : f // 2 * 2].reshape(c, t // 2, 2, f // 2, 2).mean(axis=(2, 4))
    h = h.mean(axis=2)
    h = h.mean(axis=1) + h.max(axis=1)
    h = np.maximum(state["fc1.weight"] @ h + state["fc1.bias"], 0)
    return state["fc_audioset.weight"] @ h + state["fc_audioset.bias"]


def official_state(widths: list[int], hidden: int, classes: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    state: dict[str, np.ndarray] = {}

    def norm(key: str, width: int) -> None:
        state[f"{key}.weight"] = rng.uniform(0.5, 1.5, width)
        state[f"{key}.bias"] = rng.normal(0, 0.2, width)
        state[f"{key}.running_mean"] = rng.normal(0, 0.2, width)
        state[f"{key}.running_var"] = rng.uniform(0.5, 1.5, width)

    norm("bn0", 64)
    before = 1
    for number, width in enumerate(widths, 1):
        for n in (1, 2):
            state[f"conv_block{number}.conv{n}.weight"] = rng.normal(
                0, (9 * before) ** -0.5, (width, before, 3, 3)
            )
            norm(f"conv_block{number}.bn{n}", width)
            before = width
    for key, rows, columns in (("fc1", hidden, before), ("fc_audioset", classes, hidden)):
        state[f"{key}.weight"] = rng.normal(0, columns**-0.5, (rows, columns))
        state[f"{key}.bias"] = rng.normal(0, 1, rows)
    return {key: value.astype(np.float32) for key, value in state.items()}


def test_official_weights_give_the_official_outputs() -> None:
    widths = [4, 5, 6]
    blocks = tuple(Block("pair", (w, w), (2, 2) if i < 2 else (1, 1)) for i, w in enumerate(widths))
    config = replace(panns.FULL, seconds=0.2, blocks=blocks, hidden=(7,))
    net = panns.net(config, 3)
    state = official_state(widths, 7, 3)
    panns.load_official(net, {**state, "logmel_extractor.melW": np.zeros((513, 64), np.float32)})
    x = np.random.default_rng(0).normal(0, 2, net.input_shape[1:]).astype(np.float32)
    np.testing.assert_allclose(train.predict(net, x[None])[0], cnn14(x, state, 3), atol=1e-4)


def test_a_checkpoint_of_something_else_is_refused() -> None:
    blocks = (Block("pair", (4, 4)),)
    net = panns.net(replace(panns.FULL, seconds=0.1, blocks=blocks, hidden=(7,)), 3)
    with pytest.raises(UserError, match="no bn0"):
        panns.load_official(net, {})
    with pytest.raises(UserError, match=r"conv_block1.conv1.weight has shape"):
        panns.load_official(net, official_state([5], 7, 3))


def test_more_frames_than_positions_are_refused() -> None:
    family = registry.load("tiny_transformer")
    with pytest.raises(UserError, match="99 frames, but the encoder has 64 positions: lower max_frames"):
        family.net(family.config("full", seconds=2.0, max_frames=128), 3)


def test_multiply_accumulates_by_hand() -> None:
    inputs = keras.Input((8, 6, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(inputs)  # 8·6·4·9·3
    x = keras.layers.DepthwiseConv2D((3, 1), strides=2, padding="same")(x)  # 4·3·4·3
    x = keras.layers.Dense(5)(keras.layers.Flatten()(x))  # 48·5
    assert cost.macs(keras.Model(inputs, x)) == 8 * 6 * 4 * 27 + 4 * 3 * 4 * 3 + 48 * 5
    tokens = keras.Input((7, 4))
    product = keras.ops.matmul(tokens, keras.ops.transpose(tokens, (0, 2, 1)))  # 7·7·4
    assert cost.macs(keras.Model(tokens, product)) == 7 * 7 * 4
