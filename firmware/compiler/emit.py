"""Writes model.c and model.h: one readable, deterministic C file a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from firmware.compiler import frontend_emit
from firmware.compiler.graph import Array, Graph, ModelError, Node
from firmware.compiler.ops import OPS, Call
from firmware.compiler.plan import Plan

C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "bool": "uint8_t", "int16": "int16_t", "uint16": "uint16_t",
           "int32": "int32_t", "uint32": "uint32_t", "int64": "int64_t", "float32": "float"}  # fmt: skip
PLACEHOLDER = re.compile(r"\{(\w+)\}")
LINE = 108  # characters of a line of constants
GUARD_BYTES = 16
PAINT = 0xA5

_HEADER = """/* model.h: {name}, compiled by earkit. Do not edit: compile again. */
#ifndef EAR_MODEL_H
#define EAR_MODEL_H

#include <stdint.h>

#define EAR_BUILD_ID "{build_id}"
#define EAR_INPUT_BYTES {input_bytes}
#define EAR_OUTPUT_BYTES {output_bytes}
#define EAR_ARENA_BYTES {arena}
#define EAR_STATE_BYTES {state}
#define EAR_GUARD_BYTES {guard} /* painted bytes on each side of the arena */
#define EAR_NODES {nodes}
#define EAR_INPUT_SCALE {input_scale}f
#define EAR_INPUT_ZERO_POINT ({input_zero})
#define EAR_OUTPUT_SCALE {output_scale}f
#define EAR_OUTPUT_ZERO_POINT ({output_zero})

extern uint8_t ear_arena[EAR_GUARD_BYTES + EAR_ARENA_BYTES + EAR_GUARD_BYTES];
extern int8_t *const ear_input;  /* {input_shape}; a run of the model uses it up */
extern int8_t *const ear_output; /* {output_shape} */

void ear_model_init(void);                              /* paints arena and guards, and resets */
void ear_model_reset(void);                             /* forgets the past: states are as in the first run */
void ear_model_invoke(void (*before)(uint32_t node));   /* before: 0, or called at each node and the end */
int ear_arena_intact(void);                             /* 1 while both guards still carry their paint */
uint32_t ear_arena_high_water(void);                    /* bytes of the arena up to the last one changed */

{frontend}
#endif
"""

_MEMORY = """\
uint8_t ear_arena[EAR_GUARD_BYTES + EAR_ARENA_BYTES + EAR_GUARD_BYTES] __attribute__((aligned(16)));
int8_t *const ear_input = AT(int8_t, {input});
int8_t *const ear_output = AT(int8_t, {output});

