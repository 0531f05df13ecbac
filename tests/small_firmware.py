"""Programs in assembler for the emulated boards: a vector table, then what a test wants executed."""

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


def program(text: str, board: Board) -> bytes:
    """Return the flash contents of `board` that run `text` from reset on."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "program.S", Path(folder) / "program.elf"
        source.write_text(_HEAD + text, encoding="ascii")
        toolchain.compile([source], [], board, link_script.script(board, "boot"), out)
        return Elf(out.read_bytes()).image(board.flash_memory.origin)
