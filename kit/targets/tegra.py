"""What a Jetson says of itself: tegrastats (memory, load, heat, power), nvpmodel, jetson_clocks."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import numpy as np

MEMORY = re.compile(r"\bRAM (\d{1,9})/(\d{1,9})MB")
LOAD = re.compile(r"\bGR3D_FREQ (\d{1,3})%(?:@\[?(\d+))?")
HEAT = re.compile(r"\b([A-Za-z][\w-]*)@(-?\d{1,3}(?:\.\d+)?)C\b")
POWER = re.compile(r"\b((?:VDD|VIN|POM)_\w+) (\d{1,9})(?:mW)?/\d+")
WHOLE = ("VDD_IN", "POM_5V_IN", "VIN_SYS_5V0")  # the rail that feeds the module, in the order to take it
OFF = -256.0  # degrees, of a sensor that sleeps
CLOCK = re.compile(r"(?m)^(\w+):? .*?\bCurrentFreq=(\d{1,15})\b")


def stats(text: str) -> dict[str, Any]:
    """Return what the lines of tegrastats say: medians and extremes over them; None for what they do not."""
    lines = [line for line in text.splitlines() if MEMORY.search(line)]
    memory = [(int(m[1]), int(m[2])) for line in lines if (m := MEMORY.search(line))]
    load = [int(m[1]) for line in lines if (m := LOAD.search(line))]
    heat, power = defaultdict[str, list[float]](list), defaultdict[str, list[int]](list)
    for line in lines:
        for name, degrees in HEAT.findall(line):
            if float(degrees) > OFF:
                heat[name.lower()].append(float(degrees))
        for rail, now in POWER.findall(line):
            power[rail].append(int(now))
    whole = next((rail for rail in WHOLE if rail in power), None)
    return {
        "samples": len(lines),
        "memory_bytes": max(used for used, _ in memory) << 20 if memory else None,
        "memory_total_bytes": memory[0][1] << 20 if memory else None,
        "gpu_load_percent": float(np.median(load)) if load else None,
        "celsius": {name: max(values) for name, values in sorted(heat.items())},
        "watts": {rail: float(np.mean(values)) / 1000 for rail, values in sorted(power.items())},
        "whole": whole,
    }


def state(said: dict[str, str | None]) -> dict[str, Any]:
    """Return power mode, clocks in MHz, release and module from what the device's programs say."""
    mode = re.search(r"NV Power Mode: *(.+)", said.get("nvpmodel") or "")
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", said.get("release") or "")
    clocks = CLOCK.findall(said.get("jetson_clocks") or "")  # a CPU's are kHz, the others' Hz
    module = (said.get("module") or "").strip("\0\n ")
    return {
        "power_mode": mode[1].strip() if mode else None,
        "megahertz": {
            name: round(int(value) / (1e3 if name.startswith("cpu") else 1e6)) for name, value in clocks
        },
        "l4t": f"{release[1]}.{release[2]}" if release else None,
        "module": module or None,
    }
