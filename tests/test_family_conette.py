"""CoNeTTE against the official code, its counts, its decoder in both forms, and its objective."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import official_golden
import pytest
import small_nets

import boards
from boards.errors import UserError
from firmware.compiler import build
from kit import device, profile
from models import captions, conette, official, train
from models.blocks import cost, decoder
from models.blocks.convnext import ConvNeXt
from models.blocks.decoder import Decoder
from quantize import export, int8

SMALL = replace(
    conette.FULL,
    seconds=1.0,
    body=ConvNeXt(conette.padded(conette.stages((8, 12, 16, 20), (1, 1, 2, 1), 4))),
    decoder=Decoder(16, heads=2, ffn=24, layers=2, length=9, dropout=0.2),
)
WORDS, CLASSES = 24, 6
TINY = replace(conette.MICRO, seconds=2.0, max_frames=100)


def golden() -> tuple[dict[str, Any], dict[str, Any], Any, Any]:
    """Return the official state, its outputs, and the inputs that were drawn for it."""
    state, arrays = official_golden.read("conette")
    rng = np.random.default_rng(0)
    x = rng.normal(-30, 10, (2, 101, 224)).astype(np.float32) / 10
    return state, arrays, x, rng.integers(3, WORDS, (2, 9)).astype(np.int32)


def test_tags_are_the_official_ones() -> None:
    state, wanted, x, _ = golden()
    bare = {key.removeprefix("preprocessor.encoder."): v for key, v in state.items() if "encoder" in key}
    for file in (state, bare):
        net = conette.net(SMALL, CLASSES)
        assert official.load(net, file, conette.official(SMALL)) == ()
        np.testing.assert_allclose(train.predict(net, x), wanted["tags"], atol=1e-4)
    frames = keras.Model(net.input, net.get_layer("frames").output)
    np.testing.assert_allclose(train.predict(frames, x), wanted["frames"], atol=1e-4)


def test_the_older_name_of_the_layer_scale_is_taken() -> None:
    state, wanted, x, _ = golden()
    older = {key.replace("scale_layer", "gamma"): value for key, value in state.items()}
    net = conette.net(SMALL, CLASSES)
    official.load(net, older, conette.official(SMALL))
    np.testing.assert_allclose(train.predict(net, x), wanted["tags"], atol=1e-4)


def test_an_encoder_without_its_head_is_taken() -> None:
    state, _, _, _ = golden()
    headless = {key: value for key, value in state.items() if "head_audioset" not in key}
    lacking = official.load(conette.net(SMALL, 9), headless, conette.official(SMALL))
    assert lacking == ("logits/kernel", "logits/bias")


def test_a_checkpoint_of_something_else_is_refused() -> None:
    state, _, _, _ = golden()
    net = conette.net(SMALL, CLASSES)
    broken = {key.replace("pwconv2", "fc2"): value for key, value in state.items()}
    with pytest.raises(UserError, match=r"no stages.0.0.pwconv2.weight .*nearest: stages.0.0.*"):
        official.load(net, broken, conette.official(SMALL))
    with pytest.raises(UserError, match=r"cannot become|does not fit"):
        official.load(conette.net(conette.MICRO, CLASSES), state, conette.official(conette.MICRO))


def official_captioner() -> Any:
    """Return our captioner with the weights of the golden."""
    model = conette.captioner(SMALL, WORDS)
    official.load(model, golden()[0], conette.official_captioner(SMALL))
    return model


def test_captions_have_the_official_logits() -> None:
    _, wanted, x, tokens = golden()
    logits = official_captioner()([x, tokens], training=False)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(logits), wanted["logits"], atol=1e-4)


@pytest.mark.parametrize(("number", "size", "least"), [(0, 3, 3), (1, 2, 5), (2, 1, 0)])
def test_beam_search_is_the_official_one(number: int, size: int, least: int) -> None:
    """Beam sizes, least lengths, words that may come once: the tokens and the mean log-probability."""
    _, wanted, x, _ = golden()
    once = np.ones(WORDS, bool)
    once[[5, 6, 7, 8]] = False
    score = conette.scorer(official_captioner(), x)
    how = captions.Search(size=size, least=least, most=9)
    for clip, beams in enumerate(captions.beam_search(score, [20, 21], once, how)):
        best = wanted[f"best{number}"][clip]
        assert beams[0].tokens == tuple(best[best != captions.PAD])
        assert beams[0].average == pytest.approx(wanted[f"average{number}"][clip], abs=1e-4)
        every = {tuple(row[row != captions.PAD]) for row in wanted[f"all{number}"][clip]}
        assert {beam.tokens for beam in beams} == every


def test_counts_are_those_of_the_paper() -> None:
    """12.0 M trained parameters for AudioCaps' 4,585 tokens, 11.9 M for Clotho's 4,369."""
    encoder = cost.parameters(cost.shape_only(lambda: conette.encoder(conette.FULL)))
    for words, trained in ((4_585, 12_021_481), (4_369, 11_910_673)):
        whole = cost.shape_only(lambda words=words: conette.captioner(conette.FULL, words))
        assert cost.parameters(whole) - encoder == trained == 196_864 + 9_472_512 + 513 * words
    full = cost.shape_only(lambda: conette.net(conette.FULL, 527))
    assert full.get_layer("frames").output.shape == (None, 31, 768)
    assert cost.parameters(full) == encoder + 405_263 + 2 * 768


def test_token_by_token_is_all_at_once() -> None:
    """The two forms of the decoder: kept keys and values against the causal mask."""
    config = replace(TINY.decoder, length=5)
    speaker = decoder.Speaker(config, WORDS)
    sound, tokens = keras.Input((4, config.width)), keras.Input((5,), dtype="int32")
    rows = speaker.embedded(tokens)
    before: list[Any] = [None] * config.layers
    steps = []
    for place in range(5):
        logits, before = speaker.next(rows[:, place : place + 1], place, before, speaker.heard(sound))
        steps.append(logits)
    both = keras.Model([sound, tokens], [speaker.all(rows, sound), keras.ops.concatenate(steps, axis=1)])
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 4, config.width)).astype(np.float32), rng.integers(0, WORDS, (2, 5), np.int32)
    one, other = (keras.ops.convert_to_numpy(y) for y in both(list(x), training=False))
    np.testing.assert_allclose(one, other, atol=1e-5)
    later = x[1].copy()
    later[:, 3] += 1
    changed = keras.ops.convert_to_numpy(both([x[0], later % WORDS], training=False)[0])
    np.testing.assert_allclose(changed[:, :3], one[:, :3], atol=1e-6)
    assert np.abs(changed[:, 3] - one[:, 3]).max() > 1e-2


def test_the_task_decides_the_caption() -> None:
    """Another first token alone gives other logits: the task embedding."""
    model = official_captioner()
    _, _, x, tokens = golden()
    other = tokens.copy()
    other[:, 0] = 23 - other[:, 0]
    first, second = (keras.ops.convert_to_numpy(model([x, t], training=False)) for t in (tokens, other))
    assert np.abs(first[:, 0] - second[:, 0]).max() > 1e-2


@pytest.mark.parametrize("learning", [conette.Captioning(), conette.Captioning(frozen=False, mixup=0.0)])
def test_the_objective_learns(learning: conette.Captioning) -> None:
    model = train.seeded(lambda: conette.objective(replace(TINY, learning=learning), WORDS), 0)
    assert model.targets == (TINY.decoder.length + 1,)
    rng = np.random.default_rng(0)
    front = conette.frontend(TINY)
    x = rng.normal(-40, 10, (8, front.frames, front.features)).astype(np.float32)
    y = rng.integers(4, WORDS, (8, *model.targets)).astype(np.int32)
    y[:, 6:] = captions.PAD
    still = [train.copied(v) for v in model.encoder.variables]
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=True)
    losses = model.fit(x, y, epochs=12, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    moved = [np.ptp(train.copied(v) - w) > 0 for v, w in zip(model.encoder.variables, still, strict=True)]
    assert any(moved) != learning.frozen


def test_the_loss_is_the_one_of_torch() -> None:
    """Label smoothing over the vocabulary, padding left out of the mean; torch's CrossEntropyLoss gave it."""
    logits = np.linspace(-2, 2, 24, dtype=np.float32).reshape(1, 4, 6) ** 2
    targets = np.array([[3, 5, 1, 0]], np.int32)
    assert float(conette.caption_loss(targets, logits, 0.1)) == pytest.approx(2.267946, abs=1e-5)


