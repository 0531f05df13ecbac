"""Every op of the registry in a stream: new rows of it equal the window's, or a reason why it stops them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tflite_writer as tfl
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stream import Net, Q, signal

from firmware.compiler.graph import Node, Tensor
from firmware.compiler.ops import OPS, no_macs
from firmware.compiler.ops.ear_products import Term, Terms
from firmware.compiler.products import Operand
from firmware.compiler.stream import prove, stream
from firmware.compiler.stream.rules import REASONS, RULES

RNG = np.random.default_rng(3)
ROWS, COLUMNS, CHANNELS = 20, 4, 8


def start() -> Net:
    """Return a net that has a causal filter behind it: (1, ROWS, COLUMNS, CHANNELS) of int8."""
    net = Net.of(ROWS, COLUMNS, 3)
    net.conv(3, causal=True)
    return net.add("CONCATENATION", [net.last], (1, ROWS, COLUMNS, 10), axis=3).add(
        "SLICE", numbers([0, 0, 0, 0], [1, ROWS, COLUMNS, CHANNELS]), (1, ROWS, COLUMNS, CHANNELS)
    )


def numbers(*lists: Any) -> list[tfl.Value]:
    return [tfl.constant(f"n{RNG.integers(1 << 60)}", values) for values in lists]


def of(name: str, shape: tuple[int, ...] = (), *lists: Any, **options: Any) -> Callable[[Net], Net]:
    """Return what adds an op with constants of integers; without a shape it keeps that of its input."""
    return lambda net: net.add(name, numbers(*lists), shape or net.last.shape, **options)


def typed(
    net: Net, name: str, operands: list[tfl.Value], shape: tuple[int, ...], dtype: str, **options: Any
) -> Net:
    made = tfl.Value(f"v{len(net.nodes)}", shape, dtype)
    net.nodes.append(tfl.Op(name, operands, [made], options))
    net.last = made
    return net


def chosen(net: Net) -> Net:
    """Add a comparison, a logical op and a choice by them."""
    x = net.last
    limit = tfl.constant("limit", np.full((1, 1, 1, CHANNELS), 9), "int8", *Q)
    typed(net, "GREATER", [x, limit], x.shape, "bool")
    condition = typed(net, "LOGICAL_NOT", [net.last], x.shape, "bool").last
    net.last = condition
    return net.add("SELECT_V2", [x, limit], x.shape)


def hot(net: Net) -> Net:
    """Add the place of the largest channel as a row of its own."""
    x = net.last
    typed(net, "ARG_MAX", [x, *numbers([3])], x.shape[:3], "int32")
    on, off = (tfl.constant(name, np.array(v), "int8", *Q) for name, v in (("on", 90), ("off", -90)))
    depth = tfl.constant("depth", np.array(5))
    return net.add("ONE_HOT", [depth, on, off], (*x.shape[:3], 5), axis=-1)


def looked_up(net: Net) -> Net:
    """Add a table's entry for the place of the largest channel."""
    x = net.last
    places = typed(net, "ARG_MAX", [x, *numbers([3])], x.shape[:3], "int32").last
    net.last = tfl.constant("table", RNG.integers(-128, 128, (CHANNELS, 6)), "int8", *Q)
    return net.add("GATHER", [places], (*x.shape[:3], 6), axis=0)


def largest(net: Net) -> Net:
    x, shape = net.last, (*net.last.shape[:3], 2)
    values, places = tfl.Value("values", shape, "int8", *Q), tfl.Value("places", shape, "int32")
    net.nodes.append(tfl.Op("TOPK_V2", [x, tfl.constant("two", np.array(2))], [values, places]))
    net.last = values
    return net


def apart(net: Net) -> Net:
    """Take the columns apart and put them together again, in another place."""
    x = net.last
    shape = (x.shape[0], x.shape[1], x.shape[3])
    pieces = [tfl.Value(f"piece{i}", shape, "int8", *Q) for i in range(COLUMNS)]
    net.nodes.append(tfl.Op("UNPACK", [x], pieces, {"num": COLUMNS, "axis": 2}))
    net.last = pieces[0]
    return net.add("PACK", pieces[1:], (x.shape[0], COLUMNS, x.shape[1], x.shape[3]), values_count=4, axis=1)


