"""What model.h and model.c say of the model's inputs and outputs: names, shapes, scales, where they lie."""

from __future__ import annotations

from collections.abc import Sequence

from firmware.compiler import arenas
from firmware.compiler.graph import Graph, ModelError, Tensor
from firmware.compiler.plan import Plan

C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "bool": "uint8_t", "int16": "int16_t", "uint16": "uint16_t",
           "int32": "int32_t", "uint32": "uint32_t", "int64": "int64_t", "float32": "float"}  # fmt: skip

_TABLES = """
struct ear_end {
    void *data;
    uint32_t bytes;
};
extern const struct ear_end ear_inputs[EAR_INPUTS]; /* all of the above, in the order of the model */
extern const struct ear_end ear_outputs[EAR_OUTPUTS];
"""


def declarations(graph: Graph) -> str:
    """Return what model.h says of inputs and outputs: numbered when there are several of a kind."""
    lines = []
    for kind, ends in (("INPUT", graph.inputs), ("OUTPUT", graph.outputs)):
        values = [graph.tensors[i] for i in ends]
        lines.append(f"#define EAR_{kind}S {len(values)}")
        lines.append(f"#define EAR_{kind}_BYTES {sum(value.bytes for value in values)} /* of all together */")
        lines += [_declaration(*end) for end in zip(_names(kind, len(values)), values, strict=True)]
    return "\n".join(lines) + _TABLES


def definitions(graph: Graph, plan: Plan) -> str:
    """Return the pointers to inputs and outputs as model.c defines them."""
    lines = []
    for kind, ends in (("INPUT", graph.inputs), ("OUTPUT", graph.outputs)):
        names = [f"ear_{name.lower()}" for name in _names(kind, len(ends))]
        for name, index in zip(names, ends, strict=True):
            c_type = C_TYPES[graph.tensors[index].dtype]
            lines.append(f"{c_type} *const {name} = {place(plan, index, c_type)};")
        rows = ", ".join(f"{{{place(plan, i, 'uint8_t')}, {graph.tensors[i].bytes}}}" for i in ends)
        lines.append(f"const struct ear_end ear_{kind.lower()}s[EAR_{kind}S] = {{{rows}}};")
    return "\n".join(lines) + "\n"


def place(plan: Plan, index: int, c_type: str) -> str:
    """Return the C expression of the pointer to a tensor: in the arena, or in the memory of the states."""
    if index in plan.states:
        return f"STATE({c_type}, {plan.states[index]})"
    return arenas.pointer(plan, plan.offsets[index], c_type)


def records(graph: Graph, ends: Sequence[int]) -> list[dict[str, object]]:
    """Return name, type, shape and quantisation of inputs or outputs, for JSON."""
    made: list[dict[str, object]] = []
    for value in (graph.tensors[i] for i in ends):
        scaling = None
        if value.quantisation is not None:
            scale, zero_point = value.quantisation.scale[0], value.quantisation.zero_point[0]
            scaling = {"scale": float(scale), "zero_point": int(zero_point)}
        made.append(
            {"name": value.name, "dtype": value.dtype, "shape": list(value.shape), "quantisation": scaling}
        )
    return made


def single_int8(graph: Graph) -> bool:
    """Tell whether the model has one int8 input and one int8 output, both with a scale."""
    values = [graph.tensors[i] for i in (*graph.inputs, *graph.outputs)]
    return len(values) == 2 and all(
        value.dtype == "int8" and value.quantisation is not None for value in values
    )


def require_front_end(graph: Graph) -> tuple[float, int]:
    """Return (scale, zero_point) of the input that a front end fills; ModelError unless it can fill it."""
    values = [graph.tensors[i] for i in (*graph.inputs, *graph.outputs)]
    if not single_int8(graph):
        listed = ", ".join(f"{value.name!r} {value.dtype} {value.shape}" for value in values)
        what = f"a front end needs one int8 input and one int8 output, not {listed}"
        raise ModelError(f"{graph.name}: {what}: compile the bare .tflite, and use `earkit run`")
    scaling = values[0].quantisation
    assert scaling is not None
    return float(scaling.scale[0]), int(scaling.zero_point[0])


def _names(kind: str, count: int) -> list[str]:
    return [kind] if count == 1 else [f"{kind}_{i}" for i in range(count)]


def _declaration(name: str, value: Tensor) -> str:
    lines = []
    if value.quantisation is not None:
        scale, zero_point = value.quantisation.scale[0], value.quantisation.zero_point[0]
        lines.append(f"#define EAR_{name}_SCALE {float(scale):.9e}f")
        lines.append(f"#define EAR_{name}_ZERO_POINT ({int(zero_point)})")
    spent = "; a run of the model uses it up" if name.startswith("INPUT") else ""
    what = f"{comment(value.name)} {value.shape}{spent}"
    lines.append(f"extern {C_TYPES[value.dtype]} *const ear_{name.lower()}; /* {what} */")
    return "\n".join(lines)


def comment(text: str) -> str:
    """Return text that cannot end a C comment or leave ASCII."""
    return (
        text.encode("ascii", "replace").decode().replace("*/", "* /").replace("/*", "/ *").replace("\\", "/")
    )