void ear_model_init(void) {{
    memset(ear_arena, {paint:#x}, sizeof ear_arena);
    ear_model_reset();
}}

int ear_arena_intact(void) {{
    const uint8_t *after = ear_arena + EAR_GUARD_BYTES + EAR_ARENA_BYTES;
    for (uint32_t i = 0; i < EAR_GUARD_BYTES; ++i)
        if (ear_arena[i] != {paint:#x} || after[i] != {paint:#x})
            return 0;
    return 1;
}}

uint32_t ear_arena_high_water(void) {{
    uint32_t bytes = EAR_ARENA_BYTES;
    while (bytes && ear_arena[EAR_GUARD_BYTES + bytes - 1] == {paint:#x})
        --bytes;
    return bytes;
}}
"""


@dataclass(frozen=True)
class Constant:
    """A static const array of model.c."""

    name: str
    data: Array


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
        graph: after passes.run, with one int8 input and one int8 output.
        plan: of this graph.
        frontend_tables: `models.frontend.tables(fe)`, or None without a front end.
    """
    _require_one_each(graph)
    constants: dict[bytes, Constant] = {}
    steps = [
        _step(graph, plan, i, node, constants) for i, node in enumerate(graph.nodes) if not OPS[node.op].alias
    ]
    functions: dict[tuple[str, tuple[str, ...]], str] = {}
    for step in steps:
        kind = _identifier(step.node.op)
        functions.setdefault((step.body, step.parameters), f"{kind}_{len(functions)}")
    kernels = sorted({OPS[step.node.op].call(graph, step.node).kernel for step in steps})
    memory = _MEMORY.format(
        input=plan.offsets[graph.inputs[0]], output=plan.offsets[graph.outputs[0]], paint=PAINT
    )
    parts = [
        f"/* model.c: {_comment(graph.name)}, compiled by earkit. Do not edit: compile again. */",
        "" if graph.unit == "c" else f"#define EAR_{graph.unit.upper()} 1",
        '#include "model.h"\n\n#include "ear.h"\n' + "".join(f'#include "kernels/{k}.h"\n' for k in kernels),
        "#define AT(type, offset) ((type *)(void *)(ear_arena + EAR_GUARD_BYTES + (offset)))",
        "#define STATE(type, offset) ((type *)(void *)(ear_state + (offset)))\n" if plan.state else "",
        memory,
        _reset(graph, plan),
        frontend_emit.constants(frontend_tables),
        *(_definition(constant.name, constant.data) for constant in constants.values()),
        *(_function(name, body, parameters) for (body, parameters), name in functions.items()),
        _invoke(graph, plan, steps, functions),
    ]
    return "\n".join(part for part in parts if part)


def header(
    graph: Graph, plan: Plan, build_id: str = "", frontend_tables: Mapping[str, Any] | None = None
) -> str:
    """Return the text of model.h, with the front end's `EAR_FRONTEND` and `EAR_FE_*`."""
    _require_one_each(graph)
    x, y = graph.tensors[graph.inputs[0]], graph.tensors[graph.outputs[0]]
    assert x.quantisation is not None  # passes.check refuses ends without a scale
    assert y.quantisation is not None
    scales = float(x.quantisation.scale[0]), float(y.quantisation.scale[0])
    zeros = int(x.quantisation.zero_point[0]), int(y.quantisation.zero_point[0])
    return _HEADER.format(
        name=_comment(graph.name),
        build_id=build_id,
        input_bytes=x.bytes,
        output_bytes=y.bytes,
        arena=plan.arena,
        state=plan.state,
        guard=GUARD_BYTES,
        nodes=len(compiled_nodes(graph)),
        input_scale=f"{scales[0]:.9e}",
        input_zero=zeros[0],
        output_scale=f"{scales[1]:.9e}",
        output_zero=zeros[1],
        input_shape=x.shape,
        output_shape=y.shape,
        frontend=frontend_emit.declarations(frontend_tables, scales[0], zeros[0]),
    )


def compiled_nodes(graph: Graph) -> list[Node]:
    """Return the nodes that have code, in the order of profiles: all but the aliases."""
    return [node for node in graph.nodes if not OPS[node.op].alias]


def constant_bytes(graph: Graph, frontend_tables: Mapping[str, Any] | None = None) -> int:
    """Return the bytes of flash that weights and tables take."""
    constants: dict[bytes, Constant] = {}
    for i, node in enumerate(graph.nodes):
        if not OPS[node.op].alias:
            _constants(graph, i, node, OPS[node.op].call(graph, node), constants)
    tables = frontend_emit.table_bytes(frontend_tables)
    return tables + sum(constant.data.nbytes for constant in constants.values())


def _require_one_each(graph: Graph) -> None:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        counts = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise ModelError(
            f"{graph.name} has {counts}: the firmware takes one of each; join them with CONCATENATION"
        )


def _step(graph: Graph, plan: Plan, index: int, node: Node, constants: dict[bytes, Constant]) -> Step:
    call = OPS[node.op].call(graph, node)
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
    return f"{_comment(node.name)}: {shapes} -> {result}, {OPS[node.op].macs(graph, node):,} MACs"


def _carried(graph: Graph, plan: Plan) -> list[str]:
    """Return the copies that carry states to the next run, where no op rewrote them in their place."""
    return [
        f"memcpy(STATE(uint8_t, {plan.states[state.read]}), AT(uint8_t, {plan.offsets[state.written]}), "
        f"{graph.tensors[state.read].bytes});"
        for state in graph.states
        if state.written in plan.offsets
    ]


def _reset(graph: Graph, plan: Plan) -> str:
    """Return the memory of the states and what fills it with their initial values."""
    fills = []
    for state in graph.states:
        value = graph.tensors[state.read]
        pointer = f"STATE({C_TYPES[value.dtype]}, {plan.states[state.read]})"
        fills.append(
            f"    for (uint32_t i = 0; i < {value.elements}; ++i)\n        {pointer}[i] = {state.initial};\n"
        )
    memory = f"static uint8_t ear_state[{plan.state}] __attribute__((aligned(16)));\n" if plan.state else ""
    return f"{memory}\nvoid ear_model_reset(void) {{\n{''.join(fills)}}}\n"


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
        names[name] = kind, constants.setdefault(key, Constant(f"n{index}_{name}", data)).name
    return names


def _pointers(graph: Graph, plan: Plan, index: int, node: Node) -> dict[str, tuple[str, str]]:
    """Return placeholder → (C type, expression) of the node's run-time tensors and scratch."""
    found: dict[str, tuple[str, str]] = {}
    for letter, ends in (("in", node.inputs), ("out", node.outputs)):
        for position, tensor in enumerate(ends):
            if tensor < 0 or graph.tensors[tensor].constant:
                continue
            kind = C_TYPES[graph.tensors[tensor].dtype]
            kept = tensor in plan.states
            place = f"{'STATE' if kept else 'AT'}({kind}, {(plan.states if kept else plan.offsets)[tensor]})"
            found[f"{letter}{position}"] = (f"{'const ' if letter == 'in' else ''}{kind} *", place)
    scratch = plan.scratch[index]
    if scratch is not None:
        found["scratch"] = "int8_t *", f"AT(int8_t, {scratch})"
    return found


def _fill(argument: str, names: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), argument)


def _definition(name: str, data: Array) -> str:
    flat = data.reshape(-1)
    texts = (
        [float(v).hex() + "f" for v in flat]
        if data.dtype.kind == "f"
        else list(map(str, flat.astype(np.int64).tolist()))
    )
    width = max(map(len, texts)) + 2
    per_line = max(1, (LINE - 4) // width)
    rows = [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]
    kind = C_TYPES[str(data.dtype)]
    comment = f" /* {data.shape} */" if data.ndim > 1 else ""
    return (
        f"static const {kind} {name}[{flat.size}] __attribute__((aligned(4))) = {{{comment}\n    "
        + ",\n    ".join(rows)
        + "\n};\n"
    )


def _comment(text: str) -> str:
    """Return text that cannot end a C comment or leave ASCII."""
    return (
        text.encode("ascii", "replace").decode().replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
    )
