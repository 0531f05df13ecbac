"""Small firmware: programs in assembler for the emulated boards, and a model that turns 8 bytes round."""

from __future__ import annotations

import tempfile
from pathlib import Path

from boards import Board
from firmware.compiler import link_script, toolchain
from firmware.compiler.elf import Elf

REST = """
    ldr r7, =0x40000008
9:  str r7, [r7]
    b 9b
    .ltorg
"""
_HEAD = """
    .syntax unified
    .thumb
    .section .vectors, "a"
    .word ear_stack_top
    .word Reset_Handler
    .text
    .global Reset_Handler
    .type Reset_Handler, %function
    .thumb_func
Reset_Handler:
"""


# A model for the application to run.
MODEL_H = """
#include <stdint.h>
#define EAR_BUILD_ID "stand-in"
#define EAR_INPUT_BYTES 8
#define EAR_OUTPUT_BYTES 8
#define EAR_ARENA_BYTES 16
#define EAR_NODES 1
#define EAR_FRONTEND 0
#define EAR_INPUTS 1
#define EAR_OUTPUTS 1
struct ear_end {
    void *data;
    uint32_t bytes;
};
extern const struct ear_end ear_inputs[EAR_INPUTS], ear_outputs[EAR_OUTPUTS];
void ear_model_init(void);
void ear_model_reset(void);
void ear_model_invoke(void (*before)(uint32_t node));
int ear_arena_intact(void);
uint32_t ear_arena_high_water(void);
const uint8_t *ear_at(uint32_t offset, uint32_t bytes);
"""
MODEL_C = """
#include "model.h"
static int8_t memory[16];
const struct ear_end ear_inputs[EAR_INPUTS] = {{memory, 8}}, ear_outputs[EAR_OUTPUTS] = {{memory + 8, 8}};
void ear_model_init(void) {}
void ear_model_reset(void) {}
void ear_model_invoke(void (*before)(uint32_t node)) {
    if (before) before(0);
    for (uint32_t i = 0; i < 8; i++) memory[8 + i] = memory[7 - i];
    if (before) before(1);
}
int ear_arena_intact(void) { return 1; }
uint32_t ear_arena_high_water(void) { return 16; }
const uint8_t *ear_at(uint32_t offset, uint32_t bytes) {
    return offset + bytes <= sizeof memory ? (const uint8_t *)memory + offset : 0;
}
"""


def program(text: str, board: Board) -> bytes:
    """Return the flash contents of `board` that run `text` from reset on."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "program.S", Path(folder) / "program.elf"
        source.write_text(_HEAD + text, encoding="ascii")
        toolchain.compile([source], [], board, link_script.script(board, "boot"), out)
        return Elf(out.read_bytes()).image(board.flash_memory.origin)
