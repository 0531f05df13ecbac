"""MERT: the official numbers, masks, codes, spectra and mixtures, and a micro that streams for ever."""

from __future__ import annotations

import itertools
from dataclasses import replace

import keras
import numpy as np
import official_golden
import pytest
import small_waves
from family_nets import artefacts
from scipy.cluster.vq import vq

from boards.errors import UserError
from firmware.compiler import passes, read_tflite
from firmware.compiler.stream import prove, stream
from models import mert, official, train
from models.blocks import cost, cqt, rvq
from models.blocks.masked_codes import Codes, Hide, Mix, Teaching
from models.blocks.wav2vec import ConvolvedPositions, Waves
from models.fronts.waveform import Waveform

TEACHING = Teaching(codebooks=2, entries=8, width=4, bins=7)


def shrunken(size: str) -> mert.Config:
    config = mert.SIZES[size]
    assert isinstance(config.body, Waves)
    body = small_waves.shrunken(config.body)
    return replace(
        config, front=Waveform(24_000, 2_000), seconds=2_000 / 24_000, body=body, teaching=TEACHING
    )


@pytest.mark.parametrize(("size", "name"), [("full", "mert"), ("330m", "mert-330m")])
def test_every_state_is_the_official_one(size: str, name: str) -> None:
    state, golden = official_golden.read(name)
    net = mert.net(shrunken(size), 3)
    assert official.load(net, state, mert.official(shrunken(size))) == ()
    states = [net.get_layer(name).output for name in ("state0", "state1", "frames")]
    found = keras.Model(net.input, states).predict(golden["x"][..., None], verbose=0)
    for number, value in enumerate(found):
        np.testing.assert_allclose(value, golden[f"state{number}"], atol=1e-4)


def test_weight_norm_is_read_in_both_ways_of_writing() -> None:
    state, _ = official_golden.read("mert")
    older = {
        key.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for key, value in state.items()
    }
    assert set(older) != set(state)
    nets = [mert.net(shrunken("full"), 3) for _ in range(2)]
    for net, form in zip(
        nets, (state, {f"hubert.{key}": value for key, value in older.items()}), strict=True
    ):
        official.load(net, form, mert.official(shrunken("full")))
    one, other = (np.array(net.get_layer("positions").direction) for net in nets)
    np.testing.assert_array_equal(one, other)


def test_another_checkpoint_is_refused_by_name() -> None:
    state, _ = official_golden.read("mert")
    with pytest.raises(UserError, match="of another size"):
        official.load(
            mert.net(shrunken("330m"), 3),
            {k: v[..., :4] for k, v in state.items()},
            mert.official(shrunken("330m")),
        )
    shorter = {key: value for key, value in state.items() if key != "encoder.layer_norm.weight"}
    with pytest.raises(UserError, match=r"no encoder\.layer_norm\.weight.*nearest"):
        official.load(mert.net(shrunken("full"), 3), shorter, mert.official(shrunken("full")))
    with pytest.raises(UserError, match="choose full or 330m"):
        mert.official(mert.MICRO)


@pytest.mark.parametrize(
    ("size", "figure", "width"), [("full", 94_371_712, 768), ("330m", 315_428_992, 1_024)]
)
def test_parameters_are_the_official_ones(size: str, figure: int, width: int) -> None:
    net = cost.shape_only(lambda: mert.net(mert.SIZES[size], 10))
    states = len(mert.SIZES[size].body.encoder.layers) + 1
    assert net.get_layer("probe").weight.shape == (states,)
    mask = Hide(0.8, 5)
    mask.build((None, None, width))
    ours = states + 10 * (width + 1)  # the probe and the classifier
    assert cost.parameters(net) - ours + mask.count_params() == figure
    assert net.get_layer("frames").output.shape == (None, 374, width)  # 75 a second, without padding


def test_positions_start_like_any_convolution() -> None:
    layer = ConvolvedPositions(8, 2)
    layer.build((None, None, 16))
    length = np.sqrt(np.sum(np.square(np.array(layer.direction)), axis=(1, 2)))
    np.testing.assert_allclose(np.array(layer.magnitude), length, rtol=0.3)
    assert layer(np.ones((1, 5, 16), np.float32)).shape == (1, 5, 16)


def test_masks_hide_stretches_and_nothing_else() -> None:
    keras.utils.set_random_seed(0)
    layer = Hide(0.8, 5)
    x = np.random.default_rng(0).normal(size=(64, 375, 3)).astype(np.float32)
    hidden, mask = (np.array(v) for v in layer(x))
    np.testing.assert_array_equal(hidden[mask == 0], x[mask == 0])
    assert (hidden[mask == 1] == np.array(layer.row)).all()
    assert 0.5 < mask.mean() < 0.62  # 60 starts of 5 in 375, which overlap: 1 - exp(-0.8)
    ends = np.pad(mask, ((0, 0), (1, 1)))
    runs = np.flatnonzero(np.diff(ends, axis=1).ravel() == -1) - np.flatnonzero(
        np.diff(ends, axis=1).ravel() == 1
    )
    assert runs.min() == 5
    assert (mask.sum(axis=1) >= 10).all()
    assert (mask[0] != mask[1]).any()


def test_codes_are_told_by_cosine_over_temperature() -> None:
    layer = Codes(replace(TEACHING, temperature=0.1))
    scores = np.array(layer(np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)))
    assert scores.shape == (2, 3, 2, 8)
    assert np.abs(scores).max() <= 10 + 1e-4
    x = np.ones((1, 1, 6), np.float32)
    told = (np.array(layer.project.kernel).sum(axis=0)).reshape(2, 4)
    entry = np.array(layer.entries)[1, 5]
    cosine = told[1] @ entry / np.linalg.norm(told[1]) / np.linalg.norm(entry)
    assert np.array(layer(x))[0, 0, 1, 5] == pytest.approx(10 * cosine, rel=1e-4)


