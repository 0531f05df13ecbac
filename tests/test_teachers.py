"""Teachers: names, sharing by the cache, the same sound for every front end, and what others have said."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from boards.errors import UserError
from models import checkpoint, examples, registry, train
from models.data.augment import Augmentation
from models.examples import Hearing
from models.frontend import FrontEnd
from models.train import Recipe
from quantize import jobs, prepare, stored_teacher, teachers
from quantize.cache import Cache
from quantize.prepare import Splits
from quantize.stored_teacher import PENALTIES, probe
from quantize.teachers import Lesson, Trained

FEW = 6
HEARING = Hearing(16_000, 16_000)


def silent(*_: Any) -> None:
    """Report nothing."""


@pytest.fixture(scope="module")
def splits() -> Splits:
    return prepare.load("synthetic", held_out=None, seed=1, clips_per_class=FEW)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("lite", "panns/lite"),
        ("tiny_transformer/lite", "tiny_transformer/lite"),
        ("panns/lite*3", "panns/lite*3"),
        ("lite*2", "panns/lite*2"),
        ("none", "none"),
    ],
)
def test_names_of_teachers(text: str, wanted: str) -> None:
    assert teachers.identity(registry.load("panns"), "micro", text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pans/lite", "did you mean 'panns'"),
        ("panns/light", "panns has no size 'light'; known: full"),
        ("panns/lite*0", "1 to 16 teachers"),
        ("panns/lite*99", "1 to 16 teachers"),
        ("huge", "FAMILY/SIZE, or a file that ends in"),
        ("a/b/c", "FAMILY/SIZE"),
    ],
)
def test_names_of_no_teacher(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        teachers.identity(registry.load("panns"), "micro", text)
    assert "\n" not in str(caught.value)


def test_a_recipe_may_name_another_family_but_no_smaller_size_of_its_own() -> None:
    family = registry.load("tiny_transformer")
    recipe = family.recipes["micro"]

    def wished(size: str, teacher: str) -> str:
        changed = replace(family, recipes={size: replace(recipe, teacher=teacher)})
        return teachers.identity(changed, size, None)

    assert wished("micro", "panns/lite*3") == "panns/lite*3"
    assert wished("micro", "lite") == "tiny_transformer/lite"
    assert wished("lite", "micro") == wished("lite", "lite") == wished("micro", "none") == "none"


def test_published_sizes_are_teachers_not_students(splits: Splits) -> None:
    family = registry.load("ssast")
    with pytest.raises(UserError, match="official front end, which no board has") as caught:
        jobs.planned("ssast", next(s for s in family.sizes if s not in ("lite", "micro")), splits)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Ear:
    """A reference front end that gives the waveform itself."""

    sample_rate: int = 16_000
    frames: int = 15_000
    features: int = 1

    @property
    def samples(self) -> int:
        return self.frames

    def lasting(self, seconds: float) -> Ear:
        return self

    def of(self, sound: np.ndarray) -> np.ndarray:
        return sound[:, None]


def test_every_front_end_hears_the_same_versions(splits: Splits) -> None:
    clips = splits.train.clips[:3]
    always = Augmentation(noise_chance=1.0, room_chance=1.0)
    long, short = (
        examples.changed(clips, Ear(frames=frames), HEARING, 3, always, 7) for frames in (16_000, 15_000)
    )
    np.testing.assert_array_equal(long[:, :15_000], short)
    assert not np.array_equal(long[:3], long[3:6])
    twice = examples.changed(clips, Ear(32_000, 32_000), HEARING, 3, always, 7)
    level = np.abs(long).mean()
    assert np.abs(twice[:, ::2] - long)[:, 100:-100].mean() < 0.1 * level  # the same at another rate
    front = FrontEnd()
    from models import frontend

    first = examples.changed(clips, front, HEARING, 3, always, 7)[4]
    sound = np.rint(long[4, : front.samples, 0] * 32_768).astype(np.int16)
    np.testing.assert_array_equal(first, frontend.to_float(frontend.features(sound, front)))


def test_a_sound_that_is_too_short_is_filled() -> None:
    sound = np.random.default_rng(0).integers(-99, 99, 800).astype(np.int16)
    assert examples.heard(sound, Hearing(16_000, 800), FrontEnd(frames=3)).shape == (3, 40)


def lesson(splits: Splits, seed: int = 0) -> Lesson:
    return Lesson(splits, HEARING, 1.0, seed, 1)


def test_a_trained_teacher_is_shared_and_made_again_when_damaged(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[int] = []

    def fit(*_: Any, seed: int, **__: Any) -> None:
        fitted.append(seed)

    monkeypatch.setattr(train, "fit_on_arrays", fit)
    kept, features = Cache(tmp_path / "kept"), Cache(tmp_path / "features")
    who, student = Trained("tiny_transformer", "lite", 2), Recipe(epochs=1, examples=1, pool=1)

    def taught(seed: int = 0) -> teachers.Teacher:
        return teachers.trained(who, lesson(splits, seed), student, kept, features, silent)

    first = taught()
    assert fitted == [0, 1]
    again = taught()
    assert fitted == [0, 1]
    np.testing.assert_array_equal(first.logits, again.logits)
    assert first.logits.shape == (len(splits.train), 13)
    assert first.test_outputs is not None
    assert len(first.test_outputs) == len(first.test.owner)
    alone = [
        teachers.trained(
            Trained("tiny_transformer", "lite"), lesson(splits, 0), student, kept, features, silent
        ).logits,
        *(checkpoint.read(p)["logits"] for p in sorted((tmp_path / "kept").glob("said-*"))),
    ]
    assert fitted == [0, 1]
    np.testing.assert_allclose(first.logits, (alone[1] + alone[2]) / 2, atol=1e-6)
    for path in (tmp_path / "kept").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:500])
    np.testing.assert_array_equal(taught().logits, first.logits)  # of the same initial weights
    assert fitted == [0, 1, 0, 1]
    taught(seed=5)
    assert fitted[4:] == [5, 6]


def test_what_decides_a_teacher_is_in_its_name(splits: Splits) -> None:
    who = Trained("panns", "lite")
    base = lesson(splits).settings(who, 0)
    others = [
        lesson(splits).settings(who, 1),
        lesson(splits).settings(Trained("panns", "micro"), 0),
        replace(lesson(splits), epochs=2).settings(who, 0),
        replace(lesson(splits), hearing=Hearing(8_000, 8_000)).settings(who, 0),
        replace(lesson(splits), seconds=2.0).settings(who, 0),
    ]
    assert all(other != base for other in others)


def stored(path: Path, splits: Splits, **arrays: np.ndarray) -> stored_teacher.Stored:
    checkpoint.write(path, arrays)
    return stored_teacher.hear(path, stored_teacher.read(path), splits)


def everything(splits: Splits) -> tuple[np.ndarray, np.ndarray]:
    clips = [clip for part in (splits.test, splits.train, splits.validation) for clip in part.clips]
    return np.array([clip.name for clip in clips]), np.array([clip.label for clip in clips])


def test_logits_of_the_same_labels_are_taken_in_their_order(splits: Splits, tmp_path: Path) -> None:
    names, _ = everything(splits)
    logits = np.random.default_rng(0).normal(size=(len(names), 13)).astype(np.float32)
    turned = np.roll(np.array(splits.labels), 3)
    said = stored(tmp_path / "t.npz", splits, names=names, logits=np.roll(logits, 3, axis=1), labels=turned)
    test = len(splits.test)
    np.testing.assert_array_equal(said.logits, logits[test : test + len(splits.train)])
    assert said.test_outputs is not None
    np.testing.assert_array_equal(said.test_outputs, logits[:test])
    assert said.what == "t.npz, logits"


def test_an_embedding_of_other_labels_teaches_by_a_probe(splits: Splits, tmp_path: Path) -> None:
    names, labels = everything(splits)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(13, 20))
    embedding = (centres[labels] + 0.3 * rng.normal(size=(len(names), 20))).astype(np.float32)
    other = rng.normal(size=(len(names), 5)).astype(np.float32)
    said = stored(
        tmp_path / "t.npz",
        splits,
        names=names,
        embedding=embedding,
        logits=other,
        labels=np.array(list("abcde")),
        teacher=np.array("ssast full"),
    )
    assert said.what == "ssast full, linear probe"
    assert said.test_outputs is not None
    right = (said.test_outputs.argmax(axis=1) == splits.test.classes).mean()
    assert right > 0.9
    # the probe never sees what the test clips are
    known = replace(splits.test, clips=tuple(replace(c, label=0) for c in splits.test.clips))
    blind = stored(tmp_path / "t2.npz", replace(splits, test=known), names=names, embedding=embedding)
    np.testing.assert_array_equal(blind.logits, said.logits)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_probe_is_at_the_least_loss(penalty: float) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 6)), rng.integers(0, 3, 90)
    found = probe(x, y, 3, penalty)
    logits = x @ found.weights + found.bias
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    slope = x.T @ (shares - np.eye(3)[y]) / 90 + penalty * found.weights
    assert np.abs(slope).max() < 1e-4
    assert np.abs((shares - np.eye(3)[y]).mean(axis=0)).max() < 1e-4


def test_probe_of_values_is_ridge_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    x -= x.mean(axis=0)
    wanted = rng.normal(size=(5, 2))
    found = probe(x, (x @ wanted + 2.0).astype(np.float32), 2, 1e-6)
    np.testing.assert_allclose(found.weights, wanted, atol=1e-3)
    np.testing.assert_allclose(found.bias, 2.0, atol=1e-3)


def with_nan(count: int) -> np.ndarray:
    values = np.ones((count, 4), np.float32)
    values[2, 1] = np.nan
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": None}, "needs `names` and `logits` or `embedding`"),
        ({"embedding": np.ones((3, 4), np.float32)}, r"`embedding` is float32 \(3, 4\); floats \("),
        ({"embedding": np.ones(78, np.int64)}, "`embedding` is int64"),
        ({"embedding": with_nan}, "`embedding` of .* is NaN or infinite"),
        ({"labels": np.array(["a", "b"]), "logits": np.ones((78, 3), np.float32)}, "2 `labels` for `logits`"),
        (
            {"names": np.array([f"x{i}" for i in range(78)])},
            "says nothing of .* training clips, the first is",
        ),
    ],
)
def test_files_that_cannot_teach(
    change: dict[str, Any], message: str, splits: Splits, tmp_path: Path
) -> None:
    names, _ = everything(splits)
    assert len(names) == 78
    arrays: dict[str, Any] = {"names": names, "embedding": np.ones((78, 4), np.float32), **change}
    made = {k: v(78) if callable(v) else v for k, v in arrays.items() if v is not None}
    with pytest.raises(UserError, match=message) as caught:
        stored(tmp_path / "t.npz", splits, **made)
    assert "\n" not in str(caught.value)
