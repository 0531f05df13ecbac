"""TERA: the official code's numbers, its front end, its alterations, and training without labels."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import official_golden
import pytest
from family_nets import artefacts

from boards.errors import UserError
from firmware.compiler import passes, read_tflite
from firmware.compiler.stream import prove, stream
from models import official, tera, train
from models.blocks import cost
from models.blocks.alteration import Alter, Alteration
from models.blocks.attention import Layer
from models.fronts.tera_mel import TeraMel

HEAD = 653_648  # of the official reconstruction head, 768 wide


def small(frames: int) -> tera.Config:
    encoder = replace(tera.FULL.encoder, width=24, layers=(Layer(3, 8, 32),) * 2)
    return replace(tera.FULL, encoder=encoder, seconds=(frames - 1) / 100)


def test_outputs_are_the_official_ones() -> None:
    state, golden = official_golden.read("tera")
    net = tera.net(small(9), 2)
    assert official.load(net, state, tera.official(small(9))) == ()
    frames = keras.Model(net.input, net.get_layer("frames").output)
    np.testing.assert_allclose(train.predict(frames, golden["x"]), golden["frames"], atol=1e-4)


def test_front_end_is_the_official_one() -> None:
    _, golden = official_golden.read("tera-front")
    front = TeraMel(samples=len(golden["sound"]))
    np.testing.assert_allclose(front.of(golden["sound"]), golden["features"], atol=1e-4)
    assert front.of(golden["sound"]).shape == (front.frames, front.features) == (13, 80)


@pytest.mark.parametrize(
    ("size", "figure"), [("full", 21_327_360), ("medium", 42_590_976), ("large", 85_118_208)]
)
def test_parameters_are_the_official_ones(size: str, figure: int) -> None:
    config = tera.SIZES[size]
    assert cost.parameters(cost.shape_only(lambda: tera.trunk(config))) == figure
    whole = cost.shape_only(lambda: tera.objective(config, 0))
    head = cost.shape_only(
        lambda: [layer.build((None, 1001, 768)) for layer in (whole.dense, whole.norm, whole.out)]
    )
    assert len(head) == 3
    assert sum(layer.count_params() for layer in (whole.dense, whole.norm, whole.out)) == HEAD


def test_another_checkpoint_is_refused_by_name() -> None:
    state, _ = official_golden.read("tera")
    shorter = {key: value for key, value in state.items() if "layer.1.output.dense.bias" not in key}
    with pytest.raises(
        UserError, match=r"no Transformer\.encoder\.layer\.1\.output\.dense\.bias.*nearest: Trans"
    ):
        official.load(tera.net(small(9), 2), shorter, tera.official(small(9)))


def test_alterations_are_as_many_as_the_paper_says() -> None:
    x = np.random.default_rng(0).normal(1, 0.1, (64, 300, 80)).astype(np.float32)
    how = Alteration(noisy=0.0)
    altered, mask = (np.asarray(part) for part in Alter(how)(x))
    assert set(np.unique(mask)) == {0, 1}
    untouched = mask == 0
    assert (altered[untouched] == x[untouched]).all()
    widths = mask[:, :, :].min(axis=1).sum(axis=1)  # bands that are masked in every frame
    assert widths.max() <= 16
    assert 5 < widths.mean() < 11  # 0 to 16, all alike
    frames = mask.min(axis=2).mean(axis=1)
    assert 0.11 < frames.mean() < 0.15  # 15 % less what overlaps
    zero = (altered == 0).mean(axis=2) == 1
    inside = mask.min(axis=2) == 1
    assert not (zero & ~inside).any()
    kinds = [zero[i][inside[i]].all() for i in range(64)]
    assert 0.65 < np.mean(kinds) < 0.93  # 8 of 10 clips have zeros there


def test_noise_comes_in_some_batches() -> None:
    x = np.zeros((2, 40, 8), np.float32)
    layer = Alter(Alteration())
    spreads = [float(np.std(np.asarray(layer(x)[0]))) for _ in range(200)]
    assert 0.07 < np.mean(np.array(spreads) > 0.1) < 0.25
    assert max(spreads) == pytest.approx(0.2, abs=0.03)


def test_repairing_is_learned() -> None:
    keras.utils.set_random_seed(0)
    model = tera.objective(tera.MICRO, 0)
    time, band = np.arange(49)[:, None], np.arange(40)
    phase = np.random.default_rng(0).uniform(0, 6, (64, 1, 1))
    x = np.sin(phase + time / 5 + band / 6).astype(np.float32)
    model.compile(keras.optimizers.Adam(3e-3), **train.compile_options())
    losses = model.fit(x, epochs=8, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]


def test_micro_streams_chunk_by_chunk_and_equals_its_window_for_ever() -> None:
    graph = passes.run(read_tflite.read(artefacts("tera").read("int8.tflite"), "tera"))
    hop = tera.MICRO.chunk * tera.MICRO.stack  # 480 ms
    made = stream(graph, hop)
    assert "MEAN" in made.stopped_by
    assert not made.remembers
    assert made.macs == pytest.approx(made.window_macs / 2, rel=0.01)
    _, rows, bands = graph.tensors[graph.inputs[0]].shape
    signal = np.random.default_rng(0).integers(-128, 128, (rows + 3 * hop, bands)).astype(np.int8)
    assert prove(graph, made, signal) == 3


def test_chunks_leave_out_the_oldest_frames_that_fill_none() -> None:
    config = replace(tera.MICRO, chunk=10)
    trunk = train.seeded(lambda: tera.trunk(config), 0)
    x = np.random.default_rng(0).normal(-40, 10, (2, 49, 40)).astype(np.float32)
    frames = train.predict(trunk, x)
    assert frames.shape == (2, 20, 64)
    later = x.copy()
    later[:, :8] = 0  # positions 0 to 3
    np.testing.assert_array_equal(train.predict(trunk, later), frames)
    later[:, 10] = 0  # of the first chunk
    changed = np.abs(train.predict(trunk, later) - frames).max(axis=(0, 2)) > 0
    assert changed[:10].all()
    assert not changed[10:].any()
    model = train.seeded(lambda: tera.objective(config, 0), 0)
    assert model(x).shape == (2, 40, 40)
    with_few = tera.trunk(replace(tera.MICRO, chunk=30))  # fewer positions than a chunk: they are one
    assert with_few.output_shape == (None, 24, 64)
