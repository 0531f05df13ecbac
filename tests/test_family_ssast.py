"""SSAST: the official outputs and losses, both kinds of masks, the pretraining, and the official counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import official_golden
import pytest

from boards.errors import UserError
from models import official, registry, ssast, train
from models.blocks import cost
from models.blocks.attention import Encoder, Layer
from models.blocks.masked_patches import Hidden, MaskedPatches
from models.blocks.patches import Patches, resampled

TINY = Encoder(24, 0, (Layer(3, 8, 96),) * 2, activation="gelu", norm="pre")
PATCHES = replace(ssast.FULL, encoder=TINY, learned=(8, 16))
FRAMES = replace(ssast.by_frames(PATCHES), learned=(1, 32))
FINE = {  # golden -> the fine-tuning: shorter than the pretraining, or with smaller steps
    "ssast": replace(PATCHES, seconds=1.0, patches=Patches((16, 16), (10, 10))),
    "ssast-frame": replace(FRAMES, seconds=0.5, patches=Patches((128, 2), (128, 1))),
}
PRETRAINING = {"ssast": replace(PATCHES, seconds=2.56), "ssast-frame": replace(FRAMES, seconds=0.64)}


def given(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", FINE)
def test_official_weights_give_the_official_logits(name: str) -> None:
    state, golden = official_golden.read(name)
    net = ssast.net(FINE[name], 5)
    assert official.load(net, state, ssast.official(FINE[name])) == ()
    x = given((2, *net.input_shape[1:]), 2)
    np.testing.assert_allclose(train.predict(net, x), golden["logits"], atol=1e-4)


@pytest.mark.parametrize("name", FINE)
def test_official_weights_give_the_official_losses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state, golden = official_golden.read(name)
    monkeypatch.setattr(Hidden, "call", lambda self, x: keras.ops.convert_to_tensor(golden["places"]))
    config = replace(PRETRAINING[name], pretraining=MaskedPatches(golden["places"].shape[1]))
    model = ssast.objective(config, 5)
    official.load(model, state, ssast.official(config))
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    x = given((2, *model.input_shape[1:]), 1)
    wanted = golden["contrast"] + 10 * golden["error"]
    assert model.evaluate(x, verbose=0) == pytest.approx(wanted, abs=1e-4)
    assert np.mean(model.predict(x, verbose=0)) == pytest.approx(golden["right"])


@pytest.mark.parametrize(
    ("size", "encoder", "module", "unused"),
    [
        ("full", 85_649_664, 88_763_346, 1_538_000),
        ("small", 21_591_168, 22_854_354, 770_000),
        ("tiny", 5_487_168, 6_046_290, 386_000),
    ],
)
def test_official_counts(size: str, encoder: int, module: int, unused: int) -> None:
    config = ssast.SIZES[size]
    net = cost.shape_only(lambda: ssast.net(config, 527))
    width = config.encoder.width
    assert cost.parameters(net) - (2 * width + 527 * width + 527) == encoder
    pretraining = cost.shape_only(lambda: ssast.objective(config, 527))
    heads = 2 * (width * 1_000 + 1_000)  # timm's, which nothing uses
    assert heads == unused
    assert cost.parameters(pretraining) + heads + 2 == module  # 2: the bands and frames of the pretraining


def test_squares_are_hidden_without_repetition() -> None:
    layer = Hidden(400, (3, 4, 5), (8, 64))
    keras.utils.set_random_seed(0)
    places = np.asarray(layer(np.zeros((6, 512, 4), np.float32)))
    assert places.shape == (6, 400)
    assert all(len(set(row)) == 400 for row in places)
    assert not np.array_equal(np.sort(places[0]), np.sort(places[1]))


@pytest.mark.parametrize(("clusters", "neighbours"), [((1,), 0.3), ((5,), 0.7)])
def test_clusters_have_neighbours(clusters: tuple[int, ...], neighbours: float) -> None:
    layer = Hidden(120, clusters, (8, 64))
    keras.utils.set_random_seed(0)
    shown = np.ones((20, 512))
    np.put_along_axis(shown, np.asarray(layer(np.zeros((20, 512, 1), np.float32))), 0, axis=1)
    hidden = shown.reshape(20, 8, 64) == 0
    share = (hidden[:, :, 1:] & hidden[:, :, :-1]).sum() / hidden[:, :, 1:].sum()
    assert share > neighbours if clusters == (5,) else share < neighbours


def test_something_must_stay_to_be_seen() -> None:
    with pytest.raises(UserError, match=r"24 hidden patches of 1·24: at least one must stay"):
        ssast.objective(replace(ssast.MICRO, pretraining=MaskedPatches(24, (1,))), 3)


@pytest.mark.parametrize("size", ["lite", "micro"])
def test_pretraining_lowers_the_loss(size: str) -> None:
    config = replace(ssast.SIZES[size], encoder=replace(ssast.MICRO.encoder, layers=(Layer(4, 16, 64),)))
    model = train.seeded(lambda: ssast.objective(config, 3), 0)
    x = np.repeat(np.repeat(given((16, 14, 8), 0), 7, 1), 8, 2)[:, : model.input_shape[1]]
    model.compile(keras.optimizers.Adam(3e-3), **train.compile_options())
    loss = model.fit(x, batch_size=16, epochs=25, verbose=0).history["loss"]
    assert loss[-1] < 0.8 * loss[0]


def test_pretrained_weights_have_the_names_of_the_net() -> None:
    net, model = ssast.net(ssast.MICRO, 3), ssast.objective(ssast.MICRO, 3)
    shared = set(cost.weights(net)) & set(cost.weights(model))
    own = {name for name in cost.weights(net) if not name.startswith(("head_norm/", "logits/"))}
    assert shared == own


def test_positions_are_cut_in_the_middle_and_stretched_between() -> None:
    table = np.arange(2 + 8 * 16, dtype=np.float32)[:, None]
    cut = resampled(table, 2, (8, 16), (8, 4))
    np.testing.assert_array_equal(cut[:6, 0], [0, 1, 8, 9, 10, 11])
    stretched = resampled(table, 2, (8, 16), (8, 32))
    np.testing.assert_allclose(stretched[2:6, 0], [2, 2.25, 2.75, 3.25])
    assert resampled(cut, 2, (8, 16), (8, 4)) is cut


def test_a_clip_shorter_than_a_patch_is_refused() -> None:
    with pytest.raises(UserError, match="10 frames of 128 bands hold no patch of 16 frames and 16 bands"):
        ssast.net(replace(PATCHES, seconds=0.1), 3)


def test_a_checkpoint_of_something_else_is_refused() -> None:
    state, _ = official_golden.read("ssast-frame")
    net = ssast.net(FINE["ssast"], 5)
    with pytest.raises(UserError, match=r"v\.patch_embed\.proj\.weight .* does not fit patch/kernel"):
        official.load(net, state, ssast.official(FINE["ssast"]))
    renamed = {key.replace("norm1", "ln1"): value for key, value in state.items()}
    frames: Any = ssast.net(FINE["ssast-frame"], 5)
    with pytest.raises(UserError, match=r"no v\.blocks\.0\.norm1\.weight .*; nearest: v\.blocks\.0\.\w+"):
        official.load(frames, renamed, ssast.official(FINE["ssast-frame"]))


def test_a_pretrained_file_has_no_classifier() -> None:
    state, _ = official_golden.read("ssast")
    net = ssast.net(FINE["ssast"], 5)
    pretrained = {key: value for key, value in state.items() if "mlp_head" not in key}
    lacking = official.load(net, pretrained, ssast.official(FINE["ssast"]))
    assert set(lacking) == {"head_norm/gamma", "head_norm/beta", "logits/kernel", "logits/bias"}


def test_every_published_size_is_listed() -> None:
    assert set(registry.card("ssast").sizes) == set(ssast.SIZES) == set(ssast.RECIPES)
