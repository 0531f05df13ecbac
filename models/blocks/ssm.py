"""State-space layers: Mamba's selective scan, one way or both ways, as Vision Mamba stacks them.

Gu and Dao 2023, arXiv 2312.00752; Zhu et al. 2024, arXiv 2401.09417 (two directions in a mixer).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, log
from typing import Any, Literal

import numpy as np
from keras import initializers, layers, ops

from models.blocks.groups import Group, Slice
from models.blocks.normalise import LayerNorm
from models.blocks.scan import selective_scan
from models.official import Array, Rule, Turn, depthwise1d, linear, norm

TAPS = 4  # of the causal convolution in front of the scan
ISLAND = "_island"  # ends the name of a layer that quantisation leaves float
STEPS = 0.001, 0.1  # step sizes that training starts from, evenly on a logarithmic scale


@dataclass(frozen=True)
class Layer:
    """One layer: channels that are scanned, states of each, and inputs of the projection to step sizes."""

    inner: int
    states: int
    rank: int


@dataclass(frozen=True)
class Encoder:
    """A stack of layers.

    `both`: each mixer scans both ways, and layers come in pairs, one on the sequence and one on the
    sequence reversed, whose results and residuals are added. `forward`: what comes later is never seen.
    `decays`: one rate for each channel and state as in Mamba, or one for each state, which is one table of
    256 entries on a device. `norms`: how often the last normalisation is applied; its variances are as
    far apart as loud and silent frames are in the sum of all layers, so it is a float island.
    """

    width: int
    layers: tuple[Layer, ...]
    directions: Literal["forward", "both"] = "forward"
    decays: Literal["channel", "shared"] = "channel"
    norms: int = 1
    drop_path: float = 0.0  # share of mixers left out of the last layer in training, from 0 for the first


def uniform(
    width: int, depth: int, *, expand: int = 2, states: int = 16, rank: int | None = None
) -> tuple[Layer, ...]:
    """Return `depth` equal layers; the rank is a sixteenth of the width, as in Mamba."""
    return (Layer(expand * width, states, rank or -(-width // 16)),) * depth


class SelectiveScan(layers.Layer):
    """h = exp(Δ·A)·h + Δ·u·B along time from h = 0, y = Σ C·h over the states; Δ = softplus(step).

    Inputs: step and u (batch, time, channels), B and C (batch, time, states). Output as u. A = −exp(A_log):
    channels·states parameters, or states where the decays are shared. With `reverse` time runs backwards.
    """

    def __init__(self, shared: bool, reverse: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.shared, self.reverse = shared, reverse

    def build(self, shapes: Any) -> None:
        """Create A_log: A = −1, −2 … −states in every channel (S4D's real start)."""
        channels, states = shapes[0][-1], shapes[2][-1]
        start = np.log(np.arange(1, states + 1, dtype=np.float32))
        shape = (states,) if self.shared else (channels, states)
        value = np.broadcast_to(start, shape)
        self.A_log = self.add_weight(
            shape=shape, initializer=lambda shape, dtype: ops.cast(value, dtype), name="A_log"
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the scan of (step, u, B, C)."""
        step, u, into, out = inputs
        rates = -ops.exp(self.A_log)
        return selective_scan(
            ops.softplus(step), u, into, out, rates, reverse=self.reverse, training=bool(training)
        )

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the spec of u."""
        import keras

        return keras.KerasTensor(inputs[1].shape, inputs[1].dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "shared": self.shared, "reverse": self.reverse}


class Skip(layers.Layer):
    """Mamba's D: each channel times a weight, which starts at 1; any shape, one parameter a channel."""

    def build(self, shape: Any) -> None:
        """Create D = 1."""
        self.D = self.add_weight(shape=(shape[-1],), initializer="ones", name="D")

    def call(self, x: Any) -> Any:
        """Return the weighed `x`."""
        return x * self.D


def _scanned(x: Any, layer: Layer, shared: bool, reverse: bool, name: str) -> Any:
    """Return convolution, scan and skip of (batch, time, inner) in one direction."""
    padding = (0, TAPS - 1) if reverse else (TAPS - 1, 0)
    x = layers.ZeroPadding1D(padding, name=f"{name}_pad")(x)
    u = ops.silu(layers.DepthwiseConv1D(TAPS, padding="valid", name=f"{name}_conv")(x))
    into, out, low = (
        layers.Dense(units, use_bias=False, name=f"{name}_{part}")(u)
        for part, units in (("into", layer.states), ("outof", layer.states), ("rank", layer.rank))
    )
    spread = initializers.RandomUniform(-(layer.rank**-0.5), layer.rank**-0.5)
    start = initializers.RandomUniform(*(log(expm1(size)) for size in STEPS))  # softplus gives STEPS back
    step = layers.Dense(layer.inner, kernel_initializer=spread, bias_initializer=start, name=f"{name}_step")(
        low
    )
    y = SelectiveScan(shared, reverse, name=f"{name}_scan{ISLAND}")([step, u, into, out])
    return y + Skip(name=f"{name}_skip")(u)


def mixer(x: Any, layer: Layer, encoder: Encoder, reverse: bool, name: str) -> Any:
    """Return Mamba's mixer of (batch, time, width): gated scans between two projections.

    Two directions have all of their own but the projections and the gate; their mean is projected back.
    """
    joint = layers.Dense(2 * layer.inner, use_bias=False, name=f"{name}_in")(x)
    x, gate = ops.split(joint, 2, axis=-1)
    shared = encoder.decays == "shared"
    y = _scanned(x, layer, shared, reverse, name)
    if encoder.directions == "both":
        y = 0.5 * (y + _scanned(x, layer, shared, not reverse, f"{name}_back"))
    return layers.Dense(encoder.width, use_bias=False, name=f"{name}_out")(y * ops.silu(gate))


def encode(x: Any, encoder: Encoder) -> Any:
    """Return (batch, time, width) of the same, through all layers and the last normalisation."""
    rates = [0.0, *np.linspace(0, encoder.drop_path, len(encoder.layers))]

    def joined(residual: Any, x: Any, number: int, name: str) -> Any:
        drop = layers.Dropout(float(rates[number]), noise_shape=(None, 1, 1), name=f"{name}_drop_path")
        return x if residual is None else residual + drop(x)

    def block(residual: Any, x: Any, number: int, reverse: bool) -> tuple[Any, Any]:
        name = f"layer{number + 1}"
        residual = joined(residual, x, number, name)
        y = LayerNorm(epsilon=1e-5, name=f"{name}_norm")(residual)
        return mixer(y, encoder.layers[number], encoder, reverse, name), residual

    residual = None
    if encoder.directions == "forward":
        for number in range(len(encoder.layers)):
            x, residual = block(residual, x, number, False)
    else:
        for number in range(0, len(encoder.layers), 2):
            (x1, r1), (x2, r2) = (block(residual, x, number + i, bool(i)) for i in (0, 1))
            x, residual = x1 + x2, r1 + r2
    x = joined(residual, x, -1, "final")
    norm = LayerNorm(epsilon=1e-5, name=f"final_norm{ISLAND}")
    for _ in range(encoder.norms):
        x = norm(x)
    return x


def encoder_groups(encoder: Encoder, path: str) -> tuple[Group, ...]:
    """Return the channels and the states of every layer as groups.

    A channel is heard in the output, and in B, C and step sizes, which all channels share.
    """
    groups: list[Group] = []
    for index, layer in enumerate(encoder.layers):
        name = f"layer{index + 1}"
        sides = [name, f"{name}_back"] if encoder.directions == "both" else [name]
        readers = [Slice(f"{name}_out/kernel", 0)]
        own = [Slice(f"{name}_in/kernel", 1)]  # both halves, for each channel has a gate
        states: list[Slice] = []
        for side in sides:
            own += [Slice(f"{side}_conv/kernel", 1), Slice(f"{side}_conv/bias", 0)]
            readers += [Slice(f"{side}_{part}/kernel", 0) for part in ("into", "outof", "rank")]
            own += [
                Slice(f"{side}_step/kernel", 1),
                Slice(f"{side}_step/bias", 0),
                Slice(f"{side}_skip/D", 0),
            ]
            decay = f"{side}_scan{ISLAND}/A_log"
            if encoder.decays == "channel":
                own.append(Slice(decay, 0))
            states += [Slice(f"{side}_{part}/kernel", 1) for part in ("into", "outof")]
            states.append(Slice(decay, 1 if encoder.decays == "channel" else 0))
        field, least = f"{path}.layers.{index}", min(8, layer.inner)
        channels = (*own, *readers)
        groups.append(
            Group(f"{field}.inner", layer.inner, channels, tuple(readers), "taylor", least, multiple=4)
        )
        told, least = tuple(Slice(f"{side}_outof/kernel", 1) for side in sides), min(2, layer.states)
        groups.append(Group(f"{field}.states", layer.states, tuple(states), told, "taylor", least))
    return tuple(groups)


def rules(prefix: str) -> tuple[Rule, ...]:
    """Return the rules of an encoder in both directions from Vim's layers (hustvl/Vim)."""
    there = f"{prefix}layers.{{1-}}."
    found = [*norm(r"layer(\d+)_norm", f"{there}norm"), *norm(f"final_norm{ISLAND}", f"{prefix}norm_f")]
    for part in ("in", "out"):
        found.append(Rule(rf"layer(\d+)_{part}/kernel", f"{there}mixer.{part}_proj.weight", linear))
    for side, tail, middle in (("", "", ""), ("_back", "_b", "_b")):
        ours, mixer = rf"layer(\d+){side}_", f"{there}mixer."
        decay = f"{mixer}A{middle}_log"
        found += [
            Rule(f"{ours}step/kernel", f"{mixer}dt_proj{tail}.weight", linear),
            Rule(f"{ours}step/bias", f"{mixer}dt_proj{tail}.bias"),
            Rule(f"{ours}conv/bias", f"{mixer}conv1d{tail}.bias"),
            Rule(f"{ours}skip/D", f"{mixer}D{tail}"),
            Rule(f"{ours}scan{ISLAND}/A_log", decay),
        ]
        for index, part in enumerate(("rank", "into", "outof")):
            theirs = (f"{mixer}x_proj{tail}.weight", decay)
            found.append(Rule(f"{ours}{part}/kernel", theirs, _projection(index)))
        # what runs backwards here is a sequence turned round there: every second layer, and each `_back`
        odd, even = r"layer(\d*[13579])", r"layer(\d*[02468])"
        kernel = f"{mixer}conv1d{tail}.weight"
        found.append(Rule(f"{odd}{side}_conv/kernel", kernel, _reversed if side else depthwise1d))
        found.append(Rule(f"{even}{side}_conv/kernel", kernel, depthwise1d if side else _reversed))
    return tuple(found)


def _projection(index: int) -> Turn:
    """Return what takes the part for step sizes, B or C of the joint projection beside A_log's states."""

    def taken(joint: Array, decay: Array) -> Array:
        states = decay.shape[-1]
        return np.split(joint, [len(joint) - 2 * states, len(joint) - states])[index].T

    return taken


def _reversed(kernel: Array) -> Array:
    return depthwise1d(kernel)[::-1]