@pytest.mark.parametrize("unit", ["linear", "decibels"])
def test_mixtures_add_excerpts_of_others(unit: str) -> None:
    keras.utils.set_random_seed(1)
    x = np.broadcast_to(np.arange(1.0, 9)[:, None, None], (8, 500, 1)).astype(np.float32)
    how = replace(TEACHING, mixed=1.0, excerpts=1)
    mixed = np.array(Mix(how, 100, unit)(x))
    touched = mixed != x
    assert touched.any(axis=(1, 2)).all()
    lengths = touched.sum(axis=(1, 2))
    assert lengths.min() >= 50
    assert lengths.max() <= 100
    if unit == "linear":
        others = (mixed - x)[touched]
        assert np.isin(others, np.arange(1, 9)).all()
        assert (others != x[touched]).all()  # never itself
    else:
        assert ((mixed - x)[touched] > 0).all()
        assert mixed.max() < 8 + 10 * np.log10(2)
    alone = np.array(Mix(how, 100, unit)(x[:1]))
    np.testing.assert_array_equal(alone, x[:1])
    shares = np.array(Mix(replace(how, mixed=0.5), 100, unit)(np.repeat(x, 40, axis=0)))
    assert 0.35 < (shares != np.repeat(x, 40, axis=0)).any(axis=(1, 2)).mean() < 0.6


def test_residual_codebooks_leave_less_with_every_stage() -> None:
    rng = np.random.default_rng(0)
    frames = (rng.normal(size=(600, 5)) @ rng.normal(size=(5, 12))).astype(np.float32)
    books = rvq.fit(frames, 4, 16, rng)
    codes = rvq.encode(frames, books)
    assert codes.shape == (600, 4)
    assert codes.min() >= 0
    assert codes.max() < 16
    left = [np.mean((frames - rvq.decode(codes[:, :n], books[:n])) ** 2) for n in range(1, 5)]
    assert all(b < 0.9 * a for a, b in itertools.pairwise(left))
    np.testing.assert_array_equal(codes[:, 0], vq(frames, books[0])[0])
    assert len(np.unique(codes[:, 0])) == 16
    with pytest.raises(ValueError, match="as many frames"):
        rvq.fit(frames[:3], 1, 16, rng)


def test_constant_q_by_its_definition_and_by_librosa() -> None:
    _, golden = official_golden.read("cqt")
    bins = cqt.Cqt(16_000, 640, 130.8, 48, 12)
    sound = golden["sound"].astype(np.float32) / 32768
    found = cqt.magnitudes(sound, bins)
    assert found.shape == golden["magnitudes"].shape
    # librosa halves the rate octave by octave and does not round the windows' lengths
    np.testing.assert_allclose(found, golden["magnitudes"], atol=0.03 * golden["magnitudes"].max())
    quality = 1 / (2 ** (1 / 12) - 1)
    for frame, pitch in ((0, 3), (12, 20), (25, 47)):
        hertz = bins.frequencies[pitch]
        length = int(np.ceil(quality * 16_000 / hertz))
        time = np.arange(length) - length // 2
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        heard = np.pad(sound, length)[length + frame * 640 + time]
        by_hand = np.abs(np.sum(heard * hann * np.exp(-2j * np.pi * hertz / 16_000 * time)))
        assert found[frame, pitch] == pytest.approx(by_hand * np.sqrt(length) / hann.sum(), abs=1e-3)
    with pytest.raises(ValueError, match="over half"):
        cqt.magnitudes(sound, cqt.Cqt(16_000, 640, 130.8, 120, 12))


@pytest.mark.parametrize("size", ["full", "micro"])
def test_teachers_and_training(size: str) -> None:
    config = shrunken("full") if size == "full" else replace(mert.MICRO, teaching=TEACHING)
    front = mert.frontend(config)
    rng = np.random.default_rng(4)
    tones = np.sin(2 * np.pi * rng.uniform(100, 2_000, (8, 1)) * np.arange(front.samples) / front.sample_rate)
    sounds = (9_000 * tones + 500 * rng.normal(size=tones.shape)).astype(np.int16)
    model = train.seeded(lambda: mert.objective(config, 3), 2)
    y = mert.teach(config, sounds)
    assert y.shape == (8, *model.targets)
    assert set(np.unique(y[..., :2])) <= set(range(8))
    given = rng.integers(0, 8, (8, model.targets[0], 2))
    np.testing.assert_array_equal(mert.teach(config, sounds, given)[..., :2], given)
    from models import fronts

    x = np.stack([fronts.features(sound, front) for sound in sounds])
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=True)
    losses = model.fit(x, y, batch_size=8, epochs=12, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


def test_micro_streams_to_its_end_and_equals_its_window_for_ever() -> None:
    graph = passes.run(read_tflite.read(artefacts("mert").read("int8.tflite"), "mert"))
    made = stream(graph, 2)
    assert (made.stopped_by, made.remembers, made.outputs) == ("", False, 1)
    assert made.macs < made.window_macs / 10
    frames = graph.tensors[graph.inputs[0]].shape
    signal = np.random.default_rng(0).integers(-128, 128, (frames[1] + 12, frames[2])).astype(np.int8)
    assert prove(graph, made, signal) == 6


def test_a_clip_shorter_than_what_the_layers_reach_is_refused() -> None:
    with pytest.raises(UserError, match="3 layers that reach 5 frames need 13: give it longer inputs"):
        mert.net(replace(mert.MICRO, seconds=0.3), 3)
