"""Which op of a model is the first to differ between board and host: CRC-32 of what every node leaves."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from firmware.compiler import emit, interp
from kit import profile
from kit.device import WATCHED

if TYPE_CHECKING:
    from firmware.compiler.compiled import Compiled
    from kit.device import Device

Int8 = npt.NDArray[np.int8]
Watch = tuple[int, int, int]  # node, offset, bytes


def find(build: Compiled, device: Device, runs: list[Int8]) -> dict[str, Any] | None:
    """Return name, op and number of the first node that differs, and in which run; None: all agree.

    Args:
        build: what the board runs.
        device: the board.
        runs: the inputs int8 of runs one after the other, the first from a fresh start: the hops of a
            stream, else one.
    """
    nodes, places = emit.compiled_nodes(build.graph), list(_places(build))
    most = min(WATCHED, len(nodes))
    found: dict[int, int] = {}  # run → first node that differs
    for start in range(0, len(places), most):
        part = places[start : start + most]
        device.forget()
        states = interp.initial_states(build.graph)
        for run, x in enumerate(runs):
            said = device.check(x.reshape(-1), [watch for watch, _ in part])
            values = interp.trace(build.graph, profile.cut(build.graph, x), states)
            states = [values[state.written] for state in build.graph.states]
            for ((number, *_), tensor), crc in zip(part, said, strict=True):
                if crc != zlib.crc32(np.ascontiguousarray(values[tensor]).tobytes()):
                    found[run] = min(number, found.get(run, number))
    if not found:
        return None
    first = min(found)
    node = nodes[found[first]]
    return {"node": found[first], "name": node.name, "op": node.op, "run": first}


def _places(build: Compiled) -> Iterator[tuple[Watch, int]]:
    """Yield where each node that has code leaves each of its outputs, and which tensor that is."""
    graph, plan = build.graph, build.plan
    for number, node in enumerate(emit.compiled_nodes(graph)):
        for tensor in node.outputs:
            at = plan.offsets.get(tensor, plan.arena + plan.states.get(tensor, 0))
            yield (number, at, graph.tensors[tensor].bytes), tensor
