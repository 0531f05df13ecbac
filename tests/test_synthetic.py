"""The built-in set: deterministic, varied, hard but not too hard, and quick."""

import time

import numpy as np
import pytest

from boards.errors import UserError
from models import data
from models.data import synthetic


@pytest.fixture(scope="module")
def dataset():
    return synthetic.make(seed=0, clips_per_class=40)


@pytest.fixture(scope="module")
def sounds(dataset):
    return np.stack([clip.samples() for clip in dataset.clips])


def test_ten_classes_and_more(dataset) -> None:
    assert len(dataset.labels) >= 10
    assert dataset.labels == tuple(sorted(dataset.labels))
    for label in dataset.labels:
        assert data.check_label(label, "synthetic") == label
    assert set(dataset.counts().values()) == {40}


@pytest.mark.parametrize("label", sorted(synthetic.SOUNDS))
def test_each_sound_is_the_same_again_and_differs_from_the_next(label: str) -> None:
    first, again = (synthetic._clip(3, label, 0, 16_000, 1.0) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.int16
    assert first.shape == (16_000,)
    for other in (synthetic._clip(3, label, 1, 16_000, 1.0), synthetic._clip(4, label, 0, 16_000, 1.0)):
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_each_sound_at_other_rates_and_lengths(rate: int, seconds: float) -> None:
    for label in synthetic.SOUNDS:
        assert synthetic._clip(0, label, 0, rate, seconds).shape == (round(rate * seconds),)


def test_levels_are_sane(sounds) -> None:
    level = 20 * np.log10(sounds.astype(float).std(axis=1) / 32_768)
    assert level.min() > -39
    assert level.max() < -13.5
    assert (np.abs(sounds.astype(int)) == 32_768).mean() < 1e-3


def test_another_rate_is_the_same_sound(dataset) -> None:
    clip = dataset.clips[0]
    half = clip.samples(8_000).astype(float)
    whole = clip.samples(16_000).astype(float)
    spectra = [np.abs(np.fft.rfft(x))[10:3_000] for x in (half * 2, whole)]
    assert np.corrcoef(spectra[0], spectra[1])[0, 1] > 0.99


def test_rooms_are_the_groups(dataset) -> None:
    train, validation, test = dataset.split()
    rooms = [set(part.folds) for part in (train, validation, test)]
    assert sum(map(len, rooms)) == synthetic.ROOMS
    assert not rooms[0] & rooms[2]
    assert all(len(set(part.counts().values())) == 1 for part in (train, validation, test))


def test_hash_follows_the_recipe(dataset) -> None:
    assert dataset.sha256() == synthetic.make(0, 40).sha256()
    others = {
        synthetic.make(1, 40).sha256(),
        synthetic.make(0, 41).sha256(),
        synthetic.make(0, 40, 8_000).sha256(),
    }
    assert dataset.sha256() not in others
    assert len(others) == 3


def test_quick(dataset) -> None:
    start = time.process_time()
    for clip in dataset.clips[::2]:
        clip.samples()
    assert (time.process_time() - start) / (len(dataset) / 2) < 0.015  # 1,000 clips in 15 s on one core


def spectra(sounds) -> np.ndarray:
    frames = sounds.reshape(len(sounds), 40, 400).astype(float) * np.hanning(400)
    power = np.abs(np.fft.rfft(frames, axis=2)) ** 2
    return np.log(power[:, :, :160].reshape(len(sounds), 40, 20, 8).mean(axis=3) + 1.0)


def test_hard_but_learnable(dataset, sounds) -> None:
    """The mean spectrum alone says something and far from everything: the sounds overlap."""
    mean = spectra(sounds).mean(axis=1)
    mean -= mean.mean(axis=1, keepdims=True)
    rooms = np.array([clip.group for clip in dataset.clips])
    seen = np.isin(rooms, sorted(set(rooms))[:15])
    centres = np.stack([mean[seen & (dataset.classes == k)].mean(axis=0) for k in range(len(dataset.labels))])
    guess = ((mean[~seen, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    accuracy = (guess == dataset.classes[~seen]).mean()
    assert 2 / len(dataset.labels) < accuracy < 0.7


def test_glides_go_where_they_say(dataset, sounds) -> None:
    """In loud clips the loudest frequency rises in whistle_up and falls in whistle_down."""
    for label, sign in (("whistle_up", 1), ("whistle_down", -1)):
        slopes = []
        for number in range(60):
            dry = synthetic.SOUNDS[label](16_000, 16_000, np.random.default_rng(number))
            frames = np.abs(np.fft.rfft(dry.reshape(40, 400) * np.hanning(400), axis=1))
            loud = frames.max(axis=1) > 0.3 * frames.max()
            if loud.sum() > 3:
                slopes.append(np.polyfit(np.flatnonzero(loud), frames.argmax(axis=1)[loud], 1)[0] * sign)
        assert np.mean(np.array(slopes) > 0) > 0.9


def test_scene_holds_what_it_says() -> None:
    samples, events = synthetic.scene(seed=5, events=6)
    assert samples.dtype == np.int16
    assert samples.size == 16_000 * 13
    assert [event.start for event in events] == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]
    assert len({event.label for event in events}) == 6
    level = np.abs(samples.astype(float))
    inside = np.concatenate([level[int(e.start * 16_000) : int(e.end * 16_000)] for e in events])
    assert inside.mean() > 1.5 * level[:16_000].mean()
    again, _ = synthetic.scene(seed=5, events=6)
    assert np.array_equal(samples, again)


@pytest.mark.parametrize(
    "bad", [{"clips_per_class": 0}, {"rate": 100}, {"seconds": 0.0}, {"seconds": float("nan")}]
)
def test_impossible_sets_are_refused(bad) -> None:
    with pytest.raises(UserError, match="are possible"):
        synthetic.make(**bad)
