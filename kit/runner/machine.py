"""What may slow a Linux machine: its clocks, who governs them, its temperature, throttling."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

THROTTLED = {  # bits of the Raspberry Pi's firmware → what they say
    0: "under-voltage now",
    1: "clock capped now",
    2: "throttled now",
    3: "soft temperature limit now",
    16: "under-voltage since it started",
    17: "clock capped since it started",
    18: "throttled since it started",
    19: "soft temperature limit since it started",
}


def state(root: Path = Path("/")) -> dict[str, Any]:
    """Return what the machine is and how it fares: in MHz and °C; None where it does not tell."""
    policies = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq"))
    return {
        "model": model(root),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "governor": sorted({_text(one / "scaling_governor") or "" for one in policies} - {""}),
        "mhz": [mhz for mhz in (_thousandth(one / "scaling_cur_freq") for one in policies) if mhz],
        "most_mhz": [mhz for mhz in (_thousandth(one / "cpuinfo_max_freq") for one in policies) if mhz],
        "celsius": max((t for t in map(_thousandth, _zones(root)) if t and 0 < t < 150), default=None),
        "throttled": throttled(root),
        "load": os.getloadavg()[0],
    }


def model(root: Path = Path("/")) -> str:
    """Return the machine's name, else its processor's."""
    tree = _text(root / "proc/device-tree/model")
    if tree:
        return tree
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def throttled(root: Path = Path("/")) -> list[str] | None:
    """Return what a Raspberry Pi was throttled for, nothing if it was not; None on another machine."""
    said = _text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    if said is None:
        program = shutil.which("vcgencmd")
        if program is None:
            return None
        try:
            done = subprocess.run([program, "get_throttled"], capture_output=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return None
        said = done.stdout.decode("ascii", "replace").partition("=")[2]
    try:
        bits = int(said, 16)
    except ValueError:
        return None
    return [words for bit, words in THROTTLED.items() if bits >> bit & 1]


def complaints(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return what is to be said of a measurement between two states."""
    said = [f"the machine was slowed: {words}" for words in after["throttled"] or () if words.endswith("now")]
    governors = [name for name in after["governor"] if name not in ("performance", "schedutil")]
    if governors:
        said.append(f"the clock is governed by {', '.join(governors)}: `performance` gives steadier times")
    if before["load"] > 0.5 * after["cores"]:
        said.append(f"other work ran beside it: a load of {before['load']:.1f} on {after['cores']} cores")
    return said


def _zones(root: Path) -> list[Path]:
    return sorted(root.glob("sys/class/thermal/thermal_zone*/temp"))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _thousandth(path: Path) -> float | None:
    try:
        return int(_text(path) or "") / 1000
    except (ValueError, OverflowError):
        return None
