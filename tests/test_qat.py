"""QAT: the converter's rounding, gradients that pass, BatchNorm at rest, and int8 that gets better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import small_nets
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small_nets import BANDS, CLASSES, FRAMES, samples

from firmware.compiler import read_tflite
from models.train import Recipe
from quantize import deploy, int8, qat
from quantize.prepare import Examples
from quantize.stages import Net, Work, silent


def test_kernels_are_rounded_as_the_converter_rounds_them() -> None:
    graph = read_tflite.read(small_nets.int8_tflite("attentive"), "model")
    dense = [node for node in graph.nodes if node.op == "FULLY_CONNECTED"]
    weights = graph.tensors[dense[-1].inputs[1]]  # of the logits
    assert weights.quantisation is not None
    assert weights.data is not None
    real = weights.data.astype(np.float64) * weights.quantisation.scale[:, None]
    kernel = small_nets.model("attentive").get_layer("logits").kernel
    np.testing.assert_allclose(np.array(qat.rounded_kernel(kernel.value, (0,))).T, real, atol=1e-6)


@given(
    arrays.arrays(np.float32, (4, 6), elements=st.floats(-50, 50, width=32)),
    st.floats(-50, -0.125),
    st.floats(0.125, 50),
)
@settings(max_examples=40, deadline=None)
def test_activations_are_rounded_to_256_levels_with_an_exact_zero(x: Any, low: float, high: float) -> None:
    layer = qat.FakeQuantise()
    layer.build(x.shape)
    layer.low.assign(low)
    layer.high.assign(high)
    y = np.array(layer(x))
    scale = max(high - low, 1e-8) / 255
    steps = y / scale
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-2)
    inside = (x > low + scale) & (x < high - scale)
    assert np.abs(y - x)[inside].max(initial=0) <= scale * 0.51 + 1e-5
    assert (y >= low - scale).all()
    assert (y <= high + scale).all()
    assert float(np.array(layer(np.zeros(1, np.float32)))[0]) == 0.0


def test_ranges_grow_at_once_and_shrink_slowly() -> None:
    layer = qat.FakeQuantise()
    layer(np.array([-2.0, 3.0], np.float32), training=True)
    assert (float(layer.low.value), float(layer.high.value)) == (-2.0, 3.0)
    layer(np.array([-1.0, 1.0], np.float32), training=True)
    assert float(layer.high.value) == pytest.approx(3.0 - 0.02)
    layer(np.array([-1.0, 9.0], np.float32), training=False)
    assert float(layer.high.value) == pytest.approx(2.98)


def test_gradients_pass_straight_through() -> None:
    import tensorflow as tf

    kernel = tf.Variable(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(qat.rounded_kernel(kernel, (0,)) * 2.0)
    np.testing.assert_allclose(tape.gradient(total, kernel), np.full((5, 3), 2.0))


@pytest.mark.parametrize("body", small_nets.BODIES)
def test_rounded_net_loses_as_much_as_real_int8(body: str) -> None:
    net, x = small_nets.model(body), samples(40, seed=5)
    rounded = qat.fake_quantised(net)
    rounded(samples(64), training=True)
    wanted = net.predict_on_batch(x)
    simulated = int8.sqnr_db(wanted, np.array(rounded(x)))
    real = int8.sqnr_db(wanted, int8.run(small_nets.int8_tflite(body), x))
    assert simulated == pytest.approx(real, abs=5.0)


def test_training_tunes_the_net_and_leaves_batchnorm_at_rest() -> None:
    net = small_nets.net(small_nets.convolutional, seed=3)
    norm, kernel = net.get_layer("norm"), net.get_layer("conv").kernel
    before = [np.array(v) for v in (norm.moving_mean, norm.moving_variance, kernel)]
    rounded = qat.fake_quantised(net)
    rounded(samples(32), training=True)
    rounded.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rounded.fit(samples(32), np.arange(32) % CLASSES, epochs=2, verbose=0)
    np.testing.assert_array_equal(norm.moving_mean, before[0])
    np.testing.assert_array_equal(norm.moving_variance, before[1])
    assert np.abs(np.array(kernel) - before[2]).max() > 1e-5
    assert len(net.trainable_variables) == len(rounded.trainable_variables)


def sorted_by_band() -> Examples:
    """Return an easy problem: the class is the band with the most energy, of the first five."""
    rng = np.random.default_rng(0)

    def some(n: int) -> tuple[Any, Any]:
        y = np.arange(n) % CLASSES
        x = rng.normal(size=(n, FRAMES, BANDS)).astype(np.float32)
        x[np.arange(n), :, y] += 1.0
        return x, y

    x, y = some(600)
    return Examples(x, y, 1, some(400))


def fragile(examples: Examples) -> Any:
    """Return a net that solves it, one hidden unit scaled up 400 times and back: PTQ drowns the others."""
    from keras import layers

    net = small_nets.net(lambda x: layers.Dense(12, activation="relu", name="hidden")(layers.Flatten()(x)))
    net.compile(keras.optimizers.Adam(5e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.fit(examples.x, examples.y, epochs=12, verbose=0)
    hidden, logits = net.get_layer("hidden"), net.get_layer("logits")
    scale = np.array([400.0] + [1.0] * 11, np.float32)
    hidden.kernel.assign(hidden.kernel * scale)
    hidden.bias.assign(hidden.bias * scale)
    logits.kernel.assign(logits.kernel / scale[:, None])
    return net


def build(_config: dict[str, Any]) -> Any:
    from keras import layers

    return small_nets.net(lambda x: layers.Dense(12, activation="relu", name="hidden")(layers.Flatten()(x)))


def quantised(net: Any, examples: Examples, folder: Path, progress: Any = silent) -> deploy.Files:
    return deploy.quantise(
        Net(net, {}),
        build,
        examples.x[:128],
        examples,
        recipe=Recipe(epochs=15, learning_rate=3e-3, examples=600),
        seed=0,
        work=Work(folder / "b", "0" * 64),
        worker=small_nets.worker(),
        progress=progress,
    )


def test_qat_mends_what_ptq_breaks_and_says_so(tmp_path: Path) -> None:
    examples = sorted_by_band()
    net = fragile(examples)
    before = [np.array(v) for v in net.variables]
    files = quantised(net, examples, tmp_path)
    assert files.qat.startswith("used: PTQ loses")
    assert files.ptq is not None
    assert examples.validation is not None
    x, y = examples.validation
    plain, aware = (np.mean(int8.run(m, x).argmax(1) == y) for m in (files.ptq, files.int8_model))
    assert aware > plain + 0.02
    for value, variable in zip(before, net.variables, strict=True):  # the float net stays as it was
        np.testing.assert_array_equal(value, variable)
    stages: list[str] = []
    again = quantised(net, examples, tmp_path, lambda stage, _done, _total: stages.append(stage))
    assert again == files
    assert "QAT" not in stages  # taken from the work folder


def test_qat_is_left_alone_where_ptq_is_good(tmp_path: Path) -> None:
    examples = sorted_by_band()
    files = quantised(build({}), Examples(examples.x, examples.y, 1, None), tmp_path)
    assert files.ptq is None
    assert files.qat == "not used: no validation clips on validation"
