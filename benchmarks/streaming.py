"""What streaming saves: instructions of three nets for keywords, hop by hop and a window each hop.

`python -m benchmarks.streaming` writes results/streaming.md. The nets take 98 frames of 40 bands, 10 ms each;
their weights are drawn, which instructions do not depend on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

import boards
from firmware.compiler import build as compiler
from firmware.compiler.stream import prove, stream
from kit import device, per_second
from models import frontend
from models.frontend import FrontEnd
from tests import tflite_writer as writer
from tests.tflite_writer import Op, Value

RESULT = Path(__file__).parent / "results" / "streaming.md"
BOARD = "virtual-m4"
FRONT = FrontEnd(bands=40, window=512, hop=160, frames=98)
SCALE, ZERO = 0.05, -5
LABELS = 12
HEAD = (
    "| net | parameters | hop | model, a hop | window, a hop | all, a second | window, a second | saved |"
    " RAM | window's RAM |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


@dataclass
class Net:
    """A net under construction, on frames (1, 98, 40, 1)."""

    parameters: int = 0
    nodes: list[Op] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def __post_init__(self) -> None:
        self.input = self.last = Value("frames", (1, FRONT.frames, FRONT.bands, 1), "int8", SCALE, ZERO)

    def add(
        self, op: str, inputs: list[Value], shape: tuple[int, ...], version: int = 1, **options: Any
    ) -> Value:
        """Add an op behind the last one."""
        self.last = Value(f"value {len(self.nodes)}", shape, "int8", SCALE, ZERO)
        self.nodes.append(Op(op, inputs, [self.last], options, version))
        return self.last

    def weights(self, shape: tuple[int, ...], fan_in: int) -> Value:
        """Return drawn weights."""
        drawn = self.rng.integers(-127, 128, shape)
        self.parameters += drawn.size
        return writer.constant(f"weights {len(self.nodes)}", drawn, "int8", 1 / (40 * fan_in**0.5))

    def numbers(self, name: str, values: Any) -> Value:
        """Return a constant of integers."""
        return writer.constant(f"{name} {len(self.nodes)}", values)

    def reshape(self, *shape: int) -> Value:
        """Give the last value another shape."""
        return self.add("RESHAPE", [self.last, self.numbers("shape", list(shape))], shape)

    def conv(
        self,
        filters: int,
        size: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        dilation: int = 1,
        depthwise: bool = False,
    ) -> Value:
        """Add a convolution with ReLU: causal along time, SAME across bands."""
        _, rows, columns, channels = self.last.shape
        reach = (size[0] - 1) * dilation + 1
        made = -(-columns // stride[1])
        across = max(0, (made - 1) * stride[1] + size[1] - columns)
        before = max(reach - stride[0], 0)
        around = [[0, 0], [before, 0], [across // 2, across - across // 2], [0, 0]]
        if before or across:
            shape = (1, rows + before, columns + across, channels)
            self.add("PAD", [self.last, self.numbers("around", around)], shape)
        slide = {"padding": "VALID", "stride_h": stride[0], "stride_w": stride[1], "dilation_w_factor": 1}
        slide |= {"dilation_h_factor": dilation, "fused_activation_function": "RELU"}
        shape = (1, (rows + before - reach) // stride[0] + 1, made, channels if depthwise else filters)
        if depthwise:
            weights = self.weights((1, *size, channels), size[0] * size[1])
            return self.add("DEPTHWISE_CONV_2D", [self.last, weights], shape, 3, depth_multiplier=1, **slide)
        weights = self.weights((filters, *size, channels), size[0] * size[1] * channels)
        return self.add("CONV_2D", [self.last, weights], shape, 3, **slide)

    def dense(self) -> Value:
        """Add the classifier."""
        depth = self.last.shape[-1]
        weights = self.weights((LABELS, depth), depth)
        return self.add("FULLY_CONNECTED", [self.last, weights], (1, LABELS))

    def mean(self, axis: int) -> Value:
        """Add a mean over one axis."""
        shape = tuple(n for i, n in enumerate(self.last.shape) if i != axis)
        return self.add("MEAN", [self.last, self.numbers("axis", [axis])], shape, keep_dims=False)

    def end(self) -> Value:
        """Take the last row of (1, rows, channels)."""
        _, rows, channels = self.last.shape
        ranges = zip("abc", ([0, rows - 1, 0], [1, rows, channels], [1, 1, 1]), strict=True)
        inputs = [self.last, *(self.numbers(name, values) for name, values in ranges)]
        return self.add("STRIDED_SLICE", inputs, (1, channels), shrink_axis_mask=2)

    def lstm(self, units: int) -> Value:
        """Add an LSTM layer over (1, rows, channels)."""
        x, gates = self.last, range(4)
        into = [self.gate(f"in {i}", units, x.shape[2]) for i in gates]
        back = [self.gate(f"back {i}", units, units) for i in gates]
        biases = [writer.constant(f"bias {i}", np.zeros(units), "int32", SCALE / 256) for i in gates]
        self.parameters += 4 * units * (x.shape[2] + units + 1)
        hidden = Value("hidden", (1, units), "int8", 1 / 128, 0, variable=True)
        cell = Value("cell", (1, units), "int16", 2.0**-11, 0, variable=True)
        inputs = [x, *into, *back, None, None, None, *biases, None, None, hidden, cell, *[None] * 4]
        self.last = Value("lstm", (1, x.shape[1], units), "int8", 1 / 128, 0)
        options = {"fused_activation_function": "TANH", "cell_clip": 10.0, "time_major": False}
        self.nodes.append(Op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [self.last], options, 3))
        return self.last

    def gate(self, name: str, units: int, depth: int) -> Value:
        """Return drawn weights of one gate."""
        return writer.constant(name, self.rng.integers(-127, 128, (units, depth)), "int8", 1 / 256)


def ds_cnn() -> tuple[Net, int]:
    """Return a causal depthwise-separable CNN, and its hop: two frames, since its first layer skips one."""
    net = Net()
    net.conv(96, (10, 4), (2, 4))
    for _ in range(5):
        net.conv(96, (3, 3), depthwise=True)
        net.conv(96, (1, 1))
    net.mean(2)
    net.mean(1)
    net.dense()
    return net, 2


def conv_lstm() -> tuple[Net, int]:
    """Return a causal convolution over frames, an LSTM of 64 units and what it says at the end."""
    net = Net()
    net.reshape(1, FRONT.frames, 1, FRONT.bands)
    net.conv(64, (3, 1))
    net.reshape(1, FRONT.frames, 64)
    net.lstm(64)
    last = net.end()
    net.last = replace_scale(net, last)
    net.dense()
    return net, 1


def replace_scale(net: Net, value: Value) -> Value:
    """Return a value with the scale of the layer that it came from: a slice only moves values."""
    made = replace(value, scale=1 / 128, zero_point=0)
    net.nodes[-1] = replace(net.nodes[-1], outputs=[made])
    return made


def tcn() -> tuple[Net, int]:
    """Return a temporal convolutional net: five causal layers, dilated by 1 to 16, with residual sums."""
    net = Net()
    net.reshape(1, FRONT.frames, 1, FRONT.bands)
    net.conv(64, (3, 1))
    for dilation in (1, 2, 4, 8, 16):
        before = net.last
        net.conv(64, (3, 1), dilation=dilation)
        net.add("ADD", [before, net.last], net.last.shape)
    net.reshape(1, FRONT.frames, 64)
    net.end()
    net.dense()
    return net, 1


NETS: dict[str, Callable[[], tuple[Net, int]]] = {
    "causal DS-CNN": ds_cnn,
    "convolution + LSTM": conv_lstm,
    "TCN, dilated": tcn,
}


def sound(rows: int) -> per_second.Sound:
    """Return noise that comes and goes, long enough to be counted."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((1, FRONT.samples)) * 4000 * np.sin(np.arange(FRONT.samples) / 3000)
    return per_second.enough(noise.astype(np.int16), FRONT.samples, rows * FRONT.hop)


