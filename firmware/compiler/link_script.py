"""Linker scripts: where bootloader and application lie in a board's flash and regions of RAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from boards import Board
from firmware.compiler.image import HEADER_BYTES

STATIC_BYTES = 8192  # kept free for the firmware's own data where arenas may also lie elsewhere
HANDOVER_BYTES = 32  # at the top of RAM: survives a reset, the letter from the application to the bootloader

_REGION = "    RAM{i} (rw) : ORIGIN = {origin:#010x}, LENGTH = {size:#x}\n"
_HEADER = "    arena{i} PT_LOAD FLAGS(6);\n"
_ARENA = "    .ear_arena_{i} (NOLOAD) : ALIGN(16) {{ *(.ear_arena_{i}) }} > RAM{i} :arena{i}\n"
_SCRIPT = """/* {title}: {which} */
ENTRY(Reset_Handler)
MEMORY
{{
    FLASH (rx) : ORIGIN = {flash:#010x}, LENGTH = {flash_bytes:#x}
    RAM (rwx) : ORIGIN = {ram:#010x}, LENGTH = {ram_bytes:#x}
{regions}}}
PHDRS
{{
    flash PT_LOAD FLAGS(5);
    stack PT_LOAD FLAGS(6);
    data PT_LOAD FLAGS(6);
    text PT_LOAD FLAGS(5);
    zero PT_LOAD FLAGS(6);
{headers}}}
ear_handover = {handover:#010x};
ear_flash_origin = {flash_origin:#010x};
ear_app_origin = {app_origin:#010x};
ear_app_bytes = {app_bytes:#x};
ear_app_second = {app_second:#x};
ear_vectors = ORIGIN(FLASH);
ear_image = {image:#010x};
SECTIONS
{{
    .vectors : {{ {first}KEEP(*(.vectors)) KEEP(*(.interrupts)){behind} }} > FLASH :flash
    .stack (NOLOAD) : ALIGN(8) {{ ear_stack_limit = .; . += {stack:#x}; ear_stack_top = .; }} > RAM :stack
    .data : ALIGN(8)
    {{
        ear_data_start = .; ear_ram_code_start = .; *(.ram_code) . = ALIGN(4); ear_ram_code_end = .;
        *(.data .data.*{copied}) . = ALIGN(8); ear_data_end = .;
    }} > RAM AT> FLASH :data
    .text : ALIGN(8) {{ *(.text .text.*) *(.rodata .rodata.*) . = ALIGN(8); }} > FLASH :text
    ear_data_load = LOADADDR(.data);
    .bss (NOLOAD) : ALIGN(8)
    {{
        ear_bss_start = .; *(.bss .bss.*) *(COMMON) . = ALIGN(8); ear_bss_end = .;
    }} > RAM :zero
{arenas}    /DISCARD/ : {{ *(.rom_first .rom_behind) *(.ARM.exidx .ARM.exidx.* .ARM.extab .ARM.extab.*) }}
}}
"""


def script(
    board: Board, which: Literal["boot", "app"], copied: Sequence[str] = (), *, offset: int = 0
) -> str:
    """Return the linker script of the bootloader or of the application of `board`.

    The bootloader starts flash; the application's vector table follows its header of HEADER_BYTES at
    `board.app_origin` + `offset`. The stack lies at the bottom of RAM: an overflow leaves RAM and faults
    instead of spoiling data. What a chip's ROM wants in the bootloader lies in .rom_first, before the
    vectors, or in .rom_behind. `copied` are constants of model.c that move to RAM at start. Symbols for the
    C side: ear_stack_limit/top, ear_data_start/end/load, ear_bss_start/end, ear_handover, ear_vectors,
    ear_image, ear_flash_origin, ear_app_origin, ear_app_bytes, ear_app_second.
    """
    flash, ram = board.flash_memory, board.ram_memory
    boot = which == "boot"
    more = [] if boot else list(enumerate(board.more_ram.values(), 1))
    return _SCRIPT.format(
        title=board.title,
        which="bootloader" if boot else "application",
        flash=flash.origin if boot else board.app_origin + offset + HEADER_BYTES,
        flash_bytes=board.boot if boot else board.app_size - offset - HEADER_BYTES,
        ram=ram.origin,
        ram_bytes=ram.size - HANDOVER_BYTES,
        handover=ram.origin + ram.size - HANDOVER_BYTES,
        flash_origin=flash.origin,
        app_origin=board.app_origin,
        app_bytes=board.app_size,
        app_second=board.second_image,
        image=board.app_origin + offset,
        stack=board.stack,
        first="KEEP(*(.rom_first)) " if boot else "",
        behind=" KEEP(*(.rom_behind))" if boot else "",
        copied="".join(f" .rodata.{name}" for name in copied),
        regions="".join(_REGION.format(i=i, origin=m.origin, size=m.size) for i, m in more),
        headers="".join(_HEADER.format(i=i) for i, _ in more),
        arenas="".join(_ARENA.format(i=i) for i, _ in more),
    )
