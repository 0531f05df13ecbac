"""Augmentation: levels, ratios and shapes are what they say, and a seed repeats them."""

import numpy as np
import pytest
from scipy import signal

from models.data import augment as a
from models.data.augment import Augmentation

RATE = 16_000
CLIP = np.rint(np.random.default_rng(1).normal(0, 2_000, RATE)).astype(np.int16)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_seed_repeats_the_chain() -> None:
    noises = [CLIP[::-1].copy(), CLIP[:500]]
    for sounds in ((), noises):
        first, again, other = (a.augment(CLIP, RATE, rng(seed), Augmentation(), sounds) for seed in (7, 7, 8))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
        assert (first.shape, first.dtype) == (CLIP.shape, np.int16)


def test_nothing_switched_on_changes_nothing() -> None:
    off = Augmentation(shift=0.0, gain_db=(0.0, 0.0), noise_chance=0.0, room_chance=0.0)
    assert np.array_equal(a.augment(CLIP, RATE, rng(), off), CLIP)


@pytest.mark.parametrize("by", [-3_000, -1, 0, 1, 3_000])
def test_shift(by: int) -> None:
    out = a.shift(CLIP, by)
    assert out.shape == CLIP.shape
    if by >= 0:
        assert np.array_equal(out[by:], CLIP[: RATE - by])
    else:
        assert np.array_equal(out[:by], CLIP[-by:])


@pytest.mark.parametrize("db", [-20.0, -6.0, 0.0, 6.0])
def test_gain(db: float) -> None:
    assert a.gain(CLIP, db).std() == pytest.approx(CLIP.std() * 10 ** (db / 20), rel=1e-3)


def test_gain_never_clips() -> None:
    assert 32_766 <= np.abs(a.gain(CLIP, 60.0).astype(int)).max() <= 32_767
    assert not a.gain(np.zeros(9, np.int16), 60.0).any()


@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_has_the_asked_ratio(snr: float) -> None:
    x, noise = CLIP.astype(float), rng().normal(0, 3.0, RATE)
    added = a.add_noise(x, noise, snr) - x
    assert 20 * np.log10(x.std() / added.std()) == pytest.approx(snr, abs=0.01)


def test_silence_gets_no_noise_and_no_nan() -> None:
    silence = np.zeros(100)
    assert not a.add_noise(silence, np.ones(100), 0.0).any()
    assert not a.convolve(silence, np.ones(9)).any()
    assert not a.augment(
        np.zeros(RATE, np.int16), RATE, rng(3), Augmentation(noise_chance=1, room_chance=1)
    ).any()


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_colour_of_noise(exponent: float) -> None:
    noise = a.coloured(1 << 17, exponent, rng())
    hz, power = signal.welch(noise, RATE, nperseg=2_048)
    band = (hz > 100) & (hz < 7_000)
    slope = np.polyfit(np.log10(hz[band]), np.log10(power[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.12)
    assert a.rms(noise) == pytest.approx(1.0)


@pytest.mark.parametrize("rt60", [0.2, 0.5])
def test_room_decays_as_asked(rt60: float) -> None:
    """Schroeder integration of many responses gives the reverberation time back."""
    tails = [a.room_response(RATE, rt60, 0.0, rng(seed))[1:] ** 2 for seed in range(20)]
    left = np.cumsum(np.mean(tails, axis=0)[::-1])[::-1]
    db = 10 * np.log10(left / left[0])
    fit = np.flatnonzero((db < -5) & (db > -25))
    slope = np.polyfit(fit / RATE, db[fit], 1)[0]
    assert 0.6 * rt60 < -60 / slope < 1.1 * rt60  # high bands decay in two thirds of it


def test_direct_sound_has_the_asked_share() -> None:
    response = a.room_response(RATE, 0.4, 6.0, rng())
    assert 10 * np.log10(response[0] ** 2 / (response[1:] ** 2).sum()) == pytest.approx(6.0, abs=0.01)


def test_convolution_agrees_with_scipy() -> None:
    response = a.room_response(RATE, 0.3, 0.0, rng())
    x = CLIP.astype(float)
    want = signal.fftconvolve(x, response)[:RATE]
    want *= a.rms(x) / a.rms(want)
    assert np.abs(a.convolve(x, response) - want).max() < 1e-6


@pytest.mark.parametrize("size", [1, 100, RATE, 3 * RATE])
def test_noise_of_any_length_fits(size: int) -> None:
    assert a.stretch(np.ones(size), RATE, rng()).shape == (RATE,)


def test_spec_augment_masks_only_what_it_may() -> None:
    x = rng().normal(size=(49, 40)).astype(np.float32)
    out = a.spec_augment(x, rng(5))
    changed = out != x
    assert out.dtype == np.float32
    assert 0 < changed.mean() < 0.6
    rows = changed.all(axis=1).sum()
    assert rows <= 2 * int(0.15 * 49)
    assert np.allclose(out[changed], x.mean())


def test_mixup_blends_features_and_targets_alike() -> None:
    x = np.repeat(np.eye(6, dtype=np.float32)[:, :, None], 4, axis=2)
    targets = np.eye(6, dtype=np.float32)
    features, blended = a.mixup(x, targets, rng(2), alpha=1.0)
    assert np.allclose(features[:, :, 0], blended)
    assert np.allclose(blended.sum(axis=1), 1.0)
    assert (blended.max(axis=1) < 1.0).any()
    assert features.dtype == blended.dtype == np.float32
