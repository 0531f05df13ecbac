"""BEATs: the official outputs and codes, gated relative bias, codebook, tokenizer and iterations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import official_golden
import pytest

from boards.errors import UserError
from models import beats, official, train
from models.blocks import cost
from models.blocks.attention import Encoder, Layer
from models.blocks.codebook import Codebook, RandomProjection
from models.blocks.patches import Patches
from models.blocks.patchout import BackInPlace, Shown
from models.blocks.relative_attention import GatedBias, Relative, bucket
from models.fronts.kaldi import Kaldi

UNREAD = 1024 * 256 + 1024  # a second codebook and counts, which the official tokenizer keeps


def small(**changes: Any) -> beats.Config:
    """Return the Config of the golden: patches of 8 × 8, width 24, 2 layers of 3 heads."""
    front = Kaldi(56, 15.41663, 6.55582, bands=32, window="povey", centred=False, filled=False)
    encoder = Encoder(24, 0, (Layer(3, 8, 40),) * 2, activation="gelu", norm="deep", epsilon=1e-5)
    config = beats.Config(
        front,
        0.575,
        56,
        Patches((8, 8), (8, 8)),
        12,
        beats.Convolved(8, 4),
        encoder,
        Relative(16, 12),
        beats.Pretraining(estimator=1, codes=32, code_width=6),
    )
    return replace(config, **changes)


def test_official_weights_give_the_official_outputs() -> None:
    state, golden = official_golden.read("beats")
    net = beats.net(small(), 5)
    assert official.load(net, state, beats.official(small())) == ()
    told = keras.Model(net.input, [net.get_layer("frames").output, net.output])
    frames, logits = (np.asarray(value) for value in told(golden["x"], training=False))
    np.testing.assert_allclose(frames, golden["frames"], atol=1e-4)
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)


def test_an_encoder_without_classifier_leaves_ours_as_it_is() -> None:
    state, golden = official_golden.read("beats")
    encoder = {key: value for key, value in state.items() if not key.startswith("predictor.")}
    net = beats.net(small(), 3)
    assert official.load(net, encoder, beats.official(small())) == ("logits/kernel", "logits/bias")
    frames = keras.Model(net.input, net.get_layer("frames").output)
    np.testing.assert_allclose(train.predict(frames, golden["x"]), golden["frames"], atol=1e-4)


def test_official_tokenizer_gives_the_official_codes() -> None:
    state, golden = official_golden.read("beats-tokenizer")
    tokenizer = beats.tokenizer(small())
    assert official.load(tokenizer, state, beats.official(small())) == ()
    vectors = keras.Model(tokenizer.input, tokenizer.get_layer("code2").output)
    np.testing.assert_allclose(train.predict(vectors, golden["x"]), golden["vectors"], atol=1e-4)
    codes = np.asarray(tokenizer(golden["x"], training=False))
    np.testing.assert_array_equal(codes.ravel(), golden["codes"])


def test_counts_are_those_of_the_paper_s_code() -> None:
    net = cost.shape_only(lambda: beats.net(beats.FULL, 527))
    assert cost.parameters(net) - 527 * 769 == 90_311_792
    del net
    tokenizer = cost.shape_only(lambda: beats.tokenizer(beats.FULL))
    codes = 1024 * 256
    assert cost.parameters(tokenizer) == 91_099_248
    assert cost.parameters(tokenizer) + codes + UNREAD == 91_624_560


def test_a_checkpoint_of_something_else_is_refused() -> None:
    state, _ = official_golden.read("beats")
    layout = beats.official(small())
    wrong = {key.replace("grep_a", "grep_b"): value for key, value in state.items()}
    with pytest.raises(UserError, match=r"no encoder.layers.0.self_attn.grep_a .*nearest: .*grep_b"):
        official.load(beats.net(small(), 5), wrong, layout)
    with pytest.raises(UserError, match="microsoft/unilm"):
        official.load(beats.net(small(), 5), {**state, "mask_emb": np.zeros(3)}, layout)


def test_front_end_is_that_of_the_official_code() -> None:
    front = beats.FULL.front
    assert isinstance(front, Kaldi)
    assert (front.window, front.gain, front.mean, front.std) == ("povey", 32768.0, 15.41663, 6.55582)
    assert front.lasting(10.0).frames == 998
    assert not front.centred


def test_buckets_are_the_official_ones() -> None:
    _, golden = official_golden.read("beats")
    place = np.arange(40)
    np.testing.assert_array_equal(bucket(place[None] - place[:, None], 16, 12), golden["buckets"])
    wide = bucket(np.arange(-900, 901), 320, 800)
    assert (wide[900], wide[899], wide[901], wide[0], wide[-1]) == (0, 1, 161, 159, 319)


def test_gates_start_where_the_bias_counts_once_and_a_half_and_follow_the_query() -> None:
    gate = GatedBias(3)
    query = np.random.default_rng(0).normal(size=(2, 5, 24)).astype(np.float32)
    bias = np.ones((3, 5, 5), np.float32)
    gate(query * 0, bias)
    np.testing.assert_allclose(np.asarray(gate(query * 0, bias)), 1.75)  # ½·(½·1 - 1) + 2
    gate.kernel.assign(np.random.default_rng(1).normal(size=(8, 8)))
    found = np.asarray(gate(query, bias))
    assert np.ptp(found, axis=2).min() > 1e-3  # other queries, other gates
    np.testing.assert_allclose(np.ptp(found, axis=3), 0, atol=1e-6)  # the same for all keys


def test_deepnorm_weighs_the_input_and_starts_small() -> None:
    encoder = beats.FULL.encoder
    assert encoder.alpha == pytest.approx(24**0.25)
    assert encoder.beta == pytest.approx(96**-0.25)
    net = beats.net(small(), 3)
    spread = {part: np.std(net.get_layer(f"layer1_{part}").kernel) for part in ("query", "value")}
    assert spread["value"] / spread["query"] == pytest.approx(16**-0.25, rel=0.1)


def test_codes_follow_their_vectors_as_in_the_official_code() -> None:
    state, golden = official_golden.read("beats-tokenizer")
    book = Codebook(32)
    book(golden["drawn"])
    book.codes.assign(state["quantize.embedding.weight"])
    book.started.assign(1.0)
    _, indices = book(golden["drawn"], training=True)
    np.testing.assert_array_equal(indices, golden["indices"])
    assert float(book.losses[0]) == pytest.approx(float(golden["loss"]), rel=1e-5)
    np.testing.assert_allclose(np.asarray(book.codes), golden["moved"], atol=1e-5)


def test_a_codebook_starts_as_the_clusters_of_the_first_batch() -> None:
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    centres = np.eye(4, 8, dtype=np.float32)
    x = np.repeat(centres, 25, axis=0) + 0.05 * rng.normal(size=(100, 8)).astype(np.float32)
    book = Codebook(12)
    before = np.asarray(book(x)[0] * 0 + book.codes[0])
    _, indices = book(x, training=True)
    assert np.abs(np.asarray(book.codes[0]) - before[0]).max() > 0
    likeness = np.asarray(book.codes) @ centres.T
    assert likeness.max(axis=0).min() > 0.9  # every centre has a code
    for part in np.split(np.asarray(indices), 4):
        others = set(np.asarray(indices)) - set(part)
        assert set(part).isdisjoint(others)
    assert 4 <= len(set(np.asarray(indices))) <= 12


def test_random_labels_are_fixed_and_of_the_patch_alone() -> None:
    layer = RandomProjection(64)
    x = np.random.default_rng(0).normal(size=(3, 40, 24)).astype(np.float32)
    labels = np.asarray(layer(x))
    assert labels.shape == (3, 40)
    assert layer.trainable_weights == []
    assert len(set(labels.ravel())) > 16
    np.testing.assert_array_equal(np.asarray(layer(x[:, ::-1] * 2))[:, ::-1], labels)


def test_three_quarters_are_dropped_and_the_rest_goes_back_in_place() -> None:
    keras.utils.set_random_seed(0)
    x = 1 + np.tile(np.arange(28, dtype=np.float32)[None, :, None], (4, 1, 2))
    shown, places = Shown(7)(x)
    assert shown.shape == (4, 7, 2)
    places = np.asarray(places)
    assert (np.sort(places, axis=1) == np.arange(28)).all()
    assert len({row.tobytes() for row in places}) == 4  # others in each example
    assert (np.diff(places[:, :7], axis=1) > 0).all()
    back = np.asarray(BackInPlace()(shown, places))
    hidden = back[..., 0] == 0
    assert (hidden.sum(axis=1) == 21).all()
    np.testing.assert_array_equal(back[~hidden], x[~hidden])


def sounds(count: int) -> np.ndarray:
    """Return (count, 56, 32) of three kinds, so that a hidden patch can be told from the others."""
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, 32)).astype(np.float32)
    return kinds[rng.integers(0, 3, count)][:, None] + 0.1 * rng.normal(size=(count, 56, 32)).astype(
        np.float32
    )


def falling(model: Any, x: np.ndarray, epochs: int = 15) -> None:
    model.compile(keras.optimizers.Adam(5e-3), **train.compile_options())
    losses = model.fit(x, epochs=epochs, batch_size=16, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0], losses


def test_first_iteration_second_tokenizer_third_iteration() -> None:
    config, x = small(), sounds(48)
    first = train.seeded(lambda: beats.objective(config, 3), 0)
    assert first.targets is None
    falling(first, x)
    encoder = beats.net(config, 3)
    theirs, ours = cost.weights(first), cost.weights(encoder)
    assert {name for name in ours if name not in theirs} == {"logits/kernel", "logits/bias"}
    for name in set(ours) & set(theirs):
        ours[name].assign(theirs[name])

    teacher = keras.Model(encoder.input, encoder.get_layer("frames").output)
    learning = train.seeded(lambda: beats.distillation(config, teacher), 1)
    falling(learning, x)
    tokenizer = beats.tokenizer(config)
    for name, weight in cost.weights(tokenizer).items():
        weight.assign(cost.weights(learning)[name])
    codes = np.asarray(tokenizer(x, training=False))
    assert codes.shape == (48, 28)
    assert len(set(codes.ravel())) > 1

    frozen = [np.asarray(weight) for weight in tokenizer.weights]
    falling(train.seeded(lambda: beats.masked_prediction(config, tokenizer), 2), x)
    for before, weight in zip(frozen, tokenizer.weights, strict=True):
        np.testing.assert_array_equal(before, weight)
