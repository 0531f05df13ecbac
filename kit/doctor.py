"""What this machine has and lacks for the road, each fault with its cure."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from boards.errors import UserError
from kit.errors import DIALOUT, EXTRAS

State = Literal["ok", "optional", "missing"]
CORE = ("ai_edge_litert", "numpy", "pydantic", "serial", "soundfile", "soxr", "unicorn")
FLASHERS = {  # programs that some boards are flashed by
    "dfu-util": "for boards with USB DFU: sudo apt install dfu-util",
    "esptool": "for ESP32: pip install esptool",
    "bossac": "for boards with SAM-BA: sudo apt install bossa-cli",
    "ssh": "for computers such as a Raspberry Pi: sudo apt install openssh-client",
}
FREE_BYTES = 1 << 30  # a training run with checkpoints and compiler cache stays below


@dataclass(frozen=True)
class Check:
    """One thing looked at. `optional`: something is absent that the main road does not need."""

    name: str
    state: State
    found: str
    cure: str = ""


def examine() -> dict[str, Any]:
    """Return `{"ok", "checks": [{"name", "state", "found", "cure"}]}`; ok: the main road can be walked."""
    checks = [check for look in LOOKS for check in look()]
    return {
        "ok": all(check.state != "missing" for check in checks),
        "checks": [asdict(check) for check in checks],
    }


def _python() -> Iterator[Check]:
    found = f"{sys.version.split()[0]} at {sys.executable}"
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Check(
        "python", "ok" if fits else "missing", found, "" if fits else "install Python 3.11, 3.12 or 3.13"
    )


def _libraries() -> Iterator[Check]:
    absent = [name for name in CORE if importlib.util.find_spec(name) is None]
    found = f"all of {', '.join(CORE)}" if not absent else f"missing: {', '.join(absent)}"
    yield Check("libraries", "missing" if absent else "ok", found, "pip install earkit" if absent else "")


def _first_line(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), "").strip()


def _toolchains() -> Iterator[Check]:
    zig = _first_line(sys.executable, "-m", "ziglang", "version")
    gcc = _first_line("arm-none-eabi-gcc", "--version")
    have = zig is not None or gcc is not None
    cure = "pip install ziglang"
    yield Check(
        "compiler zig",
        "ok" if zig else "optional" if have else "missing",
        zig or "absent",
        "" if zig else cure,
    )
    cure = "sudo apt install gcc-arm-none-eabi"
    yield Check("compiler gcc", "ok" if gcc else "optional", gcc or "absent", "" if gcc else cure)


def _emulators() -> Iterator[Check]:
    try:
        import unicorn

        from kit import counter

        unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        counter.library()
        yield Check("emulator unicorn", "ok", str(unicorn.__version__))
    except UserError as error:
        found, _, cure = str(error).rpartition(": ")
        yield Check("emulator unicorn", "missing", found, cure)
    except Exception as error:  # the library may be absent or for another machine, its C side may not build
        cure = "pip install --force-reinstall unicorn==2.1.4 ziglang==0.17.1"
        yield Check("emulator unicorn", "missing", " ".join(str(error).split()), cure)
    qemu = _first_line("qemu-system-arm", "--version")
    cure = "" if qemu else "for virtual-m55: sudo apt install qemu-system-arm"
    yield Check("emulator qemu", "ok" if qemu else "optional", qemu or "absent", cure)


def _flashers() -> Iterator[Check]:
    for name, cure in FLASHERS.items():
        found = next(filter(None, map(shutil.which, (name, f"{name}.py"))), None)
        yield Check(
            f"flasher {name}", "ok" if found else "optional", found or "absent", "" if found else cure
        )


def _extras() -> Iterator[Check]:
    for extra in dict.fromkeys(EXTRAS.values()):
        names = [name for name, brings in EXTRAS.items() if brings == extra]
        absent = [name for name in names if importlib.util.find_spec(name) is None]
        found = f"missing: {', '.join(absent)}" if absent else ", ".join(names)
        cure = f"pip install 'earkit[{extra}]'" if absent else ""
        yield Check(f"extra {extra}", "optional" if absent else "ok", found, cure)


def _serial() -> Iterator[Check]:
    from serial.tools import list_ports

    import boards
    from kit import port_errors, serial_port

    known: dict[str, list[str]] = {}  # USB id -> boards
    for board in map(boards.load, boards.names()):
        for usb in board.serial.vid_pid:
            known.setdefault(usb, []).append(board.name)
    ports, seen = list(list_ports.comports()), serial_port.ports()
    if lacking := port_errors.portless(known, seen.values()):
        found, cure = lacking
        yield Check("serial driver", "optional", f"{found}: {' or '.join(known[found])} without a port", cure)
    elif not ports:
        yield Check("serial ports", "optional", "none", "plug the board in; the virtual boards need none")
    for port in ports:
        allowed = os.access(port.device, os.R_OK | os.W_OK)
        cure = "" if allowed else DIALOUT
        names = known.get(seen.get(port.device, ""), ())
        which = f", as {' or '.join(names)}" if names else ""
        found = f"{port.description}{which}" + ("" if allowed else ", no permission")
        yield Check(f"serial {port.device}", "ok" if allowed else "optional", found, cure)


def _microphone() -> Iterator[Check]:
    try:
        import sounddevice

        inputs = [
            device["name"] for device in sounddevice.query_devices() if device["max_input_channels"] > 0
        ]
    except (
        Exception
    ) as error:  # PortAudio has many ways to say no: absent library, absent server, absent device
        cure = "sudo apt install libportaudio2; listen --source clip.wav needs none"
        yield Check("microphone", "optional", " ".join(str(error).split()), cure)
        return
    cure = "" if inputs else "plug one in; listen --source clip.wav needs none"
    yield Check("microphone", "ok" if inputs else "optional", ", ".join(inputs) or "none", cure)


def _folders() -> Iterator[Check]:
    from platformdirs import user_cache_path

    places = {"cache folder": user_cache_path("earkit"), "current folder": Path.cwd()}
    for name, place in places.items():
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        writable = os.access(existing, os.W_OK | os.X_OK)
        cure = "" if writable else "change its mode, or set XDG_CACHE_HOME"
        if writable and free < FREE_BYTES:
            cure = f"free some space: {FREE_BYTES >> 20} MB are enough for every stage"
        found = f"{place}, {free >> 20:,} MB free" + ("" if writable else ", no permission to write")
        yield Check(name, "ok" if not cure else "missing", found, cure)


def _kept() -> Iterator[Check]:
    from quantize import cache

    places = [cache.folder() / name for name in ("teachers", "builds")]
    size = sum(map(_bytes, places)) >> 20
    where = " and ".join(map(str, places))
    found = f"{size:,} MB in {where}; can be removed at any time; ${cache.VARIABLE} names another place"
    yield Check("trained teachers", "ok", found)


def _bytes(folder: Path) -> int:
    """Return what the files below a folder take; those that vanish meanwhile take nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total


def _version() -> Iterator[Check]:
    try:
        yield Check("earkit", "ok", metadata.version("earkit"))
    except metadata.PackageNotFoundError:
        yield Check("earkit", "optional", "runs from a folder that is not installed", "pip install -e .")


LOOKS: tuple[Callable[[], Iterator[Check]], ...] = (
    _version,
    _python,
    _libraries,
    _toolchains,
    _emulators,
    _flashers,
    _extras,
    _serial,
    _microphone,
    _folders,
    _kept,
)
