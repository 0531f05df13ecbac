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
#define EAR_GUARD_BYTES {guard} /* painted bytes on each side of the arena */
#define EAR_NODES {nodes}
#define EAR_INPUT_SCALE {input_scale}f
#define EAR_INPUT_ZERO_POINT ({input_zero})
#define EAR_OUTPUT_SCALE {output_scale}f
#define EAR_OUTPUT_ZERO_POINT ({output_zero})

extern uint8_t ear_arena[EAR_GUARD_BYTES + EAR_ARENA_BYTES + EAR_GUARD_BYTES];
extern int8_t *const ear_input;  /* {input_shape}; a run of the model uses it up */
extern int8_t *const ear_output; /* {output_shape} */

void ear_model_init(void);                              /* paints arena and guards */
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
    """A static const array of model.c; cores with EAR_DSP may get the same values in another order."""

    name: str
    data: Array
    dsp: Array | None = None

    def bytes(self, dsp: bool) -> int:
        """Return the bytes it takes on a core with or without EAR_DSP."""
        return self.dsp.nbytes if dsp and self.dsp is not None else self.data.nbytes


def emit(graph: Graph, plan: Plan, frontend_tables: Mapping[str, Any] | None = None) -> str:
    """Return the text of model.c.

    Args:
        graph: after passes.run, with one int8 input and one int8 output.
        plan: of this graph.
        frontend_tables: `models.frontend.tables(fe)`, or None without a front end.
    """
    _require_one_each(graph)
    constants: dict[bytes, Constant] = {}
    steps = [(i, node) for i, node in enumerate(graph.nodes) if not OPS[node.op].alias]
    functions = [_function(graph, plan, i, node, constants) for i, node in steps]
    kernels = sorted({OPS[node.op].call(graph, node).kernel for _, node in steps})
    calls = "".join(
        f"    EAR_OP({step});\n    {_function_name(i, node)}();\n" for step, (i, node) in enumerate(steps)
    )
    memory = _MEMORY.format(
        input=plan.offsets[graph.inputs[0]], output=plan.offsets[graph.outputs[0]], paint=PAINT
    )
    parts = [
        f"/* model.c: {_comment(graph.name)}, compiled by earkit. Do not edit: compile again. */",
        '#include "model.h"\n\n#include "ear.h"\n' + "".join(f'#include "kernels/{k}.h"\n' for k in kernels),
        "#define AT(type, offset) ((type *)(void *)(ear_arena + EAR_GUARD_BYTES + (offset)))\n",
        memory,
        frontend_emit.constants(frontend_tables),
        *(_array(constant) for constant in constants.values()),
        *functions,
        f"void ear_model_invoke(void (*before)(uint32_t node)) {{\n{calls}    EAR_OP({len(steps)});\n}}\n",
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


def constant_bytes(graph: Graph, dsp: bool, frontend_tables: Mapping[str, Any] | None = None) -> int:
    """Return the bytes of flash that weights and tables take on a core with or without EAR_DSP."""
    constants: dict[bytes, Constant] = {}
    for i, node in enumerate(graph.nodes):
        if not OPS[node.op].alias:
            _names(graph, i, node, OPS[node.op].call(graph, node), constants)
    tables = frontend_emit.table_bytes(frontend_tables)
    return tables + sum(constant.bytes(dsp) for constant in constants.values())


def _require_one_each(graph: Graph) -> None:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        counts = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise ModelError(
            f"{graph.name} has {counts}: the firmware takes one of each; join them with CONCATENATION"
        )


def _function_name(index: int, node: Node) -> str:
    return f"node_{index}_{node.op.lower().replace(' ', '_')}"


def _function(graph: Graph, plan: Plan, index: int, node: Node, constants: dict[bytes, Constant]) -> str:
    call = OPS[node.op].call(graph, node)
    names = _names(graph, index, node, call, constants) | _pointers(graph, plan, index, node)
    arguments = ",\n        ".join(_fill(argument, names) for argument in call.arguments)
    shapes = " ".join(
        str(graph.tensors[i].shape) for i in node.inputs if i >= 0 and not graph.tensors[i].constant
    )
    macs = OPS[node.op].macs(graph, node)
    result = graph.tensors[node.outputs[0]].shape
    return (
        f"/* {_comment(node.name)}: {shapes} -> {result}, {macs:,} MACs */\n"
        f"static __attribute__((noinline)) void {_function_name(index, node)}(void) {{\n"
        f"    {call.symbol}(\n        {arguments});\n}}\n"
    )


def _names(
    graph: Graph, index: int, node: Node, call: Call, constants: dict[bytes, Constant]
) -> dict[str, str]:
    """Return placeholder → C name of the node's constants, adding those that are new."""
    used = set(PLACEHOLDER.findall(" ".join(call.arguments)))
    wanted = dict(call.constants)
    for position, tensor in enumerate(node.inputs):
        data = graph.tensors[tensor].data if tensor >= 0 else None
        if data is not None and f"in{position}" in used:
            wanted[f"in{position}"] = data
    names = {}
    for name, data in wanted.items():
        key = str(data.dtype).encode() + b":" + np.ascontiguousarray(data).tobytes()
        dsp = call.dsp_constants.get(name)
        key += b"" if dsp is None else b" dsp " + dsp.tobytes()
        names[name] = constants.setdefault(key, Constant(f"n{index}_{name}", data, dsp)).name
    return names


def _pointers(graph: Graph, plan: Plan, index: int, node: Node) -> dict[str, str]:
    ends = [(f"in{p}", t) for p, t in enumerate(node.inputs)] + [
        (f"out{p}", t) for p, t in enumerate(node.outputs)
    ]
    found = {
        name: f"AT({C_TYPES[graph.tensors[tensor].dtype]}, {plan.offsets[tensor]})"
        for name, tensor in ends
        if tensor >= 0 and not graph.tensors[tensor].constant
    }
    scratch = plan.scratch[index]
    return found if scratch is None else {**found, "scratch": f"AT(int8_t, {scratch})"}


def _fill(argument: str, names: Mapping[str, str]) -> str:
    return PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), argument)


def _array(constant: Constant) -> str:
    plain = _definition(constant.name, constant.data)
    if constant.dsp is None:
        return plain
    return f"#if EAR_DSP\n{_definition(constant.name, constant.dsp)}#else\n{plain}#endif\n"


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
