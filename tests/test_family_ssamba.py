"""SSAMBA: the official outputs and counts, the pretraining, wrong checkpoints, and the stream of MICRO."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import official_golden
import pytest
from family_nets import artefacts

import boards
from boards.errors import UserError
from firmware.compiler import build as compiler
from firmware.compiler import interp
from firmware.compiler.build import Build
from firmware.compiler.passes.rewrite import drop_unused
from firmware.compiler.stream import stream
from kit import device
from models import frontend, official, registry, ssamba, train
from models.blocks import cost
from models.blocks.masked_patches import MaskedPatches
from models.blocks.ssm import uniform

NARROW = replace(ssamba.FULL.encoder, width=32, layers=uniform(32, 4))
GOLDEN = replace(ssamba.FULL, seconds=0.32, learned=(8, 2), encoder=NARROW)


def given(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_official_weights_give_the_official_logits() -> None:
    state, golden = official_golden.read("ssamba")
    net = ssamba.net(GOLDEN, 3)
    assert official.load(net, state, ssamba.official(GOLDEN)) == ()
    np.testing.assert_allclose(train.predict(net, golden["x"]), golden["logits"], atol=1e-4)


def test_every_second_layer_sees_the_sequence_reversed() -> None:
    state, golden = official_golden.read("ssamba")
    net = ssamba.net(GOLDEN, 3)
    official.load(net, state, ssamba.official(GOLDEN))
    weights = cost.weights(net)
    plain = state["module.v.layers.0.mixer.conv1d.weight"][:, 0].T[..., None]
    np.testing.assert_array_equal(weights["layer1_conv/kernel"], plain)
    turned = state["module.v.layers.1.mixer.conv1d.weight"][:, 0].T[::-1, :, None]
    np.testing.assert_array_equal(weights["layer2_conv/kernel"], turned)
    for v in weights.values():  # without the backward branches, as Vim's slow path is, all is different
        if "_back_" in v.path:
            v.assign(np.zeros(v.shape))
    assert np.abs(train.predict(net, golden["x"]) - golden["logits"]).max() > 1e-2


@pytest.mark.parametrize(
    ("size", "encoder", "module"),
    [
        ("full", 96_698_112, 99_042_794),
        ("small", 25_345_920, 26_224_106),
        ("tiny", 6_922_176, 7_288_298),
    ],
)
def test_official_counts(size: str, encoder: int, module: int) -> None:
    config = ssamba.SIZES[size]
    width = config.encoder.width
    net = cost.shape_only(lambda: ssamba.net(config, 527))
    assert cost.parameters(net) - (2 * width + 527 * width + 527) == encoder
    pretraining = cost.shape_only(lambda: ssamba.objective(config, 527))
    unused = width * 1_000 + 1_000  # Vim's head
    assert cost.parameters(pretraining) + unused + 2 == module  # 2: the bands and frames of the pretraining


def test_pretraining_learns_to_tell_patches_apart() -> None:
    config = replace(GOLDEN, pretraining=MaskedPatches(10, (1, 2)))
    model = train.seeded(lambda: ssamba.objective(config, 3), 0)
    model.compile(keras.optimizers.Adam(3e-3), run_eagerly=True)
    x = given((4, *model.input_shape[1:]), 1)
    losses = [model.fit(x, verbose=0).history["loss"][0] for _ in range(6)]
    assert losses[-1] < losses[0]
    assert model.targets is None


def test_pretraining_and_fine_tuning_read_each_other_s_file() -> None:
    state, _ = official_golden.read("ssamba")
    del state["module.mlp_head.1.bias"]
    with pytest.raises(UserError, match=r"logits/|mlp_head"):
        official.load(ssamba.net(GOLDEN, 3), state, ssamba.official(GOLDEN))
    body = {key: value for key, value in state.items() if "mlp_head" not in key}
    lacking = official.load(ssamba.net(GOLDEN, 3), body, ssamba.official(GOLDEN))
    assert set(lacking) == {"head_norm/gamma", "head_norm/beta", "logits/kernel", "logits/bias"}


def test_a_wrong_checkpoint_names_the_nearest_key() -> None:
    state, _ = official_golden.read("ssamba")
    renamed = {key.replace("A_b_log", "A_b"): value for key, value in state.items()}
    with pytest.raises(UserError, match=r"no v\.layers\.0\.mixer\.A_b_log.*nearest: v\.layers\.0\.mixer\.A_"):
        official.load(ssamba.net(GOLDEN, 3), renamed, ssamba.official(GOLDEN))
    deeper = replace(GOLDEN, encoder=replace(NARROW, layers=uniform(32, 2)))
    with pytest.raises(UserError, match="no place for"):
        official.load(ssamba.net(deeper, 3), state, ssamba.official(deeper))


def test_a_clip_shorter_than_a_patch_is_refused() -> None:
    with pytest.raises(UserError, match="take a longer clip"):
        ssamba.net(replace(ssamba.LITE, seconds=0.1), 3)


@functools.cache
def streaming() -> Build:
    """Return MICRO, untrained, compiled to take one frame at a time: 20 ms."""
    front = ssamba.frontend(ssamba.MICRO)
    assert isinstance(front, frontend.FrontEnd)
    return compiler.compile_model(
        artefacts("ssamba").read("int8.tflite"),
        boards.load("virtual-m7"),
        Path(tempfile.mkdtemp()) / "stream",
        name="ssamba",
        frontend=asdict(front),
        frontend_tables=frontend.tables(replace(front, frames=1)),
        hop=1,
    )


def test_micro_streams_frame_by_frame() -> None:
    build = streaming()
    assert registry.card("ssamba").streaming == "frame"
    assert build.stream is not None
    assert build.stream["macs"] * 20 < build.stream["window_macs"]
    assert [node.op for node in build.graph.nodes].count("EAR_SCAN_ON") == len(ssamba.MICRO.encoder.layers)


def test_every_frame_of_the_stream_equals_that_of_the_window() -> None:
    whole = streaming().window
    mean = next(node for node in reversed(whole.nodes) if node.op == "MEAN")  # over all frames
    frames = drop_unused(replace(whole, outputs=(mean.inputs[0],)))
    made = stream(frames, 1)
    assert (made.outputs, made.stopped_by) == (1, "")
    x = np.random.default_rng(1).integers(-128, 128, frames.tensors[frames.inputs[0]].shape).astype(np.int8)
    (wanted,), states = interp.run(frames, [x]), interp.initial_states(made.graph)
    for t in range(made.window):
        (told,), states = interp.step(made.graph, [x[:, t : t + 1]], states)
        np.testing.assert_array_equal(told[:, 0], wanted[:, t])


def test_micro_on_the_board_is_the_stream_at_every_hop_and_the_window_at_its_end() -> None:
    build, front = streaming(), ssamba.frontend(ssamba.MICRO)
    assert isinstance(front, frontend.FrontEnd)
    longer = replace(front, frames=front.frames + 12)
    samples = (3_000 * np.random.default_rng(1).standard_normal(longer.samples)).astype(np.int16)
    entry = build.graph.tensors[build.graph.inputs[0]].quantisation
    assert entry is not None
    heard = frontend.features(samples, longer)
    x = frontend.quantise(heard, float(entry.scale[0]), int(entry.zero_point[0])).astype(np.int8)[None]
    states, wanted = interp.initial_states(build.graph), []
    for t in range(longer.frames):
        (told,), states = interp.step(build.graph, [x[:, t : t + 1]], states)
        wanted.append(told.ravel())
    np.testing.assert_array_equal(
        wanted[front.frames - 1], interp.run(build.window, [x[:, : front.frames]])[0].ravel()
    )
    with device.open(build, None) as board:
        made = [result.output for result in board.stream([samples], 1)]
    np.testing.assert_array_equal(made, wanted[-len(made) :])
    assert len(made) > longer.frames - front.frames
