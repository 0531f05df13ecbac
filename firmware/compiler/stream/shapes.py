"""Rules of ops that move values: reshapes, slices, joins, pads, repetition; where time goes in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from firmware.compiler.graph import Graph, Node
from firmware.compiler.operands import strides
from firmware.compiler.ops import pad as pads
from firmware.compiler.ops import slice as slices
from firmware.compiler.stream.flow import (
    BlockedError,
    Builder,
    Flow,
    fresh,
    located,
    only,
    regrouped,
    values,
)


def reshape(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A reshape that leaves the time axis one of its axes, perhaps as chunks of rows."""
    x, y = (b.graph.tensors[i].shape for i in (node.inputs[0], node.outputs[0]))
    flow = regrouped(only(flows, 0, lead=True, ahead=True), x, y)
    b.add(replace(node, inputs=node.inputs[:1]), fresh(b, node, flows), [flow])


def transpose(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """The time axis moves along."""
    flow = only(flows, 0, lead=True, ahead=True)
    rank = len(b.graph.tensors[node.inputs[0]].shape)
    axes = [axis % rank for axis in values(b.graph, node, 1)]
    b.add(node, fresh(b, node, flows), [replace(flow, axis=axes.index(flow.axis))])


def joined(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Channels beside channels of the same rows; PACK makes a new axis for them."""
    flow = only(flows, min(flows), ahead=True)
    axis = int(node.options["axis"]) % len(b.graph.tensors[node.outputs[0]].shape)
    packs = node.op == "PACK"
    if (axis == flow.axis and not packs) or len(flows) != len(node.inputs):
        raise BlockedError("it joins rows of different times")
    if any(other != flow for other in flows.values()):
        raise BlockedError("it joins rows of different times")
    moved = replace(flow, axis=flow.axis + int(packs and axis <= flow.axis))
    b.add(node, fresh(b, node, flows), [moved])


def split(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Channels apart, in the same rows; UNPACK takes their axis away."""
    flow, axis = only(flows, 1 if node.op == "SPLIT" else 0), split_axis(b.graph, node)
    if axis == flow.axis:
        raise BlockedError("it takes the rows of the window apart")
    moved = replace(flow, axis=flow.axis - int(node.op == "UNPACK" and axis < flow.axis))
    b.add(node, fresh(b, node, flows), [moved] * len(node.outputs))


def split_axis(graph: Graph, node: Node) -> int:
    """Return the axis along which a SPLIT, SPLIT_V or UNPACK takes its input apart."""
    rank = len(graph.tensors[node.inputs[1 if node.op == "SPLIT" else 0]].shape)
    if node.op == "UNPACK":
        return int(node.options.get("axis", 0)) % rank
    return values(graph, node, 0 if node.op == "SPLIT" else 2)[0] % rank


def sliced(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A part of every row; rows cut off at the end are a delay, a few last rows are no stream at all."""
    x, y = (b.graph.tensors[i].shape for i in (node.inputs[0], node.outputs[0]))
    view, axis = slices.view(b.graph, node), flows[0].axis
    own = strides(x)
    begin = [int(i) for i in np.unravel_index(view.start, x)]
    step = [int(move // inner) for move, inner in zip(view.steps, own, strict=True)]
    count = list(view.shape)
    whole = (begin[axis], step[axis], count[axis]) == (0, 1, x[axis])
    flow = only(flows, 0, lead=whole, ahead=True)
    if step[axis] < 0:
        raise BlockedError("it turns time around")
    source, result = b.fresh[node.inputs[0]], flow
    made = count[axis]
    if not whole:
        last = begin[axis] + (count[axis] - 1) * step[axis]
        unused = flow.rows - 1 - last - flow.ahead
        if unused < 0:
            raise BlockedError(f"it takes rows that look past the end of the window: cut off {-unused} more")
        made = flow.step // step[axis]
        tail = count[axis] <= made
        if tail and (flow.ahead or last - begin[axis] + 1 + unused > flow.step):
            raise BlockedError("it takes a few rows out of the window")
        if not tail and flow.step % step[axis]:
            raise BlockedError(f"its step of {step[axis]} does not divide the {flow.step} new rows")
        rows = flow.step if tail else flow.step + unused
        source = b.window(node.inputs[0], rows)
        made = count[axis] if tail else made
        first = unused + begin[axis] == step[axis] - 1
        result = Flow(axis, count[axis], 0 if tail else made, flow.filled and first)
        begin[axis] = rows - 1 - unused - (made - 1) * step[axis]
    else:
        made = flow.step
    count[axis] = made
    _take(b, node, source, (begin, step, count), result, y)


def _take(
    b: Builder,
    node: Node,
    source: int,
    ranges: tuple[list[int], list[int], list[int]],
    flow: Flow,
    shape: tuple[int, ...],
) -> None:
    """Add the slice of `source`, in the shape that the node gives its output; no rows a step: no flow."""
    begin, step, count = ranges
    end = [first + move * size for first, move, size in zip(begin, step, count, strict=True)]
    open_ = sum(1 << i for i, last in enumerate(end) if last < 0)
    old = node.outputs[0]
    like = b.graph.tensors[old]
    taken = b.tensor(like, count)
    inputs = (source, *(b.integers(numbers) for numbers in (begin, end, step)))
    b.nodes.append(Node("STRIDED_SLICE", inputs, (taken,), {"end_mask": open_}, 1, node.name))
    made = taken
    if flow.step:
        placed = located(flow, _with(count, flow.axis, flow.rows), shape)
        shape = _with(list(shape), placed.axis, flow.step)
        b.flows[old] = placed
    if tuple(count) != shape:
        made = b.tensor(like, shape)
        b.nodes.append(Node("RESHAPE", (taken,), (made,), {}, 1, node.name))
    (b.fresh if flow.step else b.whole)[old] = made


def _with(sizes: list[int], axis: int, size: int) -> tuple[int, ...]:
    return tuple(size if i == axis else n for i, n in enumerate(sizes))


def pad(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Borders; those in front of time are left to the filter that reads them."""
    around = np.reshape(values(b.graph, node, 1), (-1, 2))
    axis = flows[0].axis
    before, after = (int(n) for n in around[axis])
    like = b.graph.tensors[node.inputs[0]]
    if not before and not after:
        b.add(node, fresh(b, node, flows), [only(flows, 0, ahead=True)])
        return
    flow = only(flows, 0)
    zero = 0 if like.quantisation is None else int(like.quantisation.zero_point[0])
    if after or node.op == "MIRROR_PAD" or pads.fill(b.graph, node) != zero or not flow.filled:
        raise BlockedError("it pads the time axis other than with zeros in front")
    padded = Flow(axis, flow.rows + before, flow.step, lead=before)
    around[axis] = 0
    if around.any():
        rest = b.constant(b.graph.tensors[node.inputs[1]], around.astype(np.int32))
        b.add(node, {**fresh(b, node, flows), 1: rest}, [padded])
    else:
        b.flows[node.outputs[0]], b.fresh[node.outputs[0]] = padded, b.fresh[node.inputs[0]]


def resize(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Each row repeated the same number of times."""
    flow = only(flows, 0)
    made = b.graph.tensors[node.outputs[0]].shape
    times, rest = divmod(made[flow.axis], flow.rows)
    moved = node.options.get("align_corners", False) or node.options.get("half_pixel_centers", False)
    if times != 1 and node.op == "RESIZE_BILINEAR":
        raise BlockedError("it mixes every row with the next")
    if rest or (moved and times != 1):
        raise BlockedError("it does not repeat rows a whole number of times")
    sizes = values(b.graph, node, 1)
    sizes[flow.axis - 1] = times * flow.step
    result = Flow(flow.axis, made[flow.axis], times * flow.step, flow.filled)
    b.add(node, {**fresh(b, node, flows), 1: b.integers(sizes)}, [result])


def blocks(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Rows made of blocks of channels, or channels of blocks of rows."""
    flow, size = only(flows, 0), int(node.options["block_size"])
    if flow.axis not in (1, 2):
        raise BlockedError("time lies along its channels")
    if node.op == "DEPTH_TO_SPACE":
        b.add(node, fresh(b, node, flows), [_times(flow, size)])
        return
    if flow.step % size:
        raise BlockedError(f"its blocks of {size} do not divide the {flow.step} new rows")
    short = replace(flow, rows=flow.rows // size, step=flow.step // size)
    b.add(node, fresh(b, node, flows), [short])


def _times(flow: Flow, size: int) -> Flow:
    return replace(flow, rows=flow.rows * size, step=flow.step * size)


def repeated(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """The same along other axes than time."""
    flow, x = only(flows, 0), b.graph.tensors[node.inputs[0]].shape
    y = b.graph.tensors[node.outputs[0]].shape
    moved = replace(flow, axis=flow.axis + len(y) - len(x))
    if y[moved.axis] != flow.rows:
        raise BlockedError("it repeats the window")
    if node.op != "BROADCAST_TO":
        b.add(node, fresh(b, node, flows), [moved])
        return
    target = b.integers(_with(list(y), moved.axis, flow.step))
    b.add(node, {**fresh(b, node, flows), 1: target}, [moved])


def turned(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Reversed along other axes than time."""
    flow = only(flows, 0)
    rank = len(b.graph.tensors[node.inputs[0]].shape)
    if flow.axis in {axis % rank for axis in values(b.graph, node, 1)}:
        raise BlockedError("it turns time around")
    b.add(node, fresh(b, node, flows), [flow])


def gathered(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Chosen channels of every row, or a table's entry for each row's index."""
    source = 1 if node.op == "EMBEDDING_LOOKUP" else 0
    given = b.graph.tensors[node.inputs[source]].shape
    chosen = b.graph.tensors[node.inputs[1 - source]].shape
    axis = int(node.options.get("axis", 0)) % len(given)
    if int(node.options.get("batch_dims", 0)) or len(flows) > 1:
        raise BlockedError("it chooses rows by rows")
    if source in flows:
        flow = only(flows, source)
        if flow.axis == axis:
            raise BlockedError("it chooses rows of the window")
        moved = replace(flow, axis=flow.axis + (len(chosen) - 1 if axis < flow.axis else 0))
    else:
        flow = only(flows, 1 - source)
        moved = replace(flow, axis=flow.axis + axis)
    b.add(node, fresh(b, node, flows), [moved])


def one_hot(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """Each index becomes a row of zeros and a one, along a new axis."""
    flow = only(flows, 0)
    axis = int(node.options.get("axis", -1)) % len(b.graph.tensors[node.outputs[0]].shape)
    b.add(node, fresh(b, node, flows), [replace(flow, axis=flow.axis + int(axis <= flow.axis))])
