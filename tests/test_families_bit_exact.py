"""Every family's int8 net: TFLM and our interpreter agree on every byte, on random inputs and on sounds."""

from __future__ import annotations

import numpy as np
import pytest
import small_nets
from tflite_micro import runtime

from firmware.compiler import interp, passes, read_tflite
from models import data, frontend, registry
from models.data import synthetic
from quantize import int8

RANDOM, CLIPS_PER_CLASS = 200, 4  # of 13 classes: 52 sounds


@pytest.mark.parametrize("name", registry.names())
def test_tflm_gives_the_same_bytes(name: str) -> None:
    _, front, float_model, _ = small_nets.family(name)
    clips = synthetic.make(0, CLIPS_PER_CLASS).clips
    heard = np.stack(
        [
            frontend.features(data.window(clip.samples(front.sample_rate), front.samples), front)
            for clip in clips
        ]
    )
    model = int8.quantise(float_model, frontend.to_float(heard), worker=small_nets.worker())
    graph = passes.unfused(read_tflite.read(model, name))
    entry = graph.tensors[graph.inputs[0]]
    assert entry.quantisation is not None
    scale, zero = float(entry.quantisation.scale[0]), int(entry.quantisation.zero_point[0])
    sounds = frontend.quantise(heard, scale, zero).reshape(-1, *entry.shape[1:])
    noise = np.random.default_rng(0).integers(-128, 128, (RANDOM, *entry.shape[1:]), dtype=np.int8)
    inputs = np.concatenate([noise, sounds])
    oracle = runtime.Interpreter.from_bytes(model)
    wanted = []
    for x in inputs:
        oracle.set_input(x[None], 0)
        oracle.invoke()
        wanted.append(oracle.get_output(0)[0])
    np.testing.assert_array_equal(interp.run_batch(graph, inputs), np.stack(wanted))
