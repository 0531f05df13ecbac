"""Bag of codes with statistics: what a bag holds, its order, its training, groups, refusals and stream."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from family_nets import artefacts

from boards.errors import UserError
from firmware.compiler import passes, read_tflite
from firmware.compiler.stream import prove, stream
from models import bow_stats, registry, train
from models.blocks import cost
from models.blocks.codebook import nearest
from models.blocks.codes import Centroids
from models.bow_stats import View
from quantize.prune import cut

HOP = 8  # frames: 100 ms
SMALL = replace(
    bow_stats.MICRO,
    views=(
        View(1, 40, 16, 6, 8),
        View(1, 40, 16, 6, 8, mean=20),
        View(8, 8, 16, 6, 8),
        View(4, 40, 16, 6, 8),
    ),
    hidden=16,
)


def noise(net: keras.Model, count: int) -> np.ndarray:
    """Return features as they are behind the norm of each band."""
    return np.random.default_rng(0).normal(size=(count, *net.input_shape[1:])).astype(np.float32)


def seen(net: keras.Model, *names: str) -> keras.Model:
    """Return what the layers `names` of a net say."""
    return keras.Model(net.input, [net.get_layer(name).output for name in names])


def test_counts_are_those_of_the_papers_parts() -> None:
    parts = {"encode1": 0, "encode2": 0, "centroids": 0, "head": 0}
    net = cost.shape_only(lambda: bow_stats.net(bow_stats.FULL, 50))
    for layer in net.layers:
        kind = layer.name.rpartition("_")[2] if layer.name.startswith("view") else "head"
        if kind in parts:
            parts[kind] += sum(int(np.prod(v.shape)) for v in layer.trainable_variables)
    assert parts["encode1"] == 2 * (64 * 64 + 64) + 2 * (256 * 128 + 128)
    assert parts["encode2"] == 2 * (64 * 16 + 16) + 2 * (128 * 16 + 16)
    assert parts["centroids"] == 4 * 128 * 16
    moments = 4 * 2 * 16
    assert parts["head"] == (512 + moments) * 128 + 128 + 128 * 50 + 50
    assert sum(parts.values()) == registry.card("bow_stats").sizes["full"].parameters
    assert sum(parts.values()) - moments * 128 == 160_626  # histograms alone


def test_a_code_is_that_of_the_nearest_centroid() -> None:
    x = np.random.default_rng(0).normal(size=(5, 7, 3, 16)).astype(np.float32)
    layer = Centroids(12)
    told = np.asarray(layer(x))
    codes = np.asarray(layer.codes)
    apart = ((x[..., None, :] - codes) ** 2).sum(-1)
    np.testing.assert_allclose(told, ((x * x).sum(-1, keepdims=True) - apart) / 4, atol=1e-4)
    np.testing.assert_array_equal(told.argmax(-1), apart.argmin(-1))
    np.testing.assert_array_equal(nearest(x, layer.codes), apart.argmin(-1))


def test_a_bag_holds_shares_of_codes_and_both_moments_of_every_view() -> None:
    net = train.seeded(lambda: bow_stats.net(SMALL, 3), 3)
    x = noise(net, 4)
    names = [f"view{view}_{part}" for view in range(1, 5) for part in ("encode2", "centroids")]
    found = [np.asarray(value, np.float64) for value in seen(net, *names, "embedding")(x)]
    wanted = []
    for codes, values in zip(found[:-1:2], found[1:-1:2], strict=True):
        shares = np.exp(values) / np.exp(values).sum(-1, keepdims=True)
        wanted += [part.mean((1, 2)) for part in (shares, codes, codes**2)]
    scale = np.sqrt(1 + 1e-3)  # of norms that have seen nothing yet
    np.testing.assert_allclose(found[-1], np.concatenate(wanted, 1) / scale, atol=1e-4)
    shapes = [value.shape[1:3] for value in found[:-1:2]]
    assert shapes == [(78, 1), (3, 1), (9, 5), (19, 1)]


def test_a_bag_has_no_order() -> None:
    net = train.seeded(lambda: bow_stats.net(SMALL, 3), 3)
    x = noise(net, 2)
    blocks = x[:, :40].reshape(2, 2, 20, 40)  # a whole number of all pieces but patches is in each
    mixed = np.concatenate([blocks[:, ::-1].reshape(2, 40, 40), x[:, 40:]], axis=1)
    assert np.abs(mixed - x).max() > 1
    names = [f"view{view}_statistics" for view in (1, 2, 4)]
    for mine, other in zip(seen(net, *names)(x), seen(net, *names)(mixed), strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def test_pieces_lie_side_by_side() -> None:
    image = np.random.default_rng(0).normal(size=(2, 19, 40, 1)).astype(np.float32)
    made = np.asarray(bow_stats.pieces(image, View(8, 8, 1, 1, 1)))
    assert made.shape == (2, 2, 5, 64)
    np.testing.assert_array_equal(made[1, 1, 3], image[1, 8:16, 24:32, 0].ravel())


def test_objective_rebuilds_sounds_without_labels() -> None:
    config = replace(SMALL, seconds=0.5)
    model = train.seeded(lambda: bow_stats.objective(config, 3), 2)
    assert model.targets is None
    rng = np.random.default_rng(0)
    _, frames, bands = model.net.input_shape
    spectra = np.repeat(rng.normal(size=(3, 1, bands)), 8, axis=0)
    x = (spectra + rng.normal(0, 0.1, (24, frames, bands))).astype(np.float32)
    before = {name: np.array(value) for name, value in cost.weights(model.net).items()}
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    losses = model.fit(x, batch_size=24, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    after = cost.weights(model.net)
    moved = {name for name, value in after.items() if np.any(np.array(value) != before[name])}
    assert {f"view{n}_centroids/codes" for n in range(1, 5)} <= moved
    assert not [name for name in moved if name.startswith(("fc1", "logits"))]


def test_the_gradient_of_a_centroid_leads_to_the_mean_of_what_is_near_it() -> None:
    config = replace(SMALL, seconds=0.5)
    model = train.seeded(lambda: bow_stats.objective(config, 3), 2)
    x = noise(model.net, 6)
    codes = model.centroids[0].codes
    with tf.GradientTape() as tape:
        loss = model.compute_loss(x, None, model(x, training=False))
    slope = tf.convert_to_tensor(tape.gradient(loss, codes.value)).numpy()
    near = np.asarray(seen(model.net, "view1_encode2")(x)).reshape(-1, 6)
    owner = np.asarray(nearest(near, codes))
    per_value = 2 / near.size / len(config.views)
    for index, code in enumerate(np.asarray(codes)):
        mine = near[owner == index]
        np.testing.assert_allclose(slope[index], per_value * (code - mine).sum(0), atol=1e-5)


def test_removing_silent_units_changes_nothing() -> None:
    family = registry.load("bow_stats")
    net = train.seeded(lambda: bow_stats.net(bow_stats.MICRO, 3), 2)
    weights = cost.weights(net)
    found = bow_stats.groups(bow_stats.MICRO)
    for group in found:
        (reader,) = group.scores
        value = np.moveaxis(np.array(weights[reader.weight]), reader.axis, 0)
        value[::4] = 0  # nobody hears every fourth unit
        weights[reader.weight].assign(np.moveaxis(value, 0, reader.axis))
    x = noise(net, 4)
    kept = {group.field: group.units - group.units // 4 for group in found}
    small = cut(family, bow_stats.MICRO, net, x, np.zeros(4, np.int64), kept)
    np.testing.assert_allclose(train.predict(small.net, x), train.predict(net, x), atol=1e-4)
    assert small.parameters[1] < 0.85 * small.parameters[0]


def test_clips_shorter_than_a_piece_are_refused() -> None:
    with pytest.raises(UserError, match=r"view3 .* pieces of 8 frames × 8 bands.* only 2 × 40"):
        bow_stats.net(replace(bow_stats.MICRO, seconds=0.05), 3)


def test_micro_streams_up_to_its_means_and_equals_its_window_for_ever() -> None:
    graph = passes.run(read_tflite.read(artefacts("bow_stats").read("int8.tflite"), "bow_stats"))
    made = stream(graph, HOP)
    assert "MEAN" in made.stopped_by
    assert not made.remembers  # no piece looks further back than the window
    assert made.macs < made.window_macs / 5
    _, rows, bands = graph.tensors[graph.inputs[0]].shape
    signal = np.random.default_rng(0).integers(-128, 128, (rows + 5 * HOP, bands)).astype(np.int8)
    assert prove(graph, made, signal) >= 5
    assert registry.card("bow_stats").streaming == "frame"
