"""The firmware: C sources of the runtime, the kernels, and the compiler that makes a model.c for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boards import Board

ROOT = Path(__file__).parent
APP = tuple(
    ROOT / name for name in ("startup.c", "main.c", "link.c", "frontend.c", "sound.c", "ears.c", "hear.c")
)
BOOT = tuple(ROOT / name for name in ("startup.c", "boot.c", "link.c", "sha256.c", "sha512.c", "ed25519.c"))
DIALECTS = {  # what an application that speaks a dialect has besides
    "mlperf": tuple(ROOT / name for name in ("text.c", "mlperf.c")),
    "edge-impulse": tuple(
        ROOT / name for name in ("text.c", "edge_impulse.c", "edge_run.c", "edge_record.c", "sha256.c")
    ),
}

PROGRAM = tuple(  # of an operating system, Linux
    ROOT / name
    for name in (
        "main.c",
        "link.c",
        "frontend.c",
        "sound.c",
        "ears.c",
        "hear.c",
        "ports/linux.c",
        "linux/start.c",
    )
)
PAGE = ROOT / "page.c"  # the ear of a web page
RUNNER = tuple(  # what a program has besides to be a runner of Edge Impulse
    ROOT / name for name in ("text.c", "linux/eim.c", "linux/request.c", "linux/runner.c")
)
MEMORY = ROOT / "memory.c"  # for gcc, whose runtime library has no memcpy


def port(name: str) -> Path:
    """Return the source of a board's port."""
    return ROOT / "ports" / f"{name}.c"


def chip(board: Board) -> tuple[Path, ...]:
    """Return the sources of a board's port, and of its USB where the link goes over that."""
    return (port(board.port), *((ROOT / "usb.c",) if board.usb else ()))


def sources() -> list[Path]:
    """Return every C file and header of the firmware, sorted: what an image is made from."""
    return sorted(path for kind in ("*.c", "*.h") for path in ROOT.rglob(kind))
