"""Five nets of the blocks that modern audio models are made of, small, in Keras, with random weights."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import small_nets

from quantize import export

FRAMES, BANDS = 49, 32


def transformer(x: Any) -> Any:
    """Four encoder layers of width 64 on 98 frames: attention with 4 heads, GELU, LayerNorm."""
    from keras import activations, layers, ops

    from models.blocks.normalise import LayerNorm

    x = layers.Dense(64)(x)
    for _ in range(4):
        heads = [
            ops.transpose(ops.reshape(layers.Dense(64)(x), (-1, 98, 4, 16)), (0, 2, 1, 3)) for _ in "qkv"
        ]
        scores = ops.softmax(ops.matmul(heads[0] * 0.25, ops.transpose(heads[1], (0, 1, 3, 2))))
        mixed = ops.reshape(ops.transpose(ops.matmul(scores, heads[2]), (0, 2, 1, 3)), (-1, 98, 64))
        x = LayerNorm()(x + layers.Dense(64)(mixed))
        x = LayerNorm()(x + layers.Dense(64)(activations.gelu(layers.Dense(128)(x), approximate=False)))
    return layers.Dense(12)(ops.mean(x, axis=1))


def state_space(x: Any) -> Any:
    """A Mamba-style block: gated, causal depthwise convolution, selective scan of 8 states, unrolled."""
    from keras import layers, ops

    width, states = 32, 8
    a, gate = layers.Dense(width)(x), layers.Dense(width)(x)
    a = layers.DepthwiseConv1D(4, padding="valid")(layers.ZeroPadding1D((3, 0))(a))
    a = a * ops.sigmoid(a)
    step = ops.softplus(layers.Dense(width)(a))
    into, out = layers.Dense(states)(a), layers.Dense(states)(a)
    decay = -np.linspace(0.5, 4.0, states, dtype=np.float32)
    h, rows = None, []
    for t in range(FRAMES):
        dt = ops.expand_dims(step[:, t], -1)
        fresh = dt * ops.expand_dims(into[:, t], 1) * ops.expand_dims(a[:, t], -1)
        h = fresh if h is None else ops.exp(dt * decay) * h + fresh
        rows.append(ops.sum(h * ops.expand_dims(out[:, t], 1), axis=-1))
    y = (ops.stack(rows, axis=1) + a) * (gate * ops.sigmoid(gate))
    return layers.Dense(12)(ops.mean(y, axis=1))


def gated_recurrent(x: Any) -> Any:
    """A GRU of 32 units over the frames, unrolled: reset and update gate, candidate (Cho et al. 2014)."""
    from keras import layers, ops

    gates = layers.Dense(96)(x)
    recurrent = layers.Dense(96, use_bias=False)
    h = None
    for t in range(FRAMES):
        update, reset, fresh = (gates[:, t, i : i + 32] for i in (0, 32, 64))
        if h is None:
            h = ops.tanh(fresh) * (1.0 - ops.sigmoid(update))
            continue
        back = recurrent(h)
        update, reset = ops.sigmoid(update + back[:, :32]), ops.sigmoid(reset + back[:, 32:64])
        candidate = ops.tanh(fresh + reset * back[:, 64:])
        h = candidate + update * (h - candidate)
    return layers.Dense(12)(h)


def vocoder(x: Any) -> Any:
    """Frames to samples: transposed convolutions with dilated residual blocks between, tanh at the end."""
    from keras import layers, ops

    x = layers.Conv1D(32, 7, padding="same")(x)
    for channels, stride in ((24, 4), (16, 4), (8, 2)):
        x = layers.Conv1DTranspose(channels, 2 * stride, strides=stride, padding="same")(
            ops.leaky_relu(x, 0.1)
        )
        for dilation in (1, 3):
            branch = layers.Conv1D(channels, 3, dilation_rate=dilation, padding="same")(
                ops.leaky_relu(x, 0.1)
            )
            x = x + branch
    return ops.tanh(layers.Conv1D(1, 7, padding="same")(ops.leaky_relu(x, 0.1)))


def residual_quantiser(x: Any) -> Any:
    """Strided convolutions, then four codebooks of 64 entries, each for what the one before left over."""
    from keras import layers, ops

    x = layers.Conv1D(24, 5, strides=2, padding="same", activation="relu")(x)
    left = layers.Conv1D(16, 3, padding="same")(x)
    total = None
    for stage in range(4):
        chosen = _codebook(stage)(left)
        total, left = chosen if total is None else total + chosen, left - chosen
    return ops.reshape(total, (-1, 25 * 16))


def _codebook(stage: int) -> Any:
    """Return a function that gives the nearest of 64 vectors, by the least of |b|² - 2 x·b."""
    from keras import ops

    rng = np.random.default_rng(stage)
    book = (rng.normal(size=(64, 16)) * 0.5**stage).astype(np.float32)

    def nearest(x: Any) -> Any:
        distance = ops.matmul(x, -2.0 * book.T) + (book * book).sum(-1)
        nearest_first = ops.top_k(-distance, 1)[1]
        return ops.take(book, nearest_first[..., 0], axis=0)

    return nearest


SHAPES = {"transformer": (98, 40)}
NETS: dict[str, Callable[[Any], Any]] = {
    "transformer": transformer,
    "state_space": state_space,
    "gated_recurrent": gated_recurrent,
    "vocoder": vocoder,
    "residual_quantiser": residual_quantiser,
}


def samples(name: str, count: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return inputs (count, frames, bands) that vary slowly, as features of sound do."""
    frames, bands = SHAPES.get(name, (FRAMES, BANDS))
    rng = np.random.default_rng(seed)
    rough = rng.normal(size=(count, frames + 4, bands))
    return sum(rough[:, i : i + frames] for i in range(5)).astype(np.float32) / 2  # type: ignore[union-attr]


@functools.cache
def quantised(name: str) -> tuple[bytes, bytes]:
    """Return (float .tflite, int8 .tflite) of a net; what the quantiser cannot carry stays a float island."""
    import keras

    keras.utils.set_random_seed(1)
    entry = keras.Input(SHAPES.get(name, (FRAMES, BANDS)), name="features")
    net = keras.Model(entry, NETS[name](entry), name=name)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        export.float_tflite(net, place / "net.tflite", worker=small_nets.worker())
        np.save(place / "calibration.npy", samples(name, 48), allow_pickle=False)
        paths = {key: str(place / file) for key, file in PATHS.items()}
        small_nets.worker().call("quantize.int8", "convert", **paths)
        return (place / "net.tflite").read_bytes(), (place / "int8.tflite").read_bytes()


PATHS = {"model": "net.tflite", "calibration": "calibration.npy", "out": "int8.tflite"}
