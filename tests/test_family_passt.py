"""PaSST: the official outputs, patchout in training and as a dial, HEAR embeddings, the tagging objective."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import official_golden
import pytest

from boards.errors import UserError
from models import official, passt, registry, train
from models.blocks import cost
from models.blocks.attention import Encoder, Layer
from models.blocks.patches import Patches
from models.blocks.patchout import DisentangledPositions, PatchesOut, Patchout
from models.fronts.passt_mel import PasstMel

UNUSED_HEAD = 527 * 769  # of the distillation token; the official code counts it
OFFICIAL = {
    "full": 86_153_758,
    "s16": 86_122_270,
    "hop100": 86_323_486,
    "20s": 86_231_326,
    "30s": 86_308_126,
    "light": 50_714_398,
}


def small(seconds: float, bands: int = 32, **changes: Any) -> passt.Config:
    """Return the Config of the golden: patches of 8 × 8 every 6, width 24, 2 layers of 3 heads."""
    encoder = Encoder(24, 0, (Layer(3, 8, 96),) * 2, activation="gelu", norm="pre")
    front = PasstMel(bands=bands)
    config = passt.Config(front, seconds, 1000, Patches((8, 8), (6, 6)), encoder, learned=10, special=2)
    return replace(config, **changes)


def lasting(frames: int) -> float:
    return (1 + 320 * (frames - 1)) / 32_000


@pytest.mark.parametrize("size", OFFICIAL)
def test_the_unused_head_is_all_that_the_official_code_has_more(size: str) -> None:
    assert registry.card("passt").sizes[size].parameters + UNUSED_HEAD == OFFICIAL[size]


def test_official_weights_give_the_official_outputs() -> None:
    state, golden = official_golden.read("passt")
    config = small(lasting(62))
    net = passt.net(config, 5)
    assert official.load(net, state, passt.official(config)) == ()
    told = keras.Model(net.input, [net.get_layer("embedding").output, net.output])
    embedding, logits = (np.asarray(value) for value in told(golden["x"], training=False))
    np.testing.assert_allclose(embedding, golden["embedding"], atol=1e-4)
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)


def test_a_shorter_clip_takes_the_first_positions() -> None:
    state, golden = official_golden.read("passt")
    config = small(lasting(38))
    net = passt.net(config, 5)
    official.load(net, state, passt.official(config))
    np.testing.assert_allclose(train.predict(net, golden["x"][:, :38]), golden["short"], atol=1e-4)


def test_a_checkpoint_of_something_else_is_refused() -> None:
    state, _ = official_golden.read("passt")
    config = small(lasting(62))
    layout = passt.official(config)
    wrong = {key.replace("freq_new_pos", "freq_pos"): value for key, value in state.items()}
    with pytest.raises(UserError, match=r"no freq_new_pos_embed .*nearest: freq_pos_embed"):
        official.load(passt.net(config, 5), wrong, layout)
    with pytest.raises(UserError, match="kkoutini/PaSST"):
        official.load(passt.net(config, 5), {**state, "pos_embed": np.zeros(3)}, layout)


def test_more_time_than_positions_is_refused() -> None:
    with pytest.raises(UserError, match="16 columns of patches, but 10 positions of time"):
        passt.net(small(lasting(100)), 3)


@pytest.mark.parametrize(
    ("out", "left"),
    [(Patchout(columns=4), 30), (Patchout(rows=2), 30), (Patchout(patches=7), 43), (Patchout(4, 2, 5), 13)],
)
def test_patchout_leaves_the_patches_that_it_says(out: Patchout, left: int) -> None:
    keras.utils.set_random_seed(0)
    rows, columns = grid = 5, 10
    x = np.arange(rows * columns, dtype=np.float32)[None, :, None].repeat(2, axis=0)
    layer = PatchesOut(grid, drawn=out, thinned=Patchout())
    assert layer(x, training=False).shape == x.shape
    drawn = [np.asarray(layer(x, training=True)) for _ in range(20)]
    for kept in drawn:
        assert kept.shape == (2, left, 1)
        np.testing.assert_array_equal(kept[0], kept[1])  # one draw for the batch
        assert (np.diff(kept[0, :, 0]) > 0).all()  # in order, no patch twice
    assert len({kept.tobytes() for kept in drawn}) > 1
    assert set(np.concatenate(drawn).ravel()) == set(range(rows * columns))


def test_structured_patchout_takes_whole_rows_and_columns() -> None:
    keras.utils.set_random_seed(0)
    x = np.arange(50, dtype=np.float32)[None, :, None]
    kept = np.asarray(PatchesOut((5, 10), Patchout(4, 2), Patchout())(x, training=True)).ravel()
    at = {(int(patch) // 10, int(patch) % 10) for patch in kept}
    rows, columns = {row for row, _ in at}, {column for _, column in at}
    assert (len(rows), len(columns)) == (3, 6)
    assert at == {(row, column) for row in rows for column in columns}


def test_patchout_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="leaves nothing of 5 rows and 10 columns"):
        PatchesOut((5, 10), Patchout(columns=10), Patchout())


def test_shorter_clips_lose_as_large_a_share() -> None:
    assert Patchout(40, 4, 400).among(9, 99) == Patchout(4, 4, 36)
    assert Patchout(40, 4, 400).among(99, 99) == Patchout(40, 4, 400)


def test_the_dial_is_even_deterministic_and_cheaper() -> None:
    whole = small(lasting(62))
    thin = replace(whole, thinned=Patchout(columns=5, rows=2))
    kept = np.asarray(PatchesOut((5, 10), Patchout(), thin.thinned)(np.arange(50.0)[None, :, None]))
    np.testing.assert_array_equal(kept.ravel().reshape(3, 5) % 10, np.tile([0, 2, 4, 7, 9], (3, 1)))
    assert cost.macs(passt.net(thin, 3)) < 0.5 * cost.macs(passt.net(whole, 3))
    dial, all_of = passt.net(thin, 3), passt.net(whole, 3)
    dial.set_weights(all_of.get_weights())  # nothing is retrained
    x = np.random.default_rng(0).normal(size=(2, 62, 32)).astype(np.float32)
    np.testing.assert_array_equal(train.predict(dial, x), train.predict(dial, x))
    assert np.abs(train.predict(dial, x) - train.predict(all_of, x)).max() > 1e-4


def test_positions_start_anywhere_in_training_and_first_in_inference() -> None:
    keras.utils.set_random_seed(0)
    layer = DisentangledPositions((2, 3), 5)
    x = np.zeros((1, 6, 4), np.float32)
    layer(x)
    time, frequency = np.asarray(layer.time), np.asarray(layer.frequency)

    def at(first: int) -> np.ndarray:
        return (frequency[:, None] + time[None, first : first + 3]).reshape(1, 6, 4)

    np.testing.assert_allclose(layer(x, training=False), at(0), atol=1e-7)
    seen = set()
    for _ in range(30):
        found = np.asarray(layer(x, training=True))
        seen |= {first for first in range(3) if np.allclose(found, at(first), atol=1e-7)}
    assert seen == {0, 1, 2}


def hearing() -> tuple[passt.Hear, dict[str, np.ndarray], np.ndarray]:
    state, golden = official_golden.read("passt-hear")
    encoder = Encoder(24, 0, (Layer(3, 8, 96),), activation="gelu", norm="pre")
    config = passt.Config(PasstMel(), 0.5, 1000, Patches((16, 16), (16, 16)), encoder, learned=6, special=2)
    net = passt.net(config, 5)
    official.load(net, state, passt.official(config))
    sound = (0.3 * np.random.default_rng(2).normal(size=24_000)).astype(np.float32)
    return passt.Hear(config, net), golden, sound


def test_scene_embeddings_are_the_official_ones() -> None:
    hear, golden, sound = hearing()
    np.testing.assert_allclose(hear.scene(sound[:12_800]), golden["short"], atol=1e-4)
    np.testing.assert_allclose(hear.scene(sound), golden["scene"], atol=1e-4)  # 0.75 s in windows of 0.5 s


def test_timestamp_embeddings_are_the_official_ones() -> None:
    hear, golden, sound = hearing()
    values, times = hear.stamps(sound, windows=(160, 800))
    np.testing.assert_allclose(values[:, :29], golden["stamps"], atol=1e-4)
    np.testing.assert_allclose(values[:, 29:], golden["wide"], atol=1e-4)
    np.testing.assert_allclose(times, golden["times"])
    assert np.diff(times) == pytest.approx(50)


def test_the_objective_learns_tags_with_patches_left_out() -> None:
    config = small(lasting(62), patchout=Patchout(4, 2, 2))
    model = train.seeded(lambda: passt.objective(config, 3), 0)
    assert model.targets == (3,)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (32, 3)).astype(np.float32)
    x = rng.normal(size=(32, 62, 32)).astype(np.float32) + np.repeat(y, [10, 10, 12], axis=1)[:, None]
    model.compile(keras.optimizers.Adam(3e-3), **train.compile_options())
    losses = model.fit(x, y, epochs=12, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
