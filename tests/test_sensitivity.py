"""Sensitivity: the layer that was made bad on purpose is found, and the fix that is proposed helps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_nets
from small_nets import samples

from quantize import export, int8, sensitivity


def lopsided(x: Any) -> Any:
    """One hidden unit is 300 times as large as the others, and scaled back: int8 steps drown the rest."""
    from keras import layers, ops

    scale = np.array([300.0] + [1.0] * 7, np.float32)
    x = ops.relu(layers.Dense(8, name="before")(layers.Flatten()(x)) * scale)
    return ops.relu(x * (1 / scale))


@pytest.fixture(scope="module")
def found() -> sensitivity.Sensitivity:
    with tempfile.TemporaryDirectory() as folder:
        export.float_tflite(small_nets.net(lopsided), Path(folder) / "net.tflite", worker=small_nets.worker())
        model = (Path(folder) / "net.tflite").read_bytes()
    return sensitivity.rank(model, samples(24), worker=small_nets.worker())


def test_the_bad_layers_come_first(found: sensitivity.Sensitivity) -> None:
    ranked = [layer.alone_db for layer in found.layers]
    assert ranked == sorted(ranked)
    assert {"before" in found.layers[0].name, "before" in found.layers[1].name} == {True, False}
    assert "MUL" in (found.layers[0].op, found.layers[1].op)  # where the units differ by 300
    assert found.layers[0].alone_db < found.layers[-1].alone_db - 15


def test_fixes_help_and_say_what_they_cost(found: sensitivity.Sensitivity) -> None:
    fixed = [layer for layer in found.layers if layer.fix != "none"]
    assert [(layer.fix, layer.extra_bytes) for layer in fixed] == [("int16", 8)]  # eight hidden units
    for layer in fixed:
        assert layer.fixed_db is not None
        assert layer.fixed_db > found.total_db + 20


def test_total_is_the_int8_nets_own_noise(found: sensitivity.Sensitivity) -> None:
    even = sensitivity.rank(
        small_nets.float_tflite("attentive"), samples(24), worst=0, worker=small_nets.worker()
    )
    assert even.total_db > found.total_db + 6
    x = samples(24)
    noise = int8.sqnr_db(
        int8.run(small_nets.float_tflite("attentive"), x), int8.run(small_nets.int8_tflite("attentive"), x)
    )
    assert even.total_db == pytest.approx(noise, abs=3.0)  # calibrated on 64 samples there, on 24 here
