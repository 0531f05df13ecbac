"""C text of the arenas: one in each region of RAM that the plan uses, with painted guards on both sides."""

from __future__ import annotations

from firmware.compiler.plan import Plan

GUARD_BYTES = 16
PAINT = 0xA5

_ONE = "uint8_t {name}[EAR_GUARD_BYTES + {bytes} + EAR_GUARD_BYTES] __attribute__(({attributes}));\n"
_POINTER = "#define {macro}(type, offset) ((type *)(void *)({name} + EAR_GUARD_BYTES + (offset)))\n"
_FUNCTIONS = """
static const struct {{
    uint8_t *start;
    uint32_t bytes;
}} arenas[] = {{{table}}};

void ear_model_init(void) {{
    for (uint32_t i = 0; i < sizeof arenas / sizeof *arenas; ++i)
        memset(arenas[i].start, {paint:#x}, EAR_GUARD_BYTES + arenas[i].bytes + EAR_GUARD_BYTES);
    ear_model_reset();
}}

int ear_arena_intact(void) {{
    for (uint32_t i = 0; i < sizeof arenas / sizeof *arenas; ++i)
        for (uint32_t k = 0; k < EAR_GUARD_BYTES; ++k)
            if (arenas[i].start[k] != {paint:#x} ||
                arenas[i].start[EAR_GUARD_BYTES + arenas[i].bytes + k] != {paint:#x})
                return 0;
    return 1;
}}

uint32_t ear_arena_high_water(void) {{
    uint32_t total = 0;
    for (uint32_t i = 0; i < sizeof arenas / sizeof *arenas; ++i) {{
        uint32_t bytes = arenas[i].bytes;
        while (bytes && arenas[i].start[EAR_GUARD_BYTES + bytes - 1] == {paint:#x})
            --bytes;
        total += bytes;
    }}
    return total;
}}
"""
_LOOKUP = """
const uint8_t *ear_at(uint32_t offset, uint32_t bytes) {{
    for (uint32_t i = 0; i < sizeof arenas / sizeof *arenas; ++i) {{
        if (offset < arenas[i].bytes)
            return bytes <= arenas[i].bytes - offset ? arenas[i].start + EAR_GUARD_BYTES + offset : 0;
        offset -= arenas[i].bytes;
    }}
{states}    return 0;
}}
"""
_STATES = """    if (offset < {bytes})
        return bytes <= {bytes} - offset ? ear_state + offset : 0;
"""


def definitions(plan: Plan) -> str:
    """Return the arrays of the arenas and the functions that paint and check them."""
    names = [_name(i) for i in range(len(plan.arenas))]
    text = ""
    for i, (name, size) in enumerate(zip(names, plan.arenas, strict=True)):
        section = f'section(".{name}"), ' if i else ""
        text += ("static " if i else "") + _ONE.format(
            name=name, bytes=size, attributes=f"{section}aligned(16)"
        )
        text += _POINTER.format(macro=_macro(i), name=name)
    table = ", ".join(f"{{{name}, {size}}}" for name, size in zip(names, plan.arenas, strict=True))
    return text + _FUNCTIONS.format(paint=PAINT, table=table)


def lookup(plan: Plan) -> str:
    """Return the function that finds a place in the arenas, or in the states behind them."""
    states = _STATES.format(bytes=plan.state) if plan.state else ""
    return _LOOKUP.format(states=states)


def pointer(plan: Plan, offset: int, c_type: str) -> str:
    """Return the C expression of a place in the arenas."""
    arena, local = plan.located(offset)
    return f"{_macro(arena)}({c_type}, {local})"


def _name(arena: int) -> str:
    return f"ear_arena_{arena}" if arena else "ear_arena"


def _macro(arena: int) -> str:
    return f"AT_{arena}" if arena else "AT"
