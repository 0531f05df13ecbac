"""The rule of recurrent layers: in a stream their states go on from hop to hop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from firmware.compiler.graph import Node
from firmware.compiler.stream.flow import BlockedError, Builder, Flow, only


def lstm(b: Builder, node: Node, flows: Mapping[int, Flow]) -> None:
    """An LSTM over the new rows; its states are those that it has in the window model."""
    flow = only(flows, 0)
    if flow.axis != (0 if node.options["time_major"] else 1):
        raise BlockedError("time is not the axis that it goes along")
    if not flow.filled:
        raise BlockedError("an earlier filter has not filled its first rows yet: pad that one causally")
    y = b.graph.tensors[node.outputs[0]]
    made = b.tensor(y, [flow.step if i == flow.axis else n for i, n in enumerate(y.shape)])
    b.fresh[node.outputs[0]], b.flows[node.outputs[0]] = made, flow
    b.nodes.append(
        replace(
            node,
            inputs=(b.fresh[node.inputs[0]], *node.inputs[1:]),
            outputs=(made, *node.outputs[1:]),
        )
    )
    b.remembers = True
