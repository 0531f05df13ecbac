"""PaSST's front end against the official one, on drawn waveforms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import official_golden
import pytest

from boards.errors import UserError
from models.fronts.passt_mel import PasstMel

WAVE = (0.3 * np.random.default_rng(1).normal(size=8000)).astype(np.float32)


@pytest.mark.parametrize(("key", "hop"), [("features", 320), ("hop100", 100)])
def test_features_are_the_official_ones(key: str, hop: int) -> None:
    _, wanted = official_golden.read("passt-mel")
    front = PasstMel(hop=hop, samples=len(WAVE))
    found = front.of(WAVE)
    assert found.shape == (front.frames, front.features)
    np.testing.assert_allclose(found[: len(wanted[key])], wanted[key], atol=1e-4)


def test_ten_seconds_are_a_thousand_frames() -> None:
    front = PasstMel()
    assert (front.frames, front.samples, front.lasting(20.0).frames) == (1000, 320_000, 2000)
    assert replace(front, hop=100).frames == 3200


def test_short_sounds_are_padded_and_long_ones_cut() -> None:
    front = PasstMel(samples=8000)
    np.testing.assert_array_equal(front.of(WAVE[:5000]), front.of(np.pad(WAVE[:5000], (0, 3000))))
    np.testing.assert_array_equal(front.of(WAVE), front.of(np.tile(WAVE, 2)))


def test_an_input_that_cannot_be_reflected_is_refused() -> None:
    with pytest.raises(UserError, match=r"513 samples are too few .*give 514 or more"):
        PasstMel().lasting(513 / 32_000)