def test_encoder_learned_as_a_tagger_goes_into_the_captioner() -> None:
    tagger, model = conette.net(TINY, 3), conette.captioner(TINY, WORDS)
    conette.hand_over(tagger, model)
    ours, theirs = cost.weights(model), cost.weights(tagger)
    shared = [name for name in theirs if name in ours]
    assert len(shared) == len(cost.weights(conette.encoder(TINY)))
    for name in shared:
        np.testing.assert_array_equal(train.copied(ours[name]), train.copied(theirs[name]))


def decided(words: captions.Vocabulary) -> Any:
    """Return a captioner of random weights that has no doubts."""
    model = train.seeded(lambda: conette.captioner(TINY, words.size), 3)
    tokens = model.get_layer("vocabulary")
    tokens.table.assign(6 * train.copied(tokens.table))
    tokens.bias.assign(np.where(np.arange(words.size) == captions.EOS, 8.0, 0.0))
    return model


def test_greedy_decoding_in_one_graph_is_a_beam_of_one() -> None:
    words = captions.vocabulary(["a dog barks then rain falls", "the waves roll while it is on"], ["one"])
    model = decided(words)
    x = np.random.default_rng(0).normal(-40, 10, (6, 99, 64)).astype(np.float32)
    how = captions.Search(size=1, least=0, most=TINY.decoder.length)
    wanted = captions.beam_search(conette.scorer(model, x), [words.start("one")] * 6, words.once, how)
    net = conette.greedy(TINY, words, "one", 200.0)
    conette.hand_over(model, net)
    rows = train.predict(net, x)
    np.testing.assert_allclose(rows.sum(axis=-1), 1, atol=1e-5)
    for beams, row in zip(wanted, rows, strict=True):
        told = beams[0].tokens
        assert tuple(row.argmax(axis=-1)[: len(told)]) == told
        assert set(row.argmax(axis=-1)[len(told) :]) <= {captions.EOS}
        content = [token for token in told if words.once[token]]
        assert len(set(content)) == len(content)


def test_greedy_decoding_runs_on_a_board(tmp_path: Path) -> None:
    """Three tokens by the int8 net: every byte as on the host, and the tokens that LiteRT gives."""
    words = captions.vocabulary(["a dog barks", "rain falls"], ["one"])
    config = replace(TINY, seconds=1.0, decoder=replace(TINY.decoder, length=3))
    net = train.seeded(lambda: conette.greedy(config, words, "one", 200.0), 5)
    conette.hand_over(decided(words), net)
    x = np.random.default_rng(0).normal(-40, 10, (24, *net.input_shape[1:])).astype(np.float32)
    train.adapt(net, x)
    export.float_tflite(net, tmp_path / "float.tflite", worker=small_nets.worker())
    model = int8.quantise((tmp_path / "float.tflite").read_bytes(), x, worker=small_nets.worker())
    built = build.compile_model(model, boards.load("virtual-m7"), tmp_path / "build", name="greedy")
    inputs = profile.trial_inputs(built.window, 6, 0)[:, 0]
    with device.open(built, None) as board:
        trial = profile.feed(built, board, inputs)
    assert not trial.wrong.any()
    rows = int8.run(model, x[:6])
    np.testing.assert_allclose(rows.max(axis=-1), 1, atol=0.3)
