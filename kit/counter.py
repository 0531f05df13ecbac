"""The C side of the emulated boards: built with zig on first use, cached, called by Unicorn."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
from pathlib import Path

from boards import atomic
from firmware.compiler import toolchain

SOURCE = Path(__file__).with_name("virtual_board.c")
RUNNING, IDLE, RESET, LIMIT, BREATHLESS = range(5)


class Machine(ctypes.Structure):
    """The head of machine_t; the FIFOs and the cache of block lengths follow it in memory."""

    _fields_ = (
        ("flash", ctypes.c_void_p),
        ("ram", ctypes.c_void_p),
        ("flash_origin", ctypes.c_uint64),
        ("flash_bytes", ctypes.c_uint64),
        ("ram_origin", ctypes.c_uint64),
        ("ram_bytes", ctypes.c_uint64),
        ("protected_bytes", ctypes.c_uint64),
        ("stop", ctypes.c_void_p),
        ("instructions", ctypes.c_uint64),
        ("limit", ctypes.c_uint64),
        ("latched", ctypes.c_uint64),
        ("flash_changes", ctypes.c_uint64),
        ("flash_ends", ctypes.c_uint64),
        ("block_address", ctypes.c_uint64),
        ("block_bytes", ctypes.c_uint64),
        ("clock_hz", ctypes.c_uint64),
        ("rested", ctypes.c_uint64),
        ("heard_since", ctypes.c_uint64),
        ("air_start", ctypes.c_uint64),
        ("air_at", ctypes.c_uint64),
        ("air_end", ctypes.c_uint64),
        ("samples_lost", ctypes.c_uint64),
        ("rate", ctypes.c_uint32),
        ("air_rate", ctypes.c_uint32),
        ("air_over", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("boot_pin", ctypes.c_uint32),
        ("flash_address", ctypes.c_uint32),
        ("flash_error", ctypes.c_uint32),
        ("rx_head", ctypes.c_uint32),
        ("rx_tail", ctypes.c_uint32),
        ("tx_head", ctypes.c_uint32),
        ("tx_tail", ctypes.c_uint32),
    )


@functools.cache
def library() -> ctypes.CDLL:
    """Return the compiled C side, building it when this version of it is not in the cache.

    Raises:
        UserError: zig is missing or failed, or the cache cannot be written.
    """
    key = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = toolchain.cache() / f"virtual_board-{key}-{sys.platform}{os.name}"
    if not path.exists():
        with atomic.replacing(path) as built:
            toolchain.host_library(SOURCE, (), built, toolchain.PLAIN)
    loaded = ctypes.CDLL(str(path))
    loaded.ear_machine_bytes.restype = ctypes.c_uint64
    loaded.ear_reset.argtypes = (ctypes.c_void_p,)
    loaded.ear_reset.restype = None
    loaded.ear_settle.argtypes = (ctypes.c_void_p, ctypes.c_uint64)
    loaded.ear_settle.restype = None
    loaded.ear_breathless.argtypes = (ctypes.c_void_p,)
    loaded.ear_breathless.restype = ctypes.c_uint64
    for name in ("ear_send", "ear_receive", "ear_breathe"):
        getattr(loaded, name).argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32)
        getattr(loaded, name).restype = ctypes.c_uint32
    return loaded
