"""firmware/frontend.c built for this machine and for the emulated cores, for the tests of the front end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

import boards
from firmware.compiler import frontend_emit, toolchain
from firmware.compiler.elf import Elf
from models import frontend
from models.frontend import FrontEnd

FIRMWARE = Path(frontend_emit.__file__).parent.parent
FLASH, RAM, RAM_BYTES = 0x08000000, 0x20000000, 0x20000
STOP = FLASH + 0x80000  # the return address that ends a run
SAMPLES, FEATURES = RAM + 0x10000, RAM + 0x18000
SCRIPT = f"""
MEMORY
{{
    FLASH (rx) : ORIGIN = {FLASH:#x}, LENGTH = 0x80000
    RAM (rwx) : ORIGIN = {RAM:#x}, LENGTH = 0x10000
}}
SECTIONS
{{
    .text : {{ KEEP(*(.entry)) *(.text .text.*) *(.rodata .rodata.*) }} > FLASH
    .bss (NOLOAD) : {{ *(.bss .bss.*) }} > RAM
    /DISCARD/ : {{ *(.ARM.exidx .ARM.exidx.*) }}
}}
"""
SHORT_MULTIPLY = "#define __ARM_ARCH_6M__ 1\n"  # the branch of the Cortex-M0+, on the host
RUN = """
import ctypes, sys, numpy as np
library, features = ctypes.CDLL(sys.argv[1]), int(sys.argv[4])
frames = np.load(sys.argv[2])
out = np.zeros((len(frames), features), np.int8)
for frame, row in zip(frames, out):
    library.ear_frontend_frame(frame.ctypes.data_as(ctypes.c_void_p), row.ctypes.data_as(ctypes.c_void_p))
np.save(sys.argv[3], out)
"""


def write_source(folder: Path, fe: FrontEnd, scale: float, zero_point: int, before: str = "") -> Path:
    """Write one C file that holds the front end `fe` with its tables, and return its path."""
    tables = frontend.tables(fe)
    header = f"#include <stdint.h>\n{frontend_emit.declarations(tables, scale, zero_point)}"
    (folder / "model.h").write_text(f"#ifndef MODEL_H\n#define MODEL_H\n{header}#endif\n")
    source = folder / "all.c"
    entry = (
        'void Reset_Handler(void);\n__attribute__((section(".entry"))) void Reset_Handler(void) {\n'
        f"    ear_frontend_frame((const int16_t *){SAMPLES:#x}, (int8_t *){FEATURES:#x});\n}}\n"
    )
    source.write_text(
        f'{before}#include "frontend.c"\n{frontend_emit.constants(tables)}{"" if before else entry}'
    )
    return source


def on_host(
    folder: Path, fe: FrontEnd, frames: npt.NDArray[np.int16], scale: float, zero_point: int, before: str
) -> npt.NDArray[np.int8]:
    """Return what the C makes of `frames` (n, window) on this machine; undefined behaviour is a failure."""
    library, given, got = folder / "frontend.so", folder / "in.npy", folder / "out.npy"
    source = write_source(folder, fe, scale, zero_point, before or "\n")
    toolchain.host_library(source, [folder, FIRMWARE], library)
    np.save(given, np.ascontiguousarray(frames))
    command = [sys.executable, "-c", RUN, str(library), str(given), str(got), str(fe.features)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"exit {done.returncode} (negative: a trap of the sanitiser): {done.stderr}"
    return np.asarray(np.load(got), np.int8)


class Emulated:
    """The front end on an emulated core, counting instructions."""

    def __init__(
        self, folder: Path, core: str, fe: FrontEnd, scale: float, zero_point: int, by: toolchain.Toolchain
    ) -> None:
        import unicorn
        from unicorn import arm_const

        source, elf = write_source(folder, fe, scale, zero_point), folder / "frontend.elf"
        board = next(board for board in map(boards.load, boards.names()) if board.core == core)
        toolchain.compile([source], [folder, FIRMWARE], board, SCRIPT, elf, "2", toolchain=by)
        image = Elf(elf.read_bytes())
        self.features, self.code_bytes = fe.features, len(image.image(FLASH))
        self.registers = arm_const
        self.machine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        self.machine.ctl_set_cpu_model(getattr(arm_const, f"UC_CPU_ARM_{CPU_MODELS[core]}"))
        self.machine.mem_map(FLASH, 0x100000)
        self.machine.mem_map(RAM, RAM_BYTES)
        self.machine.mem_write(FLASH, image.image(FLASH))
        if core not in ("cortex-m0plus", "cortex-m3"):
            self.machine.reg_write(arm_const.UC_ARM_REG_FPEXC, 0x40000000)
        self.count = 0
        self.machine.hook_add(unicorn.UC_HOOK_CODE, self._counted)

    def _counted(self, *_: object) -> None:
        self.count += 1

    def frame(self, samples: npt.NDArray[np.int16]) -> tuple[npt.NDArray[np.int8], int]:
        """Return the features of one frame and the instructions that it took."""
        self.count = 0
        self.machine.mem_write(SAMPLES, samples.tobytes())
        self.machine.reg_write(self.registers.UC_ARM_REG_SP, SAMPLES)
        self.machine.reg_write(self.registers.UC_ARM_REG_LR, STOP | 1)
        self.machine.emu_start(FLASH | 1, STOP)
        return np.frombuffer(self.machine.mem_read(FEATURES, self.features), np.int8), self.count


def on_m55(
    folder: Path, fe: FrontEnd, frames: npt.NDArray[np.int16], scale: float, zero_point: int
) -> npt.NDArray[np.int8]:
    """Return what a Cortex-M55 with vector instructions makes of `frames` in QEMU, printed by semihosting."""
    rows = ",\n".join("{" + ", ".join(map(str, row)) + "}" for row in frames.tolist())
    source, elf = write_source(folder, fe, scale, zero_point, "\n"), folder / "frontend.elf"
    source.write_text(
        source.read_text() + M55_MAIN.replace("@COUNT", str(len(frames))).replace("@ROWS", rows)
    )
    toolchain.compile([source], [folder, FIRMWARE], boards.load("virtual-m55"), M55_SCRIPT, elf, "2")
    command = ["qemu-system-arm", "-M", "mps3-an547", "-kernel", str(elf), "-nographic", "-semihosting"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    values = bytes.fromhex("".join(line for line in (done.stdout + done.stderr).split()))
    return np.frombuffer(values, np.int8).reshape(len(frames), fe.features)


M55_SCRIPT = SCRIPT.replace(f"{FLASH:#x}", "0").replace("KEEP(*(.entry))", "KEEP(*(.vectors))")
M55_MAIN = """
static const int16_t given[@COUNT][EAR_FE_WINDOW] = {@ROWS};
static void semihost(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}
static void __attribute__((noinline)) hear(void) {
    int8_t features[EAR_FE_FEATURES];
    for (int i = 0; i < @COUNT; i++) {
        ear_frontend_frame(given[i], features);
        for (int j = 0; j < EAR_FE_FEATURES; j++) {
            const char *digits = "0123456789abcdef";
            const char hex[3] = {digits[features[j] >> 4 & 15], digits[features[j] & 15], 0};
            semihost(4, hex);
        }
    }
    semihost(0x18, (const void *)0x20026);
}
void Reset_Handler(void);
void Reset_Handler(void) {
    *(volatile uint32_t *)0xe000ed88 |= 0xf << 20; /* the coprocessors: floating point and vectors */
    __asm__ volatile("dsb \\n isb");
    hear();
}
__attribute__((used, section(".vectors"))) static const void *const vectors[2] = {
    (const void *)0x20010000, (const void *)Reset_Handler};
"""
CPU_MODELS = {
    "cortex-m0plus": "CORTEX_M0",
    "cortex-m3": "CORTEX_M3",
    "cortex-m4": "CORTEX_M4",
    "cortex-m7": "CORTEX_M7",
    "cortex-m33": "CORTEX_M33",
}