@dataclass(frozen=True)
class Count:
    """What one build costs."""

    model: int  # instructions of a run
    hop: int  # of a hop: its features and the run
    ram: int  # bytes of arena and states


def count(model: bytes, name: str, hop: int, folder: Path, *, streams: bool) -> Count:
    """Compile a net, as a stream or as a window model, and count a hop of it."""
    tables = frontend.tables(replace(FRONT, frames=hop) if streams else FRONT)
    made = compiler.compile_model(
        model,
        boards.load(BOARD),
        folder,
        name=name,
        frontend=asdict(FRONT),
        frontend_tables=tables,
        hop=hop if streams else None,
    )
    if streams:
        rows = np.random.default_rng(1).integers(-128, 128, (FRONT.frames + hop, FRONT.bands, 1))
        assert prove(made.window, stream(made.window, hop), rows.astype(np.int8))
    with device.open(made, None) as board:
        shape = made.graph.tensors[made.graph.inputs[0]].shape
        run = board.profile(np.zeros(shape, np.int8)).total
        heard = per_second.heard(board, sound(hop), hop)
    memory = made.sizes["ram_bytes"]
    return Count(run, heard, memory["arena"] + memory.get("state", 0))


def row(name: str, folder: Path) -> str:
    """Return the line of a net."""
    net, hop = NETS[name]()
    model = writer.model([net.input], net.nodes, [], [net.last])
    streamed, window = (count(model, name, hop, folder / f"{hop}{s}", streams=s) for s in (True, False))
    hops = FRONT.sample_rate / (FRONT.hop * hop)
    figures = (
        f"{net.parameters:,}",
        f"{1000 / hops:g} ms",
        *(f"{one.model:,}" for one in (streamed, window)),
        *(f"{one.hop * hops / 1e6:,.1f} M" for one in (streamed, window)),
        f"{window.hop / streamed.hop:.1f} ×",
        *(f"{one.ram:,}" for one in (streamed, window)),
    )
    return f"| {name} | {' | '.join(figures)} |"


def main() -> None:
    """Write the table."""
    rows = list(HEAD)
    for name in NETS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(name, Path(folder)))
    note = (
        f"Emulated on {BOARD}, {date.today():%Y-%m-%d}: instructions; a second includes the front end. "
        "RAM: arena and states, bytes. Weights are drawn."
    )
    RESULT.write_text("\n".join([*rows, "", note, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
