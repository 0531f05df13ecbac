"""Kaldi's filterbank: torchaudio's own features, windows, padding, and sounds that are too short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import official_golden
import pytest

from boards.errors import UserError
from models import fronts, registry
from models.fronts.kaldi import Kaldi

AST = Kaldi(30, mean=-4.2677393, std=4.5689974)
BEATS = Kaldi(23, mean=15.41663, std=6.55582, window="povey", gain=2.0**15, centred=False, filled=False)


@pytest.mark.parametrize("front", [AST, BEATS], ids=["hanning", "povey"])
def test_torchaudio_gives_the_same_features(front: Kaldi) -> None:
    _, golden = official_golden.read("kaldi")
    wanted = golden[front.window]
    filled = np.pad(wanted, ((0, front.frames - len(wanted)), (0, 0)))
    found = front.of(golden["wave"])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (filled - front.mean) / (2 * front.std), atol=1e-4)


def test_an_input_covers_its_seconds() -> None:
    assert (AST.lasting(10.24).frames, AST.lasting(10.24).samples) == (1024, 163_840)
    assert (BEATS.lasting(10.0).frames, BEATS.lasting(10.0).samples) == (998, 159_920)
    with pytest.raises(UserError, match="less than one frame of 25 ms"):
        BEATS.lasting(0.02)


def test_long_sounds_are_cut_and_short_ones_filled() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    front = replace(AST, frames=10, centred=False)
    np.testing.assert_array_equal(front.of(sound), front.of(sound[:5_000]))
    empty = (0 - front.mean) / (2 * front.std)
    np.testing.assert_allclose(front.of(sound[:300]), empty, rtol=1e-6)
    np.testing.assert_allclose(front.of(sound[:400])[1:], empty, rtol=1e-6)
    np.testing.assert_allclose(front.of(np.zeros(8_000, np.float32)), front.of(np.zeros(9_000, np.float32)))


def test_int16_goes_in_as_a_fraction_of_one() -> None:
    samples = np.random.default_rng(0).integers(-8_000, 8_000, 5_000).astype(np.int16)
    np.testing.assert_array_equal(
        fronts.features(samples, AST), AST.of((samples / 32_768).astype(np.float32))
    )


def test_a_config_holds_it_as_json() -> None:
    family = registry.load("ssast")
    assert family.from_dict(registry.to_dict(family.sizes["full"])) == family.sizes["full"]
