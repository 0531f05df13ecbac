"""Writes model.c and model.h: one readable, deterministic C file a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware.compiler import arenas, ends, frontend_emit
from firmware.compiler.ends import C_TYPES, comment
from firmware.compiler.graph import Graph, Node
from firmware.compiler.ops import OPS, Call, lowered
from firmware.compiler.plan import Plan
from firmware.compiler.weights import Constant

PLACEHOLDER = re.compile(r"\{(\w+)\}")
ALIGN: Mapping[str, int] = {"simd": 64}  # bytes: a vector of weights lies in one line of the cache

_HEADER = """/* model.h: {name}, compiled by earkit. Do not edit: compile again. */
#ifndef EAR_MODEL_H
#define EAR_MODEL_H

#include <stdint.h>

#define EAR_BUILD_ID "{build_id}"
#define EAR_ARENA_BYTES {arena} /* of all arenas */
#define EAR_STATE_BYTES {state}
#define EAR_GUARD_BYTES {guard} /* painted bytes on each side of an arena */
#define EAR_NODES {nodes}

/* Where a value has a scale, it is real = scale * (value - zero point). */
{ends}
extern uint8_t ear_arena[EAR_GUARD_BYTES + {first} + EAR_GUARD_BYTES]; /* in the fastest RAM */

void ear_model_init(void);                              /* paints arena and guards, and resets */
void ear_model_reset(void);                             /* forgets the past: states are as in the first run */
void ear_model_invoke(void (*before)(uint32_t node));   /* before: 0, or called at each node and the end */
int ear_arena_intact(void);                             /* 1 while both guards still carry their paint */
uint32_t ear_arena_high_water(void);                    /* bytes of the arena up to the last one changed */
const uint8_t *ear_at(uint32_t offset, uint32_t bytes); /* in the arenas, then the states; 0: not all there */

{frontend}
#endif
"""


@dataclass(frozen=True)
class Step:
    """One call in ear_model_invoke: a function, shared by nodes of the same shape, and its pointers."""

    node: Node
    body: str  # the kernel call in terms of the parameters
    parameters: tuple[str, ...]  # C declarations
    arguments: tuple[str, ...]  # C expressions


def emit(graph: Graph, plan: Plan, frontend_tables: Mapping[str, Any] | None = None) -> str:
    """Return the text of model.c.

    Args:
        graph: after passes.run.
        plan: of this graph.
        frontend_tables: `models.frontend.tables(fe)`, or None without a front end.
    """
    constants: dict[bytes, Constant] = {}
    steps = [
        _step(graph, plan, i, node, constants) for i, node in enumerate(graph.nodes) if not OPS[node.op].alias
    ]
    functions: dict[tuple[str, tuple[str, ...]], str] = {}
    for step in steps:
        kind = _identifier(step.node.op)
        functions.setdefault((step.body, step.parameters), f"{kind}_{len(functions)}")
    kernels = sorted({lowered(graph, step.node).kernel for step in steps})
    parts = [
        f"/* model.c: {comment(graph.name)}, compiled by earkit. Do not edit: compile again. */",
        "" if graph.unit == "c" else f"#define EAR_{graph.unit.upper()} 1",
        '#include "model.h"\n\n#include "ear.h"\n' + "".join(f'#include "kernels/{k}.h"\n' for k in kernels),
        "#define STATE(type, offset) ((type *)(void *)(ear_state + (offset)))\n" if plan.state else "",
        arenas.definitions(plan),
        _reset(graph, plan),
        arenas.lookup(plan),
        ends.definitions(graph, plan),
        frontend_emit.constants(frontend_tables),
        *(constant.definition() for constant in constants.values()),
        *(_function(name, body, parameters) for (body, parameters), name in functions.items()),
        _invoke(graph, plan, steps, functions),
    ]
    return "\n".join(part for part in parts if part)


def header(
    graph: Graph, plan: Plan, build_id: str = "", frontend_tables: Mapping[str, Any] | None = None
) -> str:
    """Return the text of model.h, with the front end's `EAR_FRONTEND` and `EAR_FE_*`."""
    scaling = () if frontend_tables is None else ends.require_front_end(graph)
    return _HEADER.format(
        name=comment(graph.name),
        build_id=build_id,
        arena=plan.arena,
        first=plan.arenas[0],
        state=plan.state,
        guard=arenas.GUARD_BYTES,
        nodes=len(compiled_nodes(graph)),
        ends=ends.declarations(graph),
        frontend=frontend_emit.declarations(frontend_tables, *scaling),
    )


def compiled_nodes(graph: Graph) -> list[Node]:
    """Return the nodes that have code, in the order of profiles: all but the aliases."""
    return [node for node in graph.nodes if not OPS[node.op].alias]


def constants(graph: Graph) -> list[Constant]:
    """Return the constants that model.c has for the nodes, each once."""
    found: dict[bytes, Constant] = {}
    for i, node in enumerate(graph.nodes):
        if not OPS[node.op].alias:
            _constants(graph, i, node, lowered(graph, node), found)
    return list(found.values())


def constant_bytes(graph: Graph, frontend_tables: Mapping[str, Any] | None = None) -> int:
    """Return the bytes of flash that weights and tables take."""
    tables = frontend_emit.table_bytes(frontend_tables)
    firsts = (state.initial for state in graph.states if not isinstance(state.initial, int))
    return tables + sum(array.nbytes for array in (*firsts, *(c.data for c in constants(graph))))


