"""EAR_PRODUCTS: y = one product of int8 values, or the sum of two, rounded once to int8.

Each factor is a view of a tensor (plain int8, or a table of 16 bits of it) or a constant: gates such as
x * sigmoid(g) of the halves of a tensor, rotary positions x cos + rotated(x) sin. Made by passes.products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from firmware.compiler.fixed_point import saturate_int8
from firmware.compiler.graph import Array, Graph, Node
from firmware.compiler.operands import c_list, lead
from firmware.compiler.ops import Call, Op, output, refuse, tensor
from firmware.compiler.ops.quantize import int8_of
from firmware.compiler.products import AXES, WORD, Operand

FINEST = 20  # bits behind the point of y before it is rounded, at most
COARSEST = 8


@dataclass(frozen=True)
class Term:
    """A product, taken off the sum or added."""

    factors: tuple[Operand, ...]
    minus: bool = False

    @property
    def up(self) -> int:
        """Return the bits that the product may be shifted up."""
        return WORD - sum(factor.bits for factor in self.factors)

    @property
    def scale(self) -> float:
        """Return the real number of one unit of the product."""
        return float(np.prod([factor.scale for factor in self.factors]))


@dataclass(frozen=True)
class Terms:
    """What passes.products found."""

    sizes: tuple[int, ...]  # at most AXES, innermost last
    terms: tuple[Term, ...]


def _numbers(graph: Graph, node: Node) -> tuple[list[int], int, int]:
    """Return (multipliers, offset, bits behind the point)."""
    scale, zero = int8_of(graph, node, output(graph, node))
    terms = node.options["terms"].terms
    largest = max(term.scale / scale * 2.0 ** (WORD - term.up) for term in terms)  # in steps of y
    down = min(FINEST, WORD - 1 - int(np.ceil(np.log2(largest))))
    if down < COARSEST or any(term.up < 0 for term in terms):
        what = f"its scale {scale:.3g} is out of proportion to its factors"
        raise refuse(graph, node, what, "calibrate on data that reaches this tensor")
    multipliers = [round(term.scale / scale * 2.0 ** (down - term.up + 31)) for term in terms]
    return multipliers, (zero << down) + (1 << (down - 1)), down


def _check(graph: Graph, node: Node) -> None:
    found: Terms = node.options["terms"]
    used = {factor.position for term in found.terms for factor in term.factors} - {-1}
    if any(tensor(graph, node, position).dtype != "int8" for position in used):
        raise refuse(graph, node, "a factor is not int8", "quantise the model to int8")
    _numbers(graph, node)


def _meaning(graph: Graph, node: Node, inputs: Sequence[Array]) -> list[Array]:
    found: Terms = node.options["terms"]
    multipliers, offset, down = _numbers(graph, node)
    clips = inputs[0].size // tensor(graph, node, 0).elements
    total = np.full((clips, *found.sizes), offset)
    for term, multiplier in zip(found.terms, multipliers, strict=True):
        value = np.ones((clips, *found.sizes), np.int64)
        for factor in term.factors:
            value = value * factor.read(inputs, found.sizes, clips)
        up = (-value if term.minus else value) << term.up
        total = total + ((2 * up * multiplier + (1 << 31)) >> 32)
    y = output(graph, node)
    return [saturate_int8(total >> down).reshape(clips * y.shape[0], *y.shape[1:])]


def _call(graph: Graph, node: Node) -> Call:
    found: Terms = node.options["terms"]
    multipliers, offset, down = _numbers(graph, node)
    constants, texts = {}, []
    for j, term in enumerate(found.terms):
        literals = []
        for k, factor in enumerate(term.factors):
            name = f"factor{j}{k}"
            literals.append(factor.literal(name))
            if factor.constant is not None:
                constants[name] = factor.constant
        texts.append("(const struct ear_operand[]){ " + ", ".join(literals) + " }")
    fields = {
        "size": lead(found.sizes, AXES, 1),
        "factors": [len(term.factors) for term in found.terms],
        "up": [term.up for term in found.terms],
        "multiplier": multipliers,
        "minus": [int(term.minus) for term in found.terms],
    }
    listed = ", ".join(f".{name} = {c_list(values)}" for name, values in fields.items())
    shape = f"(struct ear_products){{ {listed}, .offset = {offset}, .down = {down} }}"
    second = texts[1] if len(texts) > 1 else "0"
    return Call("products", ("{out0}", texts[0], second, shape), constants, over=_over(node))


def _over(node: Node) -> dict[str, int]:
    """Return how far before input 0 the output must start to be written over it."""
    found: Terms = node.options["terms"]
    reads = [f.at(found.sizes).reshape(-1) for term in found.terms for f in term.factors if f.position == 0]
    first = np.minimum.reduce(reads)
    later = np.minimum.accumulate(first[::-1])[::-1]  # the first element that is read from a place on
    written = np.arange(1, first.size)  # bytes, before place 1, 2, ...
    return {"out0": int(np.max(written - later[1:], initial=0))}


def _macs(graph: Graph, node: Node) -> int:
    found: Terms = node.options["terms"]
    return output(graph, node).elements * sum(len(term.factors) for term in found.terms)


OP = Op("EAR_PRODUCTS", range(1, 2), _check, _meaning, _call, _macs, batch=True)
