"""EAR_SCAN: the recurrence of a state-space model, its state in 24 bits from step to step.

h[t] = a[t] h[t-1] + f[t] and y[t] = sum over the states of c[t] h[t], or h[t] itself. a is a table of Q15,
f a product of up to three factors (tables of 16 bits or plain int8), c plain int8; only y is rounded to 8
bits. Inputs are the states before (EAR_SCAN_ON) or -1, then what a, f and c are read from. Made by
passes.scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firmware.compiler.fixed_point import multiply_by_quantised_multiplier, saturate_int8
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import c_list
from firmware.compiler.ops import Call, Op, literal, refuse, tensor
from firmware.compiler.products import Operand, rounded

ON = "EAR_SCAN_ON"  # goes on from the states of the run before
LIMIT = 1 << 23


@dataclass(frozen=True)
class Scan:
    """Numbers of the kernel."""

    sizes: tuple[int, int, int]  # steps, rows, states
    decay: Operand
    up: int  # bits by which decays are short of Q15
    fresh: tuple[Operand, ...]  # those that all states share first
    downs: tuple[int, ...]
    power: int  # bits that the product then loses, or gains when negative, to the state's unit
    weight: Operand | None
    narrow: int  # bits that a state loses before it is weighed
    unit: float  # real number of one unit of a state
    ends: tuple[tuple[int, int, int], ...]  # multiplier, shift, zero of y: one for all, or one a step
    first: int  # element of the y that is one for all
    places: tuple[int, ...]  # of y: steps along (step, row, state); one y for all, or 0 along steps
    outputs: tuple[int, ...]  # which steps' y the node has, when there is one a step; else ()

    @property
    def outer(self) -> int:
        """Return how many factors all states of a row share."""
        return sum(operand.steps[2] == 0 and not operand.apart for operand in self.fresh)


def _check(graph: Graph, node: Node) -> None:
    scan: Scan = node.options["scan"]
    operands = (scan.decay, *scan.fresh, *((scan.weight,) if scan.weight else ()))
    if any(tensor(graph, node, operand.position).dtype != "int8" for operand in operands):
        raise refuse(graph, node, "a factor is not int8", "quantise the model to int8")
    if any(shift > 0 for _, shift, _ in scan.ends):
        what = "the scale of an output is finer than that of the state"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")


def _states(node: Node, scan: Scan, inputs: Sequence[Array]) -> tuple[Array, Array]:
    """Return (states after each step, the last of them)."""
    fresh = np.ones(scan.sizes, np.int64)
    for operand, down in zip(scan.fresh, scan.downs, strict=True):
        fresh = rounded(fresh, down) * operand.read(inputs, scan.sizes)[0]
    fresh = rounded(fresh, scan.power) if scan.power > 0 else fresh << -scan.power
    decay = scan.decay.read(inputs, scan.sizes)[0]
    on = node.op == ON
    h = inputs[0].astype(np.int64).reshape(scan.sizes[1:]) if on else np.zeros(scan.sizes[1:], np.int64)
    every = []
    for t in range(scan.sizes[0]):
        kept = (2 * (h << scan.up) * (decay[t] << 16) + (1 << 31)) >> 32 if on or t else 0
        h = np.clip(kept + fresh[t], -LIMIT, LIMIT - 1)
        every.append(h)
    return np.stack(every), h


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    scan: Scan = node.options["scan"]
    every, last = _states(node, scan, inputs)
    if scan.weight is not None:
        weights = scan.weight.read(inputs, scan.sizes)[0]
        every = (rounded(every, scan.narrow) * weights).sum(-1, keepdims=True)
    multipliers, shifts, zeros = (np.array(end).reshape(-1, 1, 1) for end in zip(*scan.ends, strict=True))
    y = saturate_int8(multiply_by_quantised_multiplier(every, multipliers, shifts) + zeros)
    first = 1 if node.op == ON else 0
    shapes = [graph.tensors[i].shape for i in node.outputs]
    if scan.outputs:
        made = [y[t].reshape(shape) for t, shape in zip(scan.outputs, shapes[first:], strict=True)]
    else:
        at = sum(
            np.arange(size).reshape(-1, *(1,) * (2 - axis)) * step
            for axis, (size, step) in enumerate(zip(y.shape, scan.places, strict=True))
        )
        flat = np.zeros(y.size, np.int8)
        flat[scan.first + np.asarray(at)] = y
        made = [flat.reshape(shapes[first])]
    return [last.astype(np.int32).reshape(shapes[0]), *made] if first else made


def _call(graph: Graph, node: Node) -> Call:
    scan: Scan = node.options["scan"]
    steps, rows, states = scan.sizes
    first = 1 if node.op == ON else 0
    names = {t: f"{{out{first + i}}}" for i, t in enumerate(scan.outputs)}
    y = [names.get(t, "0") for t in range(steps)] if scan.outputs else [f"{{out{first}}} + {scan.first}"]
    constants: dict[str, Array] = {"ends": np.array(scan.ends, np.int32)}
    operands = {"decay": scan.decay, **{f"fresh{i}": o for i, o in enumerate(scan.fresh)}}
    if scan.weight is not None:
        operands["weight"] = scan.weight
    constants |= {name: o.constant for name, o in operands.items() if o.constant is not None}
    texts = {name: operand.literal(name) for name, operand in operands.items()}
    fresh = ", ".join(text for name, text in texts.items() if name.startswith("fresh"))
    y_step, y_row, y_state = scan.places
    shape = literal("ear_scan", steps=steps, rows=rows, states=states, up=scan.up, count=len(scan.fresh),
                    outer=scan.outer, power=scan.power, weighed=int(scan.weight is not None),
                    narrow=scan.narrow, y_step=y_step, y_row=y_row, y_state=y_state,
                    each=int(bool(scan.outputs)))  # fmt: skip
    shape = f"{shape[:-2]}, .down = {c_list(scan.downs)} }}"
    arguments = (
        *(("{in0}", "{out0}", "0") if first else ("0", "0", "(int32_t *)(void *){scratch}")),
        "(int8_t *const[]){ " + ", ".join(y) + " }",
        "{ends}",
        f"(struct ear_operand){texts['decay']}",
        f"(const struct ear_operand[]){{ {fresh} }}",
        f"(struct ear_operand){texts.get('weight', '{ .x = 0 }')}",
        shape,
    )
    return Call("scan", arguments, constants, 0 if first else 4 * states)


def _macs(graph: Graph, node: Node) -> int:
    scan: Scan = node.options["scan"]
    steps, rows, states = scan.sizes
    return steps * rows * states * (len(scan.fresh) + 1 + (scan.weight is not None))


OPS = (
    Op("EAR_SCAN", range(1, 2), _check, _meaning, _call, _macs),
    Op(ON, range(1, 2), _check, _meaning, _call, _macs, updates={0: 0}),
)
