"""Distillation: the loss by hand, what the student learns of the teacher, and teachers that do not fit."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from boards.errors import UserError
from models import tasks, train
from models.blocks import cost
from models.checkpoint import copied
from models.train import Recipe
from quantize.distil import Mix, distil, heard, loss

FRAMES, BANDS, CLASSES = 4, 6, 3
RECIPE = Recipe(epochs=12, batch=32, learning_rate=2e-2, label_smoothing=0.0)


def net(width: int, seed: int) -> Any:
    def build() -> Any:
        inputs = keras.Input((FRAMES, BANDS))
        x = keras.layers.BatchNormalization(center=False, scale=False, name="bn0")(inputs)
        x = keras.layers.Dense(width, activation="relu", name="fc1")(keras.layers.Flatten()(x))
        x = keras.layers.Identity(name="embedding")(x)
        return keras.Model(inputs, keras.layers.Dense(CLASSES, name="logits")(x))

    return train.seeded(build, seed)


def clips(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-30, 8, (count, FRAMES, BANDS)).astype(np.float32)


def softmax(x: np.ndarray) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_loss_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    labels, teacher, student = np.eye(3)[[0, 2]], rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    wanted_features, features = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    mix = Mix(temperature=2.0, labels=0.25, features=0.5)
    hard = -(labels * np.log(softmax(student))).sum(axis=1)
    p, q = softmax(teacher / 2), softmax(student / 2)
    soft = 4 * (p * np.log(p / q)).sum(axis=1)
    distance = ((wanted_features - features) ** 2).mean(axis=1)
    wanted = np.concatenate([labels, teacher, wanted_features], axis=1).astype(np.float32)
    given = np.concatenate([student, features], axis=1).astype(np.float32)
    value = keras.ops.convert_to_numpy(loss(3, mix)(wanted, given))
    np.testing.assert_allclose(value, 0.25 * hard + 0.75 * soft + 0.5 * distance, rtol=1e-5)


def test_student_follows_the_teacher_where_labels_mislead() -> None:
    teacher = net(16, 1)
    x, test = clips(400, 0), clips(400, 1)
    train.adapt(teacher, x)
    truth = train.predict(teacher, test).argmax(axis=1)
    noise = np.random.default_rng(2).integers(0, CLASSES, len(x))
    taught, misled = net(16, 3), net(16, 3)
    distil(taught, teacher, x, noise, recipe=RECIPE, seed=0, mix=Mix(labels=0.0))
    distil(misled, teacher, x, noise, recipe=RECIPE, seed=0, mix=Mix(labels=1.0))
    followed = tasks.accuracy(train.predict(taught, test), truth)
    assert followed > 0.8
    assert followed > tasks.accuracy(train.predict(misled, test), truth) + 0.3


def test_features_are_matched_and_the_projection_dropped() -> None:
    teacher, x = net(16, 1), clips(300, 0)
    y = train.predict(teacher, x).argmax(axis=1)
    student = net(5, 2)
    before = [copied(v) for v in student.variables]
    history = distil(student, teacher, x, y, (x, y), recipe=RECIPE, seed=0, mix=Mix(features=1.0))
    assert student.output_shape == (None, CLASSES)
    assert cost.parameters(student) == FRAMES * BANDS * 5 + 5 + 5 * CLASSES + CLASSES
    assert history.loss[-1] < history.loss[0]
    assert not np.array_equal(before[0], copied(student.variables[0]))
    last = tasks.cross_entropy(train.predict(student, x), y)
    assert last == pytest.approx(history.validation_loss[-1], rel=1e-4)


def test_teachers_of_every_kind_say_the_same() -> None:
    teacher, x = net(8, 1), clips(20, 0)
    logits = train.predict(teacher, x)
    for kind in (teacher, logits, lambda features: train.predict(teacher, features)):
        np.testing.assert_array_equal(heard(kind, x, CLASSES), logits)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        (np.zeros((20, 4), np.float32), r"gives logits \(20, 4\); the student needs \(20, 3\)"),
        (np.zeros((19, 3), np.float32), r"the student needs \(20, 3\)"),
        (np.full((20, 3), np.nan, np.float32), "not finite"),
    ],
)
def test_teachers_that_do_not_fit(teacher: np.ndarray, message: str) -> None:
    student, x = net(4, 0), clips(20, 0)
    before = [copied(v) for v in student.variables]
    with pytest.raises(UserError, match=message):
        distil(student, teacher, x, np.zeros(20, int), recipe=RECIPE, seed=0)
    assert all(np.array_equal(a, copied(b)) for a, b in zip(before, student.variables, strict=True))


def test_features_need_a_teacher_that_has_them() -> None:
    logits = np.zeros((20, 3), np.float32)
    with pytest.raises(UserError, match="no layer 'embedding'"):
        distil(
            net(4, 0), logits, clips(20, 0), np.zeros(20, int), recipe=RECIPE, seed=0, mix=Mix(features=1.0)
        )
