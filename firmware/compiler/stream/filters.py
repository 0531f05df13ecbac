"""Rules of filters along time: each remembers the rows that its next outputs need again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from firmware.compiler import convolution, pooling
from firmware.compiler.graph import Node
from firmware.compiler.stream.flow import BlockedError, Builder, Flow, only

POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


def windowed(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A filter or pool that slides over time."""
    flow = only(flows, 0, lead=True)
    if flow.axis not in (1, 2):
        raise BlockedError("time lies along its channels")
    axis = flow.axis - 1
    if node.op in POOLS:
        slide = pooling.window(b.graph, node)
    else:
        size = b.graph.tensors[node.inputs[1]].shape[1:3]
        slide = convolution.window(b.graph, node, (size[0], size[1]))
    reach = (slide.size[axis] - 1) * slide.dilation[axis] + 1
    stride, made = slide.stride[axis], slide.out[axis]
    if slide.before[axis] and node.op in POOLS:
        raise BlockedError("it pads the start of the window")
    before = slide.before[axis] + flow.lead
    unused = flow.rows + slide.before[axis] - ((made - 1) * stride + reach)  # rows at the end that none sees
    context = reach - stride + unused
    _slides(flow, stride, before, unused, context)
    if made < flow.step // stride:
        raise BlockedError("it takes the window nearly whole")
    pads = [0, 0, 0, 0]
    pads[2 - 2 * axis : 4 - 2 * axis] = slide.before[1 - axis], slide.after[1 - axis]
    options = {**node.options, "padding": "EXPLICIT", "pad": tuple(pads)}
    b.remembers |= before > 0
    x = b.window(node.inputs[0], context + flow.step)
    filled = flow.filled and before == context
    b.add(replace(node, options=options), {0: x}, [Flow(flow.axis, made, flow.step // stride, filled)])


def _slides(flow: Flow, stride: int, before: int, unused: int, context: int) -> None:
    """Raise BlockedError when the filter's outputs depend on where the window starts or ends."""
    if unused < 0:
        raise BlockedError(f"it looks {-unused} rows past the end of the window (pad only before it)")
    if before and not flow.filled:
        raise BlockedError("it pads rows that an earlier filter has not filled yet")
    if context < 0:
        raise BlockedError("it skips rows")
    if before > context:
        raise BlockedError("it pads more rows before the window than its filter remembers")
    if flow.step % stride:
        raise BlockedError(f"its stride of {stride} does not divide the {flow.step} new rows")


def transpose_conv(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """A filter laid down at every row: new outputs come of the new rows and the few before that reach them.

    Outputs that rows past the end of the window would add to are `ahead`: the net has to cut them off.
    """
    flow = only(flows, 2)
    if flow.axis not in (1, 2):
        raise BlockedError("time lies along its channels")
    size = b.graph.tensors[node.inputs[1]].shape[flow.axis]
    stride = int(node.options[("stride_h", "stride_w")[flow.axis - 1]])
    made = b.graph.tensors[node.outputs[0]].shape[flow.axis]
    cut = _cut(str(node.options.get("padding", "SAME")), flow.rows, size, stride, made)
    ahead = max(0, made + cut - flow.rows * stride)
    end, fresh = made - ahead, flow.step * stride
    if end < fresh:
        raise BlockedError("it makes fewer rows than a hop brings")
    if (cut - size) // stride + 1 < 0:  # its first output would see rows before the window
        if not flow.filled:
            raise BlockedError("it pads rows that an earlier filter has not filled yet")
        b.remembers = True
    first = (end - fresh + cut - size) // stride + 1  # row of the window that the new outputs see first
    first = min(first, (end - fresh + cut) // stride, flow.rows - flow.step)
    rows, begin = flow.rows - first, end - fresh + cut - first * stride
    padding, whole, above = _smallest(b, node, flow.axis, (rows, size, stride), (begin, fresh))
    x, like = b.window(node.inputs[2], rows), b.graph.tensors[node.outputs[0]]
    shape = [whole if i == flow.axis else n for i, n in enumerate(like.shape)]
    target = b.tensor(like, shape)
    inputs = (b.integers(shape), node.inputs[1], x, *node.inputs[3:])
    options = {**node.options, "padding": padding}
    b.nodes.append(replace(node, inputs=inputs, outputs=(target,), options=options))
    b.fresh[node.outputs[0]] = b.cut(target, flow.axis, begin - above, fresh)
    filled = flow.filled and end == flow.rows * stride
    b.flows[node.outputs[0]] = Flow(flow.axis, made, fresh, filled, ahead=ahead)


def _cut(padding: str, rows: int, size: int, stride: int, made: int) -> int:
    """Return the rows that the op itself cuts off before its output."""
    return max(0, (rows - 1) * stride + size - made) // 2 if padding == "SAME" else 0


def _smallest(
    b: Builder, node: Node, axis: int, filter_: tuple[int, int, int], wanted: tuple[int, int]
) -> tuple[str, int, int]:
    """Return (padding, rows, rows cut off before them) of the smallest output that has the wanted rows."""
    rows, size, stride = filter_
    begin, count = wanted
    other = 3 - axis
    across = b.graph.tensors[node.inputs[1]].shape[other], node.options[("stride_h", "stride_w")[other - 1]]
    own = str(node.options.get("padding", "SAME"))
    allowed = ("SAME", "VALID") if across == (1, 1) else (own,)
    if "SAME" in allowed:
        for whole in range((rows - 1) * stride + 1, rows * stride + 1):
            above = _cut("SAME", rows, size, stride, whole)
            if above <= begin and above + whole >= begin + count:
                return "SAME", whole, above
    whole = max((rows - 1) * stride + size, begin + count)
    if "VALID" in allowed and whole < rows * stride + size:
        return "VALID", whole, 0
    raise BlockedError("its padding cuts rows that the stream needs")