def real(net: Net) -> Net:
    """Add ops of float32, along rows and channels."""
    x = net.last
    typed(net, "DEQUANTIZE", [x], x.shape, "float32")
    typed(net, "FLOOR", [net.last], x.shape, "float32")
    typed(net, "CUMSUM", [net.last, tfl.constant("channels", np.array(3))], x.shape, "float32")
    return net.add("QUANTIZE", [], x.shape)


def upsampled(
    size: int, stride: int, padding: str = "VALID", crop: tuple[int, int] | None = None
) -> Callable[[Net], Net]:
    """Return what adds a transposed convolution along time and perhaps the slice behind it."""

    def add(net: Net) -> Net:
        x = net.last
        rows = x.shape[1] * stride if padding == "SAME" else (x.shape[1] - 1) * stride + size
        weights = tfl.constant("up", RNG.integers(-127, 128, (5, size, 1, CHANNELS)), "int8", 0.003)
        shape = (1, rows, COLUMNS, 5)
        made = tfl.Value("laid", shape, "int8", *Q)
        slide = {"padding": padding, "stride_h": stride, "stride_w": 1}
        target = tfl.constant("target", list(shape))
        net.nodes.append(tfl.Op("TRANSPOSE_CONV", [target, weights, x], [made], slide, 3))
        net.last = made
        if crop is None:
            return net
        begin, count = crop
        count = x.shape[1] * stride if count == 0 else count
        return net.relu().add(
            "SLICE", numbers([0, begin, 0, 0], [1, count, COLUMNS, 5]), (1, count, COLUMNS, 5)
        )

    return add


