"""Training: deterministic, resumable at any point, whole or old checkpoints, stops at NaN."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models import checkpoint, tasks, train
from models.checkpoint import CheckpointError, copied
from models.colour import Colour, colour
from models.train import Recipe, TrainingError

FRAMES, BANDS, CLASSES = 6, 5, 3
RECIPE = Recipe(epochs=4, batch=45, learning_rate=1e-2, mixup=0.3, masks=1, colour=Colour(1, 1.0, 1.0))


@pytest.fixture(autouse=True)
def no_tracing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run step by step: compiling a graph costs more than these few steps."""
    monkeypatch.setattr(train, "compile_options", lambda: {"run_eagerly": True})


def tiny(seed: int = 0) -> Any:
    """Return a net with BatchNorm and dropout, so that hidden state shows."""

    def build() -> Any:
        x = inputs = keras.Input((FRAMES, BANDS))
        x = keras.layers.BatchNormalization(center=False, scale=False, name="bn0")(x)
        x = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(x))
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Dropout(0.2)(x)
        return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(x))

    return train.seeded(build, seed)


def clips(count: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    x = rng.normal(-40, 5, (count, FRAMES, BANDS))
    x[np.arange(count), :, y] += 10
    return x.astype(np.float32), y


def weights(net: Any) -> list[np.ndarray]:
    return [copied(variable) for variable in net.variables]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def trained(**options: Any) -> tuple[Any, train.History]:
    net = tiny()
    settings: dict[str, Any] = {"recipe": RECIPE, "seed": 5, "validation": clips(30, 1), **options}
    return net, train.fit_on_arrays(net, *clips(), **settings)


class KilledError(Exception):
    """Stands for Ctrl-C or a power cut."""


def killer(after: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if done == after:
            raise KilledError

    return progress


def test_learns_and_repeats_itself() -> None:
    recipe = replace(RECIPE, epochs=8, learning_rate=0.03, mixup=0.0, masks=0, colour=Colour())
    net, history = trained(recipe=recipe)
    assert history.validation_score[-1] > 0.9
    again, other = trained(recipe=recipe)
    assert history == other
    assert same(weights(net), weights(again))
    different, _ = trained(recipe=recipe, seed=6)
    assert not same(weights(net), weights(different))


def test_history_tells_of_the_weights_that_stay() -> None:
    net, history = trained(recipe=replace(RECIPE, learning_rate=0.3, epochs=5))
    x, y = clips(30, 1)
    logits = train.predict(net, x)
    assert tasks.cross_entropy(logits, y) == pytest.approx(history.validation_loss[-1], rel=1e-6)


@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, after: int) -> None:
    whole, history = trained()
    path = tmp_path / "run.npz"
    with pytest.raises(KilledError):
        trained(checkpoint=path, progress=killer(after))
    seen: list[int] = []
    net, resumed = trained(checkpoint=path, progress=lambda _stage, done, _total: seen.append(done))
    assert seen == list(range(after + 1, RECIPE.epochs + 1))
    assert resumed == history
    assert same(weights(net), weights(whole))
    once_more, finished = trained(checkpoint=path, progress=killer(0))
    assert finished == history
    assert same(weights(once_more), weights(whole))


def test_a_cut_write_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.npz"
    checkpoint.write(path, {"a": np.arange(3)})
    before = path.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write(path, {"a": np.arange(9)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_broken_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.npz"
    trained(checkpoint=path, recipe=replace(RECIPE, epochs=1))
    whole = path.read_bytes()
    with pytest.raises(CheckpointError, match="another recipe, seed or net"):
        trained(checkpoint=path, recipe=RECIPE)
    for broken in (b"", b"PK\3\4", whole[: len(whole) // 2], whole[:-30], os.urandom(200)):
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="remove it to start anew"):
            trained(checkpoint=path, recipe=replace(RECIPE, epochs=1))
    np.savez(path, identity=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(CheckpointError, match="remove it"):
        checkpoint.read(path)


def test_loss_that_is_no_number_names_the_step_and_keeps_the_last_good(tmp_path: Path) -> None:
    net = tiny()
    x, y = clips()
    train.adapt(net, x)
    targets = tasks.one_hot(y, CLASSES)
    good: list[list[np.ndarray]] = []

    def source(epoch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        poisoned = targets if epoch < 2 else np.full_like(targets, np.nan)
        return x, poisoned

    def progress(_stage: str, done: int, _total: int) -> None:
        good.append(weights(net))

    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    path = tmp_path / "run.npz"
    with pytest.raises(TrainingError, match=r"nan at step 1 of epoch 3, learning rate 0.01.*epoch 2 stay"):
        train.fit(net, source, None, loss, recipe=RECIPE, seed=0, checkpoint=path, progress=progress)
    assert same(weights(net), good[1])
    assert "history" in checkpoint.read(path)


def test_a_weight_that_is_no_number_stops_it_before_it_is_kept() -> None:
    """The last step of an epoch may spoil the net with a loss that was still finite."""

    @keras.saving.register_keras_serializable()
    class Spoilt(keras.losses.Loss):
        def call(self, wanted: Any, given: Any) -> Any:
            root = keras.ops.sqrt(keras.ops.maximum(wanted - 1.0, 0.0) * given**2)  # 0, its slope is 0/0
            return keras.ops.sum(root, axis=-1)

    net = tiny()
    x, y = clips()
    start = weights(net)
    with pytest.raises(TrainingError, match=r"a weight is NaN .* at step 1 of epoch 1, .*first weights stay"):
        train.fit(
            net,
            lambda *_: (x, tasks.one_hot(y, CLASSES)),
            None,
            Spoilt(),
            recipe=replace(RECIPE, batch=90),
            seed=0,
        )
    assert same(weights(net), start)


def test_an_objective_with_its_loss_inside_stops_at_nan_too() -> None:
    class Rebuilds(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = keras.layers.Dense(3), keras.layers.Dense(BANDS)
            self.build((None, FRAMES, BANDS))

        def build(self, shape: Any) -> None:
            self.down.build(shape)
            self.up.build((*shape[:-1], 3))
            self.built = True

        def call(self, x: Any) -> Any:
            return self.up(self.down(x))

        def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
            return keras.ops.mean((y_pred - x) ** 2)

    net = train.seeded(Rebuilds, 0)
    x = np.random.default_rng(0).normal(size=(90, FRAMES, BANDS)).astype(np.float32)
    good: list[list[np.ndarray]] = []

    def source(epoch: int, rng: np.random.Generator) -> tuple[np.ndarray, None]:
        spoilt = x.copy()
        spoilt[rng.integers(90), 0, 0] = np.nan if epoch == 2 else 0.0
        return spoilt, None

    with pytest.raises(TrainingError, match=r"the loss is nan at step [12] of epoch 3, .*epoch 2 stay"):
        train.fit(
            net, source, None, None, recipe=RECIPE, seed=0, progress=lambda *_: good.append(weights(net))
        )
    assert len(good) == 2
    assert same(weights(net), good[1])
    assert not same(good[0], good[1])


def test_the_last_weights_are_kept_whatever_validation_says() -> None:
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0, 1.5])
    net = tiny()
    x, y = clips()
    seen: list[list[np.ndarray]] = []

    def validate() -> tuple[float, float]:
        seen.append(weights(net))
        return next(losses), 0.0

    recipe = replace(RECIPE, epochs=6, mixup=0.0, masks=0)
    source = train.epochs_of(x, tasks.one_hot(y, CLASSES), recipe)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    history = train.fit(net, source, validate, loss, recipe=recipe, seed=0)
    assert history.validation_loss == (3.0, 1.0, 2.0, 2.0, 2.0, 1.5)
    assert same(weights(net), seen[-1])


def test_versions_take_turns() -> None:
    x = np.arange(12, dtype=np.float32).reshape(6, 2, 1)
    source = train.epochs_of(x, np.eye(6, dtype=np.float32), Recipe(examples=2), 3)
    rng = np.random.default_rng(0)
    assert [source(epoch, rng)[0][0, 0, 0] for epoch in range(4)] == [0, 4, 8, 0]
    assert [int(source(epoch, rng)[1][0].argmax()) for epoch in range(4)] == [0, 2, 4, 0]


def test_colour_shifts_and_tilts_whole_clips() -> None:
    x = np.random.default_rng(0).normal(-40, 9, (400, 7, 20)).astype(np.float32)
    np.testing.assert_array_equal(colour(x, Colour(), np.random.default_rng(1)), x)
    tilted = colour(x, Colour(tilt=4.0), np.random.default_rng(1)) - x
    np.testing.assert_allclose(tilted, tilted[:, :1].repeat(7, axis=1), atol=1e-4)  # the same in all frames
    np.testing.assert_allclose(np.diff(tilted[:, 0], 2), 0, atol=1e-4)  # a straight line over the bands
    assert tilted[:, 0, 0].std() == pytest.approx(4.0, rel=0.15)
    rippled = colour(x, Colour(ripple=2.0), np.random.default_rng(1)) - x
    assert 0.5 < rippled.std() < 2.0
    moved = colour(x, Colour(shift=2), np.random.default_rng(1))
    found = {
        next(k for k in range(-2, 3) if (m[:, 2:-2] == np.roll(c, -k, 1)[:, 2:-2]).all())
        for m, c in zip(moved, x, strict=True)
    }
    assert found == {-2, -1, 0, 1, 2}


def test_adapt_sets_each_band() -> None:
    x, _ = clips(500)
    net = tiny()
    train.adapt(net, x)
    flat = keras.Model(net.input, net.get_layer("bn0").output)
    normal = train.predict(flat, x)
    np.testing.assert_allclose(normal.mean(axis=(0, 1)), 0, atol=1e-4)
    np.testing.assert_allclose(normal.std(axis=(0, 1)), 1, atol=1e-3)


def test_gradients_are_those_of_the_definition() -> None:
    inputs = keras.Input((4,))
    net = keras.Model(inputs, keras.layers.Dense(3, name="logits")(inputs))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)).astype(np.float32), np.array([0, 1, 2, 2, 1])
    before = weights(net)
    (found,) = train.gradients(net, [(x, y)])
    logits = x @ before[0] + before[1]
    soft = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(3)[y]
    np.testing.assert_allclose(found["logits/kernel"], x.T @ soft / 5, atol=1e-6)
    np.testing.assert_allclose(found["logits/bias"], soft.mean(axis=0), atol=1e-6)
    assert same(weights(net), before)


def test_cross_entropy_of_large_logits() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], np.float32)
    assert tasks.cross_entropy(logits, np.array([0, 0])) == pytest.approx(500.0)
    assert tasks.accuracy(logits, np.array([0, 0])) == 0.5
