"""A small arm64 Debian with Python, unpacked from its packages, that programs run in under qemu-user."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from boards import atomic
from quantize import cache

QEMU = "qemu-aarch64-static"
CPU = "cortex-a72"  # of a Raspberry Pi 4; qemu 7.2's `max` computes wrongly
PACKAGES = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1"),
    *("libstdc++6", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libuuid1"),
)
CPUINFO = (
    "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
)


def root() -> Path:
    """Return the folder with the system, which is made once and kept; skip where that is impossible."""
    for program in (QEMU, "apt-get", "dpkg"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    place = cache.folder() / "arm64-bookworm"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing_folder(place) as folder:
            try:
                _make(folder)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"needs Debian's arm64 packages: {error.stderr.decode(errors='replace')[-200:]}")
    return place


def python(place: Path) -> list[str]:
    """Return the command that is the system's Python."""
    return [QEMU, "-cpu", CPU, "-L", str(place), str(place / "usr/bin/python3.11")]


def _make(folder: Path) -> None:
    apt, packages = folder / "apt", folder / "packages"
    for part in ("state/lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True)
    (apt / "status").touch()
    packages.mkdir()
    settings = {
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
    }
    command = ["apt-get", "-qq", *(part for key in settings for part in ("-o", f"{key}={settings[key]}"))]
    subprocess.run([*command, "update"], check=True, capture_output=True)
    subprocess.run([*command, "download", *PACKAGES], check=True, capture_output=True, cwd=packages)
    for package in packages.iterdir():
        subprocess.run(["dpkg", "-x", package, folder], check=True, capture_output=True)
    shutil.rmtree(apt)
    shutil.rmtree(packages)
    cpus = folder / "sys/devices/system/cpu"  # LiteRT reads these, and falls over those of the host
    cpus.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (cpus / name).write_text("0-3\n")
    (folder / "proc").mkdir()
    (folder / "proc/cpuinfo").write_text("".join(map(CPUINFO.format, range(4))))
