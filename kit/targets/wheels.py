"""The wheels that the runner needs on another machine, fetched here for there by pip, and kept."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from boards import atomic
from boards.errors import UserError
from kit.targets.probe import Probe
from quantize import cache

NUMPY = ("numpy",)
LITERT = (("ai-edge-litert",), ("tflite-runtime",))  # the second where there is no first
BESIDE = ("paho-mqtt>=2,<3", "websockets>=13")
OLDEST_GLIBC = 17  # of 2.17, manylinux2014
PLATFORMS = {"x86_64": "x86_64", "aarch64": "aarch64", "armv7": "armv7l"}
LEFT_OUT = re.compile(r"(^|/)tests?/|\.pyi$|/include/|\.a$|WebGpuAccelerator")  # of what wheels hold
PATIENCE = 900.0  # seconds
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
OFFLINE = re.compile(
    r"Failed to establish|Temporary failure|Retrying|timed out|No route|unreachable|SSLError"
)


@dataclass(frozen=True)
class Wheels:
    """Wheel files for a machine; `litert` tells whether LiteRT is among them or there is none for it."""

    paths: tuple[Path, ...]
    litert: bool

    def files(self) -> dict[str, bytes]:
        """Return what is unpacked to `site` there, by name; UserError: one is damaged, and forgotten."""
        found = {}
        for path in self.paths:
            try:
                with zipfile.ZipFile(path) as wheel:
                    for entry in wheel.infolist():
                        if not entry.is_dir() and not LEFT_OUT.search(entry.filename):
                            found[f"site/{entry.filename}"] = wheel.read(entry)
            except DAMAGED as error:
                shutil.rmtree(path.parent)
                raise UserError(
                    f"{path.name} was damaged ({error}) and is removed: the same command fetches it anew"
                ) from None
        return found


def resolve(probe: Probe) -> Wheels:
    """Return the wheels for a machine: from the cache, else from the package index.

    Raises:
        UserError: there is no network, no pip, or no numpy for that machine.
    """
    if probe.python is None or probe.glibc is None:
        raise UserError(
            f"{probe.host} has no glibc, which numpy and LiteRT need: use Debian or Raspberry Pi OS there"
        )
    usual = _fetched((*NUMPY, *LITERT[0], *BESIDE), probe)
    if usual is not None:
        return Wheels(usual, litert=True)
    beside = _fetched(BESIDE, probe)
    if beside is None:
        raise UserError(
            f"no wheels of {' and '.join(BESIDE)} for {_of(probe)}: a newer Python is needed there"
        )
    numpy = _fetched(NUMPY, probe)
    if numpy is None and not probe.numpy:
        raise UserError(f"no wheel of numpy for {_of(probe)}: sudo apt install python3-numpy on {probe.host}")
    for names in LITERT:
        litert = _fetched(names, probe)
        if litert is not None and not (numpy is None and names == LITERT[0]):
            return Wheels((*(numpy or ()), *litert, *beside), litert=True)
    return Wheels((*(numpy or ()), *beside), litert=False)


def _of(probe: Probe) -> str:
    assert probe.python is not None
    return f"{probe.machine} and Python {'.'.join(map(str, probe.python))}"


def _fetched(names: Sequence[str], probe: Probe) -> tuple[Path, ...] | None:
    """Return the wheels of `names`, None if there are none for that machine."""
    arguments = [*_for(probe), *names]
    key = hashlib.sha256(" ".join(arguments).encode()).hexdigest()[:16]
    place = cache.place("wheels") / key
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing_folder(place) as folder:
            said = _pip(["download", "-q", "--retries", "2", "--no-deps", "-d", str(folder), *arguments])
            if said is not None and OFFLINE.search(said):
                raise UserError(
                    f"no network to fetch {', '.join(names)} for {_of(probe)}: connect once (all is "
                    f"kept), or set PIP_FIND_LINKS to a folder with the wheels"
                )
            if said is not None and "No matching distribution" not in said:
                raise UserError(f"pip cannot fetch {', '.join(names)} ({said[-160:]}): run it by hand to see")
    found = tuple(sorted(place.glob("*.whl")))
    if not found:
        place.rmdir()  # there may be one tomorrow
    return found or None


def _for(probe: Probe) -> list[str]:
    """Return pip's arguments that mean the machine: every C library up to its own, its Python."""
    assert probe.python is not None
    assert probe.glibc is not None
    cpu = PLATFORMS[probe.machine]
    newest = probe.glibc[1] if probe.glibc[0] == 2 else OLDEST_GLIBC
    tags = [f"manylinux_2_{minor}_{cpu}" for minor in range(newest, OLDEST_GLIBC - 1, -1)]
    platforms = [part for tag in (*tags, f"manylinux2014_{cpu}") for part in ("--platform", tag)]
    version = ".".join(map(str, probe.python))
    return ["--only-binary=:all:", "--implementation", "cp", "--python-version", version, *platforms]


def _pip(arguments: Sequence[str]) -> str | None:
    """Run pip; return what it said when it failed, None when it did not.

    Raises:
        UserError: there is none, or it takes too long.
    """
    for program in _pips():
        try:
            done = subprocess.run(
                [*program, "--disable-pip-version-check", *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"pip did not end within {PATIENCE:.0f} s: is the network very slow?") from None
        said = " ".join((done.stderr + done.stdout).decode("utf-8", "replace").split())
        if "No module named pip" not in said:
            return said if done.returncode else None
    raise UserError(
        "pip is needed to fetch wheels for the other machine: python3 -m ensurepip, or apt install"
    )


def _pips() -> list[list[str]]:
    """Return ways to call pip: of this Python, of the one that made its environment, of PATH."""
    base = f"{sys.base_prefix}/bin/python{sys.version_info[0]}"
    found = [[python, "-m", "pip"] for python in (sys.executable, base) if shutil.which(python)]
    return [*found, *([path] for path in map(shutil.which, ("pip3", "pip")) if path)]
