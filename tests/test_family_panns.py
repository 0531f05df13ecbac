"""PANNs: every published net against the official code; its training, groups, refusals and stream."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import official_golden
import pytest
import small_nets
from family_nets import BOARD, inputs

import boards
from boards.errors import UserError
from firmware.compiler import build as compiler
from firmware.compiler import interp
from firmware.compiler.build import Build
from kit import device
from models import frontend, official, panns, registry, train
from models.blocks import cost
from models.blocks.conv import Block
from models.blocks.tagging import Stripes, hidden, mixed
from quantize import export, int8
from quantize.prune import cut

HOP = 4  # frames

# size -> by how much its golden is narrower, and the samples that it heard
NARROWER = {
    "full": (16, 16_000),
    "cnn10": (16, 16_000),
    "cnn6": (16, 16_000),
    "resnet22": (16, 16_000),
    "resnet54": (16, 16_000),
    "mobilenetv1": (8, 16_000),
    "mobilenetv2": (8, 16_000),
    "leenet11": (16, 16_000),
    "leenet24": (16, 16_000),
    "dainet19": (16, 16_000),
    "res1dnet31": (16, 24_000),
    "wavegram": (4, 16_000),
    "wavegram-logmel": (4, 16_000),
}
UNUSED = {"wavegram": 128 + 64 * 9 + 64 * 64 * 9 + 256, "dainet19": 64 * 64 + 128}
OFFICIAL = {"wavegram": 80_991_759, "dainet19": 4_385_807}


def narrowed(size: str, factor: int, samples: int) -> panns.Config:
    """Return a published net with a part of its channels, for `samples` of sound."""

    def thin(block: Block) -> Block:
        kept = block.kind == "fold"  # its width is the number of bands
        return replace(block, widths=block.widths if kept else tuple(w // factor for w in block.widths))

    config = panns.SIZES[size]
    return replace(
        config,
        seconds=samples / 32_000,
        blocks=tuple(map(thin, config.blocks)),
        wavegram=tuple(map(thin, config.wavegram)),
        hidden=tuple(width // factor for width in config.hidden),
    )


def sound(samples: int) -> Any:
    """Return the noise that the goldens were made of."""
    return (np.random.default_rng(0).integers(-100, 101, samples) / 128).astype(np.float32)


@pytest.mark.parametrize("size", NARROWER)
def test_official_weights_give_the_official_outputs(size: str) -> None:
    state, golden = official_golden.read(f"panns-{size}")
    config = narrowed(size, *NARROWER[size])
    net = panns.net(config, 5)
    extra = {
        "spectrogram_extractor.stft.conv_real.weight": np.zeros((513, 1, 1024), np.float32),
        "logmel_extractor.melW": np.zeros((513, 64), np.float32),
        "bn0.num_batches_tracked": np.zeros((), np.int64),
    }
    assert official.load(net, {**state, **extra}, panns.official(config)) == ()
    heard = panns.frontend(config).of(sound(NARROWER[size][1]))[None]
    both = keras.Model(net.input, [net.output, net.get_layer("embedding").output])
    logits, embedding = both(heard, training=False)
    np.testing.assert_allclose(logits[0], golden["logits"], atol=1e-4)
    np.testing.assert_allclose(embedding[0], golden["embedding"], atol=1e-4)


@pytest.mark.parametrize("size", UNUSED)
def test_counts_lack_only_what_the_official_code_never_reads(size: str) -> None:
    assert registry.card("panns").sizes[size].parameters + UNUSED[size] == OFFICIAL[size]


def test_cnn14_hears_what_the_official_one_hears() -> None:
    front = panns.frontend(panns.FULL)
    assert (front.sample_rate, front.frames, front.features) == (32_000, 1001, 64)
    net = cost.shape_only(lambda: panns.net(panns.FULL, 527))
    assert net.get_layer("frames").output.shape == (None, 31, 2048)
    assert cost.macs(net) == pytest.approx(20.04e9, rel=1e-3)
    assert panns.frontend(panns.SIZES["wavegram-logmel"]).frames == 320_000


def test_another_checkpoint_is_refused() -> None:
    state, _ = official_golden.read("panns-cnn10")
    net = panns.net(narrowed("cnn6", 16, 16_000), 5)
    with pytest.raises(UserError, match=r"conv_block1\.conv1\.weight"):
        official.load(net, state, panns.official(panns.SIZES["cnn6"]))
    config = replace(narrowed("full", 16, 16_000), hidden=(32,))
    net = panns.net(replace(config, blocks=(*config.blocks[:5], Block("pair", (32, 32)))), 5)
    with pytest.raises(UserError, match=r"no conv_block5\.conv1\.weight .*nearest: conv_block"):
        official.load(net, state, panns.official(panns.FULL))
    for size in ("lite", "micro"):
        with pytest.raises(UserError, match="no official checkpoint: choose a published size"):
            panns.official(panns.SIZES[size])


@pytest.mark.parametrize("size", ["cnn10", "wavegram-logmel", "leenet11", "micro"])
def test_objective_tags_with_masks_and_mixup(size: str) -> None:
    config = panns.MICRO if size == "micro" else narrowed(size, *NARROWER[size])
    model = panns.objective(config, 3)
    assert model.targets == (3,)
    kinds = np.random.default_rng(0).normal(0, 0.3, (3, *model.net.input_shape[1:])).astype(np.float32)
    x, y = np.tile(kinds, (2, 1, 1)), np.tile(np.eye(3, dtype=np.float32), (2, 1))
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    logits, share = model(x, training=False)
    np.testing.assert_allclose(logits, train.predict(model.net, x), atol=1e-5)
    np.testing.assert_array_equal(share, 1)
    losses = model.fit(x, y, epochs=8, batch_size=6, verbose=0).history["loss"]
    assert np.mean(losses[-3:]) < losses[0]


def test_masks_are_stripes_of_the_papers_width() -> None:
    x = np.ones((50, 1001, 64), np.float32)
    seed = keras.random.SeedGenerator(1)
    in_time = np.asarray(hidden(x, 1, Stripes(64, 2), seed))
    silent = in_time == 0
    assert (silent.all(axis=2) == silent.any(axis=2)).all()  # whole frames
    rows = silent[:, :, 0]
    assert rows.sum(axis=1).max() <= 2 * 63
    assert 40 < rows.sum(axis=1).mean() < 80
    assert (np.abs(np.diff(rows.astype(int), axis=1)).sum(axis=1) <= 4).all()  # two stretches
    assert len({tuple(row) for row in rows}) > 40  # others in each example
    in_bands = np.asarray(hidden(x, 2, Stripes(8, 2), seed)) == 0
    assert (in_bands.all(axis=1) == in_bands.any(axis=1)).all()
    assert in_bands[:, 0].sum(axis=1).max() <= 2 * 7


def test_mixup_shares_examples_and_labels_alike() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    share = np.array([1.0, 0.25, 0.5, 0.0], np.float32)
    found = np.asarray(mixed(x, share))
    np.testing.assert_allclose(found[0], x[0])
    np.testing.assert_allclose(found[1], 0.25 * x[1] + 0.75 * x[2])
    np.testing.assert_allclose(found[3], x[0])
    np.testing.assert_allclose(mixed(x[:1], share[1:2]), x[:1])


@pytest.mark.parametrize("size", ["resnet54", "mobilenetv2", "dainet19", "wavegram-logmel", "micro"])
def test_removing_silent_channels_changes_nothing(size: str) -> None:
    family = registry.load("panns")
    config = family.config(size, seconds=1.0) if size == "micro" else narrowed(size, 4, 16_000)
    net = train.seeded(lambda: panns.net(config, 3), 2)
    weights = cost.weights(net)
    found = panns.groups(config)
    rng = np.random.default_rng(0)
    for group in found:
        for part in group.scores:  # every fourth unit says nothing: no scale, no shift
            kind = part.weight.rpartition("/")[0]
            for name in (part.weight, f"{kind}/beta", f"{kind}/bias"):
                if name in weights and len(weights[name].shape) == 1:
                    value = np.array(weights[name])
                    value[::4] = 0
                    weights[name].assign(value)
    kept = {group.field: group.units - -(-group.units // 4) for group in found if ".widths." in group.field}
    small = cut(family, config, net, np.zeros(0, np.float32), np.zeros(0, np.int64), kept)
    x = rng.normal(0, 1, (2, *net.input_shape[1:])).astype(np.float32)
    np.testing.assert_allclose(train.predict(small.net, x), train.predict(net, x), atol=1e-4)
    assert small.parameters[1] < small.parameters[0]


def test_clips_too_short_for_filters_without_padding_are_refused() -> None:
    with pytest.raises(UserError, match="rows of time are left for a filter of 3: give it longer inputs"):
        panns.net(replace(panns.MICRO, seconds=0.2), 3)


def compiled(size: str, out: Path, hop: int | None) -> Build:
    """Return the build of an untrained size for the M7, of the stream or (None) of whole windows."""
    front = panns.frontend(panns.SIZES[size])
    step = front if hop is None else replace(front, frames=hop)
    return compiler.compile_model(
        int8_model(size),
        boards.load(BOARD),
        out,
        name=size,
        frontend=asdict(front),
        frontend_tables=frontend.tables(step),
        hop=hop,
    )


@functools.cache
def int8_model(size: str) -> bytes:
    """Return an untrained size in int8."""
    net = train.seeded(lambda: panns.net(panns.SIZES[size], 10), 1)
    worker = small_nets.worker()
    with tempfile.TemporaryDirectory() as folder:
        export.float_tflite(net, Path(folder) / "float.tflite", worker=worker)
        return int8.quantise((Path(folder) / "float.tflite").read_bytes(), inputs(net, 24), worker=worker)


@pytest.mark.parametrize("size", ["lite", "micro"])
def test_a_stream_of_sound_equals_the_window_at_every_hop(size: str, tmp_path: Path) -> None:
    front = panns.frontend(panns.SIZES[size])
    assert HOP * front.hop == front.sample_rate / 10  # 100 ms
    build = compiled(size, tmp_path / "stream", HOP)
    assert build.stream is not None
    assert not build.stream["remembers"]  # no padding in time: it never sees more than the window does
    into = build.window.tensors[build.window.inputs[0]]
    scale, zero = float(into.quantisation.scale[0]), int(into.quantisation.zero_point[0])
    rng = np.random.default_rng(0)
    samples = (3000 * rng.standard_normal(front.sample_rate * 15 // 10)).astype(np.int16)
    compared = 0
    with device.open(build, None) as board:
        for result in board.stream([samples], HOP):
            if result.sample < front.samples:
                continue
            heard = frontend.features(samples[result.sample - front.samples : result.sample], front)
            x = frontend.quantise(heard, scale, zero).reshape(into.shape)
            np.testing.assert_array_equal(result.output, interp.run(build.window, [x])[0].ravel())
            compared += 1
    assert compared == 5
    told = build.sizes["stream"]
    assert told["macs"] < 0.2 * told["window_macs"]
