"""The front end of torchlibrosa: features of the official code, the frames of a clip, clips too short."""

from __future__ import annotations

import numpy as np
import official_golden
import pytest

from boards.errors import UserError
from models import fronts
from models.fronts.librosa_mel import LibrosaMel, mel_filters


@pytest.mark.parametrize("bands", [64, 224])
def test_features_are_the_official_ones(bands: int) -> None:
    _, golden = official_golden.read("librosa_mel")
    wave = golden["wave"]
    front = LibrosaMel(bands=bands, samples=wave.size)
    found = front.of(wave)
    assert found.shape == (front.frames, front.features) == golden[f"decibels{bands}"].shape
    np.testing.assert_allclose(found, golden[f"decibels{bands}"], atol=2e-3)  # dB; float32 sums
    assert np.abs(found - golden[f"decibels{bands}"]).mean() < 1e-4


def test_ten_seconds_are_the_papers_frames() -> None:
    front = LibrosaMel()
    assert (front.frames, front.features, front.samples) == (1001, 64, 320_000)
    assert front.lasting(1.0).frames == 101
    quiet = fronts.features(np.zeros(320_000, np.int16), front)
    assert quiet.shape == (1001, 64)
    np.testing.assert_allclose(quiet, -100, atol=1e-4)


def test_clips_are_cut_or_padded_with_silence() -> None:
    front = LibrosaMel(samples=3200)
    sound = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
    np.testing.assert_array_equal(front.of(sound), front.of(sound[:3200]))
    padded = front.of(sound[:1000])
    assert padded[0].min() > -40
    np.testing.assert_allclose(padded[-3:], -100, atol=1e-4)


def test_bands_have_equal_area() -> None:
    filters = mel_filters(LibrosaMel(window=16_384, samples=16_384))
    assert filters.shape == (8_193, 64)
    np.testing.assert_allclose(filters.sum(axis=0) * 32_000 / 16_384, 1, rtol=0.02)


def test_an_input_that_cannot_be_reflected_is_refused() -> None:
    with pytest.raises(UserError, match="512 samples are too few for a centred window of 1024: give 513"):
        LibrosaMel(samples=512)
