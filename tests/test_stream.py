"""The streaming pass: hop by hop, bit for bit what the window model says, in numpy and C; its refusals."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware.compiler import build, interp, passes, read_tflite
from firmware.compiler.graph import Array, Graph, ModelError
from firmware.compiler.order import order
from firmware.compiler.plan import plan
from firmware.compiler.stream import prove, stream

Q = (0.05, 7)
RNG = np.random.default_rng(5)


@dataclass
class Net:
    """A net under construction: time along axis 1, each method adds one op."""

    last: tfl.Value
    nodes: list[tfl.Op] = field(default_factory=list)

    @classmethod
    def of(cls, rows: int, columns: int = 4, channels: int = 3) -> Net:
        return cls(tfl.Value("x", (1, rows, columns, channels), "int8", *Q))

    @property
    def input(self) -> tfl.Value:
        return self.nodes[0].inputs[0] if self.nodes else self.last  # type: ignore[return-value]

    def add(
        self, name: str, operands: list[tfl.Value], shape: tuple[int, ...], version: int = 1, **options: Any
    ) -> Net:
        made = tfl.Value(f"v{len(self.nodes)}", shape, "int8", *Q)
        self.nodes.append(tfl.Op(name, [self.last, *operands], [made], options, version))
        self.last = made
        return self

    def conv(
        self, size: int, stride: int = 1, dilation: int = 1, padding: str = "VALID", causal: bool = False
    ) -> Net:
        _, rows, columns, channels = self.last.shape
        reach = (size - 1) * dilation + 1
        if causal:
            around = np.array([[0, 0], [reach - stride, 0], [0, 0], [0, 0]], np.int32)
            rows += reach - stride
            self.add("PAD", [tfl.constant(f"p{len(self.nodes)}", around)], (1, rows, columns, channels))
        out = -(-rows // stride) if padding == "SAME" else (rows - reach) // stride + 1
        weights = tfl.constant(
            f"w{len(self.nodes)}", RNG.integers(-127, 128, (5, size, 1, channels)), "int8", 0.003
        )
        slide = {"padding": padding, "stride_h": stride, "stride_w": 1, "dilation_h_factor": dilation}
        return self.add("CONV_2D", [weights], (1, out, columns, 5), 3, **slide, dilation_w_factor=1)

    def pool(self, size: int, stride: int) -> Net:
        _, rows, columns, channels = self.last.shape
        slide = {
            "padding": "VALID",
            "stride_h": stride,
            "stride_w": 1,
            "filter_height": size,
            "filter_width": 1,
        }
        return self.add("MAX_POOL_2D", [], (1, (rows - size) // stride + 1, columns, channels), 2, **slide)

    def relu(self) -> Net:
        return self.add("RELU", [], self.last.shape)

    def dense(self) -> Net:
        *others, depth = self.last.shape
        weights = tfl.constant(f"w{len(self.nodes)}", RNG.integers(-127, 128, (6, depth)), "int8", 0.003)
        return self.add("FULLY_CONNECTED", [weights], (*others, 6), 5, keep_num_dims=True)

    def mean(self) -> Net:
        axes = tfl.constant(f"a{len(self.nodes)}", [1, 2])
        return self.add("MEAN", [axes], (1, self.last.shape[3]), keep_dims=False)

    def attention(self, chunk: int) -> Net:
        """Add attention of the values of `chunk` rows to one another; all rows: over the window."""
        shape = self.last.shape
        chunks = shape[1] // chunk, chunk * shape[2], shape[3]
        x = self.add("RESHAPE", [tfl.constant(f"s{len(self.nodes)}", list(chunks))], chunks).last
        square = (chunks[0], chunks[1], chunks[1])
        weights = tfl.Value(f"p{len(self.nodes)}", square, "int8", 1 / 256, -128)
        scores = self.add("BATCH_MATMUL", [x], square, 4, adj_y=True).last
        self.nodes.append(tfl.Op("SOFTMAX", [scores], [weights], {"beta": 1.0}, 2))
        self.last = weights
        self.add("BATCH_MATMUL", [x], chunks, 4)
        return self.add("RESHAPE", [tfl.constant(f"s{len(self.nodes)}", list(shape))], shape)

    def graph(self) -> Graph:
        return passes.run(read_tflite.read(tfl.model([self.input], self.nodes, [], [self.last]), "net"))


def signal(graph: Graph, rows: int) -> Array:
    return RNG.integers(-128, 128, (rows, *graph.tensors[graph.inputs[0]].shape[2:])).astype(np.int8)


def compared(net: Net, hop: int, windows: int = 3) -> int:
    graph = net.graph()
    made = stream(graph, hop)
    return prove(graph, made, signal(graph, made.window + windows * hop))


def test_filters_without_padding_equal_the_window_for_ever() -> None:
    net = Net.of(30).conv(3).relu().conv(3, stride=2).pool(2, 2).conv(2, dilation=2).dense().mean()
    assert compared(net, 4) >= 3
    made = stream(net.graph(), 4)
    assert (made.remembers, made.outputs) == (False, 0)
    assert "MEAN" in made.stopped_by
    weighted = [node for node in made.graph.nodes if node.op == "CONV_2D"]
    assert [made.graph.tensors[node.outputs[0]].shape[1] for node in weighted] == [4, 2, 1]


def test_causal_filters_equal_the_window_from_a_fresh_start() -> None:
    net = (
        Net.of(24).conv(3, causal=True).relu().conv(4, stride=2, causal=True).conv(3, dilation=2, causal=True)
    )
    made = stream(net.graph(), 2)
    assert (made.remembers, made.outputs, made.stopped_by) == (True, 1, "")
    assert compared(net, 2) == 1


def test_attention_within_chunks_runs_once_a_chunk() -> None:
    net = Net.of(26).conv(3).conv(2, stride=2).attention(3).dense().mean()
    graph = net.graph()
    assert any(node.op.startswith("EAR_ATTENTION") for node in graph.nodes)
    made = stream(graph, 6)
    assert "MEAN" in made.stopped_by
    assert made.macs < made.window_macs / 3
    assert max(made.graph.tensors[state.read].shape for state in made.graph.states) == (1, 12, 4, 6)
    assert compared(net, 6) == 3


def test_attention_over_the_window_or_across_hops_stops_rows() -> None:
    whole = Net.of(26).conv(3).conv(2, stride=2).attention(12).mean()
    assert "it relates every row of the window to every other" in stream(whole.graph(), 6).stopped_by
    assert compared(whole, 6) == 3
    across = Net.of(26).conv(3).conv(2, stride=2).attention(3).mean()
    assert "its chunks of 3 do not divide the 2 new rows" in stream(across.graph(), 4).stopped_by
    assert compared(across, 4) >= 3


def test_padding_at_the_end_keeps_the_rest_whole() -> None:
    net = Net.of(20).conv(3).conv(3, padding="SAME").mean()
    made = stream(net.graph(), 2)
    assert "1 rows past the end" in made.stopped_by
    assert compared(net, 2) == 4


def test_a_net_that_cannot_flow_is_refused_with_the_node() -> None:
    with pytest.raises(
        ModelError, match=r"CONV_2D 'v0': it looks 1 rows past the end .* causal or valid padding"
    ):
        stream(Net.of(20).conv(3, padding="SAME").mean().graph(), 2)


@pytest.mark.parametrize(
    ("hop", "message"), [(0, "must be shorter"), (20, "must be shorter"), (3, "no multiple of 3")]
)
def test_hops_that_cannot_be(hop: int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        stream(Net.of(20).conv(3, causal=True).graph(), hop)


def test_a_hop_that_a_stride_does_not_divide_stops_the_flow() -> None:
    net = Net.of(21).conv(3).conv(3, stride=2).mean()
    assert "stride of 2 does not divide the 3 new rows" in stream(net.graph(), 3).stopped_by
    assert compared(net, 3) >= 3


@st.composite
def nets(draw: Any) -> tuple[Net, int]:
    """Draw a net of filters along time, some causal, and a hop."""
    net, hop = Net.of(24, columns=2), draw(st.sampled_from([2, 4]))
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "causal", "pool", "relu", "dense"]))
        rows = net.last.shape[1]
        size, stride, dilation = (
            draw(st.integers(1, 4)),
            draw(st.sampled_from([1, 1, 2])),
            draw(st.integers(1, 2)),
        )
        if kind in ("conv", "causal") and size >= stride and (size - 1) * dilation + 1 <= rows:
            net.conv(size, stride, dilation, causal=kind == "causal" and (size - 1) * dilation + 1 > stride)
        elif kind == "pool" and size <= rows:
            net.pool(size, min(stride, size))
        elif kind == "relu":
            net.relu()
        else:
            net.dense()
    return (net.mean() if draw(st.booleans()) else net), hop


@given(nets())
@settings(max_examples=60, deadline=None)
def test_drawn_nets_stream_what_they_say_of_windows(drawn: tuple[Net, int]) -> None:
    net, hop = drawn
    try:
        assert compared(net, hop) >= 1
    except ModelError as error:
        assert "cannot be streamed" in str(error)  # noqa: PT017


def test_the_c_of_a_stream_equals_its_meaning() -> None:
    net = Net.of(24).conv(3, causal=True).relu().conv(4, stride=2, causal=True).dense().mean()
    made = order(stream(net.graph(), 4).graph)
    rows = signal(net.graph(), 24)
    states = interp.initial_states(made)
    with tempfile.TemporaryDirectory() as folder:
        run = build.host_library(made, plan(made), Path(folder))
        for start in range(0, 24, 4):
            (wanted,), states = interp.step(made, [rows[None, start : start + 4]], states)
            np.testing.assert_array_equal(run([rows[None, start : start + 4]])[0], wanted)
