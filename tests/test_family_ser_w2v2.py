"""Speech emotion by wav2vec 2.0: the official numbers, concordance, a stem that stays, values or classes."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import official_golden
import pytest
import small_waves
from family_nets import artefacts

from boards.errors import UserError
from firmware.compiler import passes, read_tflite
from firmware.compiler.stream import prove, stream
from models import official, ser_w2v2, train
from models.blocks import ccc, cost
from models.blocks.wav2vec import Waves
from models.fronts.waveform import Waveform

MASK = 1_024  # parameters of the official mask embedding, which is not built


def shrunken() -> ser_w2v2.Config:
    assert isinstance(ser_w2v2.FULL.body, Waves)
    body = small_waves.shrunken(ser_w2v2.FULL.body)
    return replace(ser_w2v2.FULL, front=Waveform(16_000, 2_000), seconds=0.125, body=body, hidden=24)


def test_outputs_are_the_official_ones() -> None:
    state, golden = official_golden.read("ser_w2v2")
    net = ser_w2v2.net(shrunken(), 3)
    assert official.load(net, state, ser_w2v2.official(shrunken())) == ()
    named = [net.get_layer(name).output for name in ("frames", "embedding", "logits")]
    found = keras.Model(net.input, named).predict(golden["x"][..., None], verbose=0)
    for name, value in zip(("frames", "embedding", "logits"), found, strict=True):
        np.testing.assert_allclose(value, golden[name], atol=1e-4)


def test_a_trunk_without_its_head_is_taken() -> None:
    state, _ = official_golden.read("ser_w2v2")
    trunk = {key: value for key, value in state.items() if not key.startswith("classifier")}
    net = ser_w2v2.net(shrunken(), 5)
    lacking = official.load(net, trunk, ser_w2v2.official(shrunken()))
    assert lacking == ("dense/kernel", "dense/bias", "logits/kernel", "logits/bias")


def test_another_checkpoint_is_refused_by_name() -> None:
    state, _ = official_golden.read("ser_w2v2")
    lost = "wav2vec2.encoder.layers.1.attention.k_proj.weight"
    shorter = {key: value for key, value in state.items() if key != lost}
    with pytest.raises(
        UserError, match=r"no wav2vec2\.encoder\.layers\.1\.attention\.k_proj\.weight.*nearest"
    ):
        official.load(ser_w2v2.net(shrunken(), 3), shorter, ser_w2v2.official(shrunken()))
    with pytest.raises(UserError, match="of another size"):
        official.load(ser_w2v2.net(replace(shrunken(), hidden=16), 3), state, ser_w2v2.official(shrunken()))
    with pytest.raises(UserError, match="choose full"):
        ser_w2v2.official(ser_w2v2.MICRO)


def test_parameters_are_the_official_ones() -> None:
    net = cost.shape_only(lambda: ser_w2v2.net(ser_w2v2.FULL, 3))
    assert cost.parameters(net) + MASK == 165_336_707
    head = sum(
        v.shape[0] * (v.shape[1] if len(v.shape) > 1 else 1)
        for n in ("dense", "logits")
        for v in net.get_layer(n).weights
    )
    assert head == 1_052_675


def test_the_waveform_is_levelled_as_officially() -> None:
    _, golden = official_golden.read("ser_w2v2-front")
    front = Waveform(16_000, 1_000)
    np.testing.assert_allclose(front.of(golden["sound"])[:, 0], golden["features"], atol=1e-5)
    assert not front.of(golden["sound"])[700:].any()
    longer = np.concatenate([golden["sound"]] * 2)
    assert front.of(longer).shape == (front.frames, front.features) == (1_000, 1)
    kept = Waveform(16_000, 1_000, "kept")
    np.testing.assert_array_equal(kept.of(longer)[:, 0], longer[:1_000])


def test_concordance_by_hand() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 3))
    b = np.stack([a[:, 0], 0.5 * a[:, 1] + 1, rng.normal(size=50)], axis=1)
    by_hand = [
        2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        for x, y in zip(a.T, b.T, strict=True)
    ]
    np.testing.assert_allclose(ccc.concordance(a, b), by_hand, atol=1e-6)
    assert ccc.concordance(a, b)[0] == pytest.approx(1)
    assert ccc.concordance(a, -a)[0] < 0
    wanted, given = (keras.ops.convert_to_tensor(v.astype(np.float32)) for v in (a, b))
    assert float(ccc.loss(wanted, given)) == pytest.approx(1 - np.mean(by_hand), abs=1e-5)
    assert np.isfinite(float(ccc.loss(keras.ops.zeros((4, 2)), keras.ops.zeros((4, 2)))))
    with pytest.raises(ValueError, match="one shape"):
        ccc.concordance(a, b[:, :2])


def test_the_stem_stays_while_the_rest_learns() -> None:
    model = train.seeded(lambda: ser_w2v2.objective(shrunken(), 3), 0)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(16, 2_000, 1)).astype(np.float32)
    y = rng.uniform(size=(16, *model.targets)).astype(np.float32)
    before = {name: np.array(value) for name, value in cost.weights(model.net).items()}
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=True)
    losses = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    after = cost.weights(model.net)
    moved = {name for name, value in after.items() if np.any(np.array(value) != before[name])}
    assert not [name for name in moved if name.startswith("stem")]
    assert {"positions/direction", "layer1_query/kernel", "dense/kernel", "logits/bias"} <= moved
    assert model.targets == (3,)


def test_micro_streams_up_to_its_mean_and_equals_its_window_for_ever() -> None:
    graph = passes.run(read_tflite.read(artefacts("ser_w2v2").read("int8.tflite"), "ser_w2v2"))
    made = stream(graph, 4)  # 100 ms
    assert "MEAN" in made.stopped_by
    assert not made.remembers
    assert made.macs < made.window_macs / 4
    _, rows, bands = graph.tensors[graph.inputs[0]].shape
    signal = np.random.default_rng(0).integers(-128, 128, (rows + 12, bands)).astype(np.int8)
    assert prove(graph, made, signal) == 3