FULL = (1, ROWS, COLUMNS, CHANNELS)
FLOWING: dict[str, Callable[[Net], Net]] = {
    "ADD_N": lambda net: net.add("ADD_N", [net.last], FULL),
    "CUMSUM": lambda net: net.add("CUMSUM", [tfl.constant("c", np.array(3))], FULL),
    "DEPTH_TO_SPACE": of("DEPTH_TO_SPACE", (1, 2 * ROWS, 2 * COLUMNS, CHANNELS // 4), block_size=2),
    "EXPAND_DIMS": of("RESHAPE", (1, 1, ROWS, COLUMNS * CHANNELS), [1, 1, ROWS, COLUMNS * CHANNELS]),
    "GATHER": of("GATHER", (1, ROWS, COLUMNS, 3), [5, 0, 2], axis=3),
    "GATHER of a table": looked_up,
    "MIRROR_PAD": of("MIRROR_PAD", (1, ROWS, COLUMNS + 3, CHANNELS), [[0, 0], [0, 0], [1, 2], [0, 0]]),
    "ONE_HOT": hot,
    "PACK": apart,
    "PAD columns": of("PAD", (1, ROWS, COLUMNS + 3, CHANNELS), [[0, 0], [0, 0], [1, 2], [0, 0]]),
    "PRELU": lambda net: net.add(
        "PRELU", [tfl.constant("a", RNG.integers(-90, 90, (1, 1, CHANNELS)), "int8", 0.01)], FULL
    ),
    "REDUCE_MAX": lambda net: net.add("REDUCE_MAX", numbers([2]), (1, ROWS, CHANNELS), keep_dims=False),
    "RESIZE_BILINEAR": of("RESIZE_BILINEAR", (1, ROWS, 7, CHANNELS), [ROWS, 7], half_pixel_centers=True),
    "RESIZE_NEAREST_NEIGHBOR": of("RESIZE_NEAREST_NEIGHBOR", (1, 3 * ROWS, 4, CHANNELS), [3 * ROWS, 4]),
    "REVERSE_V2": of("REVERSE_V2", (), [3]),
    "SELECT_V2": chosen,
    "SLICE channels": of("SLICE", (1, ROWS, 2, 3), [0, 0, 1, 4], [1, ROWS, 2, 3]),
    "SLICE end": of("SLICE", (1, ROWS - 5, 4, 8), [0, 2, 0, 0], [1, ROWS - 5, 4, 8]),
    "SPACE_TO_DEPTH": of("SPACE_TO_DEPTH", (1, ROWS // 2, 2, 4 * CHANNELS), block_size=2),
    "STRIDED_SLICE by 2": of(
        "STRIDED_SLICE", (1, ROWS // 2, COLUMNS, CHANNELS), [0, 0, 0, 0], [1, ROWS, 4, CHANNELS], [1, 2, 1, 1]
    ),
    "STRIDED_SLICE turned": of(
        "STRIDED_SLICE",
        (ROWS, COLUMNS, CHANNELS),
        *([0, 0, 0, 7], [1, ROWS, 4, 0], [1, 1, 1, -1]),
        end_mask=8,
        shrink_axis_mask=1,
    ),
    "TILE": of("TILE", (1, ROWS, COLUMNS, 2 * CHANNELS), [1, 1, 1, 2]),
    "TOPK_V2": largest,
    "TRANSPOSE_CONV cut": upsampled(4, 2, crop=(0, 0)),
    "TRANSPOSE_CONV cut more": upsampled(7, 3, crop=(2, 3 * ROWS - 7)),
    "TRANSPOSE_CONV of one tap": upsampled(2, 2),
    "TRANSPOSE_CONV with gaps": upsampled(1, 2, "SAME"),
    "a float island": real,
}  # fmt: skip
LAST: dict[str, Callable[[Net], Net]] = {  # of a few rows, what is no stream: told in each step
    "the last row": of(
        "STRIDED_SLICE",
        (1, COLUMNS, CHANNELS),
        *([0, -1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]),
        begin_mask=13,
        end_mask=15,
        shrink_axis_mask=2,
    ),
    "two rows": of("SLICE", (1, 2, COLUMNS, CHANNELS), [0, ROWS - 3, 0, 0], [1, 2, COLUMNS, CHANNELS]),
}
STOPPING: dict[str, tuple[Callable[[Net], Net], str]] = {
    "CUMSUM": (lambda net: net.add("CUMSUM", [tfl.constant("c", np.array(1))], FULL), "from the start"),
    "MEAN": (lambda net: net.mean(), "sums up all rows"),
    "REVERSE_V2": (of("REVERSE_V2", (), [1]), "turns time around"),
    "GATHER": (of("GATHER", (1, 3, COLUMNS, CHANNELS), [5, 0, 2], axis=1), "chooses rows of the window"),
    "TILE": (of("TILE", (1, 2 * ROWS, COLUMNS, CHANNELS), [1, 2, 1, 1]), "repeats the window"),
    "SLICE": (of("SLICE", (1, 1, 4, 8), [0, 4, 0, 0], [1, 1, 4, 8]), "a few rows out"),
    "PAD": (of("PAD", (1, ROWS + 3, 4, 8), [[0, 0], [1, 2], [0, 0], [0, 0]]), "other than with zeros"),
    "TRANSPOSE_CONV": (lambda net: upsampled(4, 2)(net).mean(), "last 2 rows look past the end"),
    "TRANSPOSE_CONV cut": (upsampled(4, 2, crop=(0, 2 * ROWS + 1)), "cut off 1 more"),
    "TRANSPOSE_CONV SAME": (lambda net: upsampled(4, 2, "SAME")(net).relu().mean(), "look past the end"),
    "RESIZE_BILINEAR": (of("RESIZE_BILINEAR", (1, 2 * ROWS, 4, CHANNELS), [2 * ROWS, 4]), "mixes every row"),
    "SOFTMAX": (
        lambda net: of("TRANSPOSE", (1, COLUMNS, CHANNELS, ROWS), [0, 2, 3, 1])(net).relu().dense(),
        "all rows of the window as one vector",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOWING)
@pytest.mark.parametrize("hop", [2, 4])
def test_rows_flow_through(name: str, hop: int) -> None:
    graph = FLOWING[name](start()).graph()
    made = stream(graph, hop)
    assert (made.stopped_by, made.outputs > 0) == ("", True)
    assert prove(graph, made, signal(graph, ROWS)) == 1


@pytest.mark.parametrize("name", LAST)
def test_last_rows_need_no_window(name: str) -> None:
    graph = LAST[name](start()).graph()
    made = stream(graph, 4)
    assert (made.stopped_by, made.outputs) == ("", 0)
    assert all(made.graph.tensors[state.read].shape[1] < ROWS for state in made.graph.states)
    assert prove(graph, made, signal(graph, ROWS)) == 1


@pytest.mark.parametrize("name", STOPPING)
def test_what_stops_rows_says_why_and_stays_right(name: str) -> None:
    add, reason = STOPPING[name]
    graph = add(start()).graph()
    made = stream(graph, 4)
    assert reason in made.stopped_by
    assert prove(graph, made, signal(graph, ROWS)) == 1


def test_padding_before_a_pool_is_left_to_it() -> None:
    net = Net.of(ROWS, COLUMNS, 3).conv(1)
    net.add("PAD", numbers([[0, 0], [2, 0], [0, 0], [0, 0]]), (1, ROWS + 2, COLUMNS, 5)).pool(3, 1)
    graph = net.graph()
    made = stream(graph, 4)
    assert (made.stopped_by, made.remembers) == ("", True)
    assert not any(node.op == "PAD" for node in made.graph.nodes)
    assert prove(graph, made, signal(graph, ROWS)) == 1


@pytest.mark.parametrize("whole", [False, True])
def test_means_of_a_norm(whole: bool) -> None:
    graph = start().graph()
    x = graph.tensors[graph.outputs[0]]
    vectors = [np.ones(CHANNELS, np.float32), np.zeros(CHANNELS, np.float32)]
    extra = [Tensor(f"vector {i}", (CHANNELS,), "float32", data=v) for i, v in enumerate(vectors)]
    at = len(graph.tensors)
    sizes = (1, ROWS * COLUMNS) if whole else (ROWS, COLUMNS)
    options = {"outer": sizes[0], "rows": sizes[1], "groups": 1, "depth": CHANNELS, "epsilon": 1e-3}
    norm = Node("EAR_NORM", (graph.outputs[0], at, at + 1), (at + 2,), {**options, "centred": True}, 1, "n")
    tensors = (*graph.tensors, *extra, replace(x, name="normal"))
    graph = replace(graph, tensors=tensors, nodes=(*graph.nodes, norm), outputs=(at + 2,)).verify()
    OPS["EAR_NORM"].check(graph, norm)
    made = stream(graph, 4)
    assert ("means over all rows" in made.stopped_by) == whole
    assert prove(graph, made, signal(graph, ROWS)) == 1


def rotated(varies: bool) -> Terms:
    """Return halves of channels times each other, less one times numbers."""
    half = CHANNELS // 2
    steps = (CHANNELS, 1)
    left, right = (Operand(0, first, steps, Q[1], Q[0]) for first in (0, half))
    drawn = RNG.integers(-900, 900, (ROWS * COLUMNS if varies else 1) * half).astype(np.int16)
    constant = Operand(-1, 0, (half if varies else 0, 1), 0, 1e-3, numbers=drawn)
    terms = (Term((left, right)), Term((right, constant), minus=True))
    return Terms((ROWS * COLUMNS, half), terms)


@pytest.mark.parametrize("varies", [False, True])
def test_fused_products_of_rows(varies: bool) -> None:
    graph = start().graph()
    at, shape = len(graph.tensors), (1, ROWS, COLUMNS, CHANNELS // 2)
    y = replace(graph.tensors[graph.outputs[0]], name="products", shape=shape)
    node = Node("EAR_PRODUCTS", graph.outputs, (at,), {"terms": rotated(varies)}, 1, "products")
    graph = replace(graph, tensors=(*graph.tensors, y), nodes=(*graph.nodes, node), outputs=(at,)).verify()
    OPS["EAR_PRODUCTS"].check(graph, node)
    made = stream(graph, 4)
    assert ("differ from row to row" in made.stopped_by) == varies
    assert prove(graph, made, signal(graph, ROWS)) == 1


@pytest.mark.parametrize("begin", [0, 2, 5])
def test_fused_products_of_rows_and_earlier_ones(begin: int) -> None:
    graph = Net.of(ROWS, COLUMNS, CHANNELS).relu().graph()
    left, half, row = ROWS - 5, CHANNELS // 2, COLUMNS * CHANNELS
    pair = (Operand(0, first, (CHANNELS, 1), Q[1], Q[0]) for first in (5 * row, begin * row + half))
    terms = Terms((left * COLUMNS, half), (Term(tuple(pair)),))
    at, last = len(graph.tensors), graph.tensors[graph.outputs[0]]
    y = replace(last, name="products", shape=(1, left, COLUMNS, half))
    node = Node("EAR_PRODUCTS", graph.outputs, (at,), {"terms": terms}, 1, "products")
    graph = replace(graph, tensors=(*graph.tensors, y), nodes=(*graph.nodes, node), outputs=(at,)).verify()
    made = stream(graph, 4)
    assert (made.stopped_by, made.remembers, made.outputs) == ("", False, 4)
    assert prove(graph, made, signal(graph, ROWS + 12)) == 4


def slid(net: Net, draw: Any) -> None:
    """Add a filter or pool along time, if it fits."""
    size, stride, dilation = (
        draw(st.integers(1, 4)),
        draw(st.sampled_from([1, 1, 2])),
        draw(st.integers(1, 2)),
    )
    reach = (size - 1) * dilation + 1
    if size < stride or reach > net.last.shape[1]:
        return
    if draw(st.booleans()):
        net.conv(size, stride, dilation, causal=draw(st.booleans()) and reach > stride)
    else:
        net.pool(size, stride)


def cropped(net: Net, draw: Any) -> None:
    """Cut rows off both ends."""
    _, rows, columns, channels = net.last.shape
    begin, end = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    if begin + end < rows - 4:
        shape = [1, rows - begin - end, columns, channels]
        net.add("SLICE", numbers([0, begin, 0, 0], shape), tuple(shape))


def laid(net: Net, draw: Any) -> None:
    """Add a transposed convolution and the slice of what no later row adds to."""
    _, rows, columns, channels = net.last.shape
    size, stride, more = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(0, 2))
    weights = tfl.constant(
        f"up{len(net.nodes)}", RNG.integers(-127, 128, (4, size, 1, channels)), "int8", 0.004
    )
    whole = (1, (rows - 1) * stride + size, columns, 4)
    made = tfl.Value(f"v{len(net.nodes)}", whole, "int8", *Q)
    slide = {"padding": "VALID", "stride_h": stride, "stride_w": 1}
    net.nodes.append(tfl.Op("TRANSPOSE_CONV", [*numbers(list(whole)), weights, net.last], [made], slide, 3))
    net.last = made
    count = min(whole[1], rows * stride) - more
    if whole[1] > count > 4:
        net.add("SLICE", numbers([0, 0, 0, 0], [1, count, columns, 4]), (1, count, columns, 4))


def by_rows(net: Net, draw: Any) -> None:
    """Add an op that treats each row by itself."""
    _, rows, columns, channels = net.last.shape
    kind = draw(st.sampled_from(["prelu", "gather", "resize", "pad", "tile", "running", "turned"]))
    if kind == "prelu":
        slope = tfl.constant(f"a{len(net.nodes)}", RNG.integers(-90, 90, (1, 1, channels)), "int8", 0.01)
        net.add("PRELU", [slope], net.last.shape)
    elif kind == "gather":
        net.add("GATHER", numbers([0, channels - 1]), (1, rows, columns, 2), axis=3)
    elif kind == "resize" and rows < 40:
        net.add("RESIZE_NEAREST_NEIGHBOR", numbers([2 * rows, columns]), (1, 2 * rows, columns, channels))
    elif kind == "pad":
        before = draw(st.integers(0, 2))
        around = [[0, 0], [before, 0], [0, 1], [0, 0]]
        net.add("PAD", numbers(around), (1, rows + before, columns + 1, channels))
    elif kind == "tile" and channels < 8:
        net.add("TILE", numbers([1, 1, 1, 2]), (1, rows, columns, 2 * channels))
    elif kind == "running":
        net.add("CUMSUM", [tfl.constant(f"axis{len(net.nodes)}", np.array(3))], net.last.shape)
    else:
        net.add("REVERSE_V2", numbers([2]), net.last.shape)


@given(st.data(), st.sampled_from([1, 2, 4]))
@settings(max_examples=60, deadline=None)
def test_drawn_nets_of_all_kinds_stream_what_they_say_of_windows(data: st.DataObject, hop: int) -> None:
    net = Net.of(24, columns=2).conv(2, causal=True)
    for _ in range(data.draw(st.integers(1, 5))):
        data.draw(st.sampled_from([slid, slid, cropped, laid, by_rows]))(net, data.draw)
    graph = (net.mean() if data.draw(st.booleans()) else net.relu()).graph()
    made = stream(graph, hop)
    assert prove(graph, made, signal(graph, 24)) == 1


def test_every_op_has_a_rule_or_a_reason() -> None:
    assert set(OPS) == set(RULES) | set(REASONS)
    assert not set(RULES) & set(REASONS)


@pytest.mark.parametrize("name", sorted(REASONS))
def test_an_op_without_a_rule_gives_its_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, name, replace(OPS[name], macs=no_macs))
    graph = start().graph()
    at = len(graph.tensors)
    x = graph.tensors[graph.outputs[0]]
    node = Node(name, (graph.outputs[0],), (at,), {}, 1, "it")
    graph = replace(graph, tensors=(*graph.tensors, x), nodes=(*graph.nodes, node), outputs=(at,))
    made = stream(graph, 4)
    assert made.stopped_by == f"{name} 'it': {REASONS[name]}"