def _step(graph: Graph, plan: Plan, index: int, node: Node, constants: dict[bytes, Constant]) -> Step:
    call = lowered(graph, node)
    used = set(PLACEHOLDER.findall(" ".join(call.arguments)))
    pointers = {**_pointers(graph, plan, index, node), **_constants(graph, index, node, call, constants)}
    names = [name for name in pointers if name in used]
    texts = {"scratch": "0", **{name: name for name in names}}
    body = ",\n        ".join(_fill(argument, texts) for argument in call.arguments)
    parameters = tuple(f"{pointers[name][0]}{name}" for name in names)
    return Step(
        node, f"{call.symbol}(\n        {body})", parameters, tuple(pointers[name][1] for name in names)
    )


def _function(name: str, body: str, parameters: tuple[str, ...]) -> str:
    listed = ", ".join(parameters) or "void"
    return f"static __attribute__((noinline)) void {name}({listed}) {{\n    {body};\n}}\n"


def _invoke(
    graph: Graph, plan: Plan, steps: list[Step], functions: Mapping[tuple[str, tuple[str, ...]], str]
) -> str:
    lines = []
    for number, step in enumerate(steps):
        name = functions[step.body, step.parameters]
        lines += [
            f"    /* {_summary(graph, step.node)} */",
            f"    EAR_OP({number});",
            f"    {name}({', '.join(step.arguments)});",
        ]
    lines += [f"    {line}" for line in _carried(graph, plan)]
    lines.append(f"    EAR_OP({len(steps)});")
    return "void ear_model_invoke(void (*before)(uint32_t node)) {\n" + "\n".join(lines) + "\n}\n"


def _summary(graph: Graph, node: Node) -> str:
    shapes = " ".join(
        str(graph.tensors[i].shape) for i in node.inputs if i >= 0 and not graph.tensors[i].constant
    )
    result = graph.tensors[node.outputs[0]].shape
    return f"{comment(node.name)}: {shapes} -> {result}, {OPS[node.op].macs(graph, node):,} MACs"


def _carried(graph: Graph, plan: Plan) -> list[str]:
    """Return the copies that carry states to the next run, where no op rewrote them in their place."""
    return [
        f"memcpy({ends.place(plan, state.read, 'uint8_t')}, {ends.place(plan, state.written, 'uint8_t')}, "
        f"{graph.tensors[state.read].bytes});"
        for state in graph.states
        if state.written in plan.offsets
    ]


def _reset(graph: Graph, plan: Plan) -> str:
    """Return the memory of the states and what fills it with their initial values."""
    fills, firsts = [], []
    for number, state in enumerate(graph.states):
        value = graph.tensors[state.read]
        pointer = ends.place(plan, state.read, C_TYPES[value.dtype])
        if not isinstance(state.initial, int):
            firsts.append(Constant(f"state_{number}", state.initial).definition())
            fills.append(f"    memcpy({pointer}, state_{number}, sizeof state_{number});\n")
            continue
        fills.append(
            f"    for (uint32_t i = 0; i < {value.elements}; ++i)\n        {pointer}[i] = {state.initial};\n"
        )
    memory = f"static uint8_t ear_state[{plan.state}] __attribute__((aligned(16)));\n" if plan.state else ""
    return f"{memory}{''.join(firsts)}\nvoid ear_model_reset(void) {{\n{''.join(fills)}}}\n"


def _identifier(op: str) -> str:
    return re.sub(r"\W", "_", op.lower())


def _constants(
    graph: Graph, index: int, node: Node, call: Call, constants: dict[bytes, Constant]
) -> dict[str, tuple[str, str]]:
    """Return placeholder → (C type, name) of the node's constants, adding those that are new."""
    used = set(PLACEHOLDER.findall(" ".join(call.arguments)))
    wanted = dict(call.constants)
    for position, tensor in enumerate(node.inputs):
        data = graph.tensors[tensor].data if tensor >= 0 else None
        if data is not None and f"in{position}" in used:
            wanted[f"in{position}"] = data
    names = {}
    for name, data in wanted.items():
        key = str(data.dtype).encode() + b":" + np.ascontiguousarray(data).tobytes()
        kind = f"const {C_TYPES[str(data.dtype)]} *"
        made = Constant(f"n{index}_{name}", data, ALIGN.get(graph.unit, 4))
        names[name] = kind, constants.setdefault(key, made).name
    return names


def _pointers(graph: Graph, plan: Plan, index: int, node: Node) -> dict[str, tuple[str, str]]:
    """Return placeholder → (C type, expression) of the node's run-time tensors and scratch."""
    found: dict[str, tuple[str, str]] = {}
    for letter, operands in (("in", node.inputs), ("out", node.outputs)):
        for position, tensor in enumerate(operands):
            if tensor < 0 or graph.tensors[tensor].constant:
                continue
            kind = C_TYPES[graph.tensors[tensor].dtype]
            place = ends.place(plan, tensor, kind)
            found[f"{letter}{position}"] = (f"{'const ' if letter == 'in' else ''}{kind} *", place)
    scratch = plan.scratch[index]
    if scratch is not None:
        found["scratch"] = "int8_t *", arenas.pointer(plan, scratch, "int8_t")
    return found


def _fill(argument: str, names: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), argument)
